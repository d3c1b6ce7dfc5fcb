/**
 * The text of a joined module: each part is a kernel's whole file, its own names prefixed (p0_, p1_, ...), its bindings
 * renumbered, its entry point left out; one entry point at the end branches on the workgroup.
 */
import type { Launch } from '../../kernels/definition.ts';
import { expandShader } from './shaders.ts';
import { sharedVariables, type SharedVariable } from './wgslConstants.ts';
import { renameModule } from './wgslNames.ts';

/** How the workgroups of the parts lie in the dispatch: one part after the other, or each spread over all of it. */
export type JoinLayout = 'blocks' | 'spread';

/** The partition table holds this many parts; uniform buffers of one stage are limited to 12. */
export const MOST_PARTS = 8;

/** What joining must know of a kernel's file. */
interface KernelText {
  /** Without comments, directives and entry point. */
  body: string;
  directives: string[];
  /** Types of the storage bindings as they are written, by binding; types of the kernel's own are undefined. */
  types: (string | undefined)[];
  shared: SharedVariable[];
}

const BINDING = /@group\(0\)\s*@binding\((\d+)\)\s*var<([^>]*)>\s*(\w+)\s*:\s*([^;]+);/g;
const DIRECTIVE = /^\s*(?:enable|requires|diagnostic)\b[^;]*;/gm;
const ENTRY = /@compute\s+@workgroup_size\([^)]*\)\s*fn\s+main\s*\([\s\S]*?\)\s*\{[\s\S]*?\n\}/;
const SHARED = /var<workgroup>\s+(\w+)\s*:\s*[^;]+;/g;
const COMPARABLE = /^array<(u32|f32|vec[24]<[uf]32>)>$/;

/** Programs join the same few kernels for every layer. */
const texts = new Map<string, KernelText>();

/** Everything that a kernel's text depends on. */
export function kernelKey({ shader, defines }: Pick<Launch, 'shader' | 'defines'>): string {
  return JSON.stringify([shader, Object.entries(defines).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

export function kernelText({ shader, defines }: Pick<Launch, 'shader' | 'defines'>): KernelText {
  const key = kernelKey({ shader, defines });
  let text = texts.get(key);
  if (text) return text;
  // Comments hold examples of declarations.
  const source = expandShader(shader, defines).replace(/\/\/[^\n]*/g, '');
  if (!ENTRY.test(source)) throw new Error(`shaders/${shader}.wgsl has no entry point as in lib/main.wgsl`);
  const directives: string[] = [];
  const body = source
    .replace(DIRECTIVE, (directive) => {
      directives.push(directive.trim());
      return '';
    })
    .replace(ENTRY, '');
  const types: (string | undefined)[] = [];
  for (const [, binding, , , type] of body.matchAll(BINDING)) {
    const plain = type.replace(/\s+/g, '');
    types[Number(binding) - 1] = COMPARABLE.test(plain) ? plain : undefined;
  }
  text = { body, directives, types, shared: sharedVariables(body) };
  texts.set(key, text);
  return text;
}

/** An array in workgroup memory that the parts take turns with. */
interface Pool {
  name: string;
  type: string;
  /** Of each part that has a share in it. */
  lengths: string[];
  bytes: number;
}

/**
 * Parts never run at the same time in one workgroup, so their arrays of one type share memory: the first of each part,
 * the second of each part, ... `names` gives the pool of a part's variable.
 */
function pools(parts: readonly KernelText[]): { pools: Pool[]; names: Map<string, string>[] } {
  const all = new Map<string, Pool>();
  const names = parts.map(({ shared }, part) => {
    const count = new Map<string, number>();
    return new Map(
      shared.flatMap(({ name, type, length, bytes }): [string, string][] => {
        if (length === undefined || type.startsWith('atomic')) return [];
        const nth = count.get(type) ?? 0;
        count.set(type, nth + 1);
        const poolName = `shared_${type.replace(/\W+/g, '')}_${nth}`;
        const pool = all.get(poolName) ?? { name: poolName, type, lengths: [], bytes: 0 };
        // The lengths are the parts' own constant expressions.
        pool.lengths.push(length.replace(/\b[A-Za-z_]\w*\b(?!\s*\()/g, (word) => `p${part}_${word}`));
        pool.bytes = Math.max(pool.bytes, bytes);
        all.set(poolName, pool);
        return [[name, poolName]];
      }),
    );
  });
  return { pools: [...all.values()], names };
}

/** Bytes of workgroup memory of a module of these kernels; NaN when a type's size is not known. */
export function joinedWorkgroupBytes(launches: readonly Pick<Launch, 'shader' | 'defines'>[]): number {
  const parts = launches.map(kernelText);
  const { pools: pooled, names } = pools(parts);
  const own = parts.flatMap(({ shared }, part) => shared.filter(({ name }) => !names[part].has(name)));
  return [...pooled, ...own].reduce((sum, { bytes }) => sum + Math.ceil(bytes / 16) * 16, 0);
}

/** @param slots where each part's storage bindings go, counted from the first one of the module */
export function joinedModule(
  launches: readonly Launch[],
  slots: readonly (readonly number[])[],
  layout: JoinLayout,
): string {
  const parts = launches.map(kernelText);
  const { pools: pooled, names } = pools(parts);
  const declared = new Map<number, string>(); // binding slot -> name of its variable
  const firstStorage = launches.length + 1;
  const codes = parts.map(({ body }, part) => {
    const aliases = new Map([...names[part]].map(([name, pool]) => [`p${part}_${name}`, pool]));
    let code = renameModule(body, (name) => `p${part}_${name}`);
    code = code.replace(BINDING, (_, binding: string, space: string, name: string, type: string) => {
      if (binding === '0') return `@group(0) @binding(${part + 1}) var<${space}> ${name}: ${type};`;
      const slot = slots[part][Number(binding) - 1];
      const known = declared.get(slot);
      if (known) {
        aliases.set(name, known);
        return '';
      }
      declared.set(slot, name);
      return `@group(0) @binding(${firstStorage + slot}) var<${space}> ${name}: ${type};`;
    });
    code = code.replace(SHARED, (text, name: string) => (aliases.has(name) ? '' : text));
    return code.replace(/\b\w+\b/g, (word) => aliases.get(word) ?? word);
  });
  return [
    ...new Set(parts.flatMap(({ directives }) => directives)),
    `@group(0) @binding(0) var<uniform> join_table: array<vec4<u32>, ${MOST_PARTS / 2}>;`,
    ...codes.map((code, part) => `// Part ${part}: ${launches[part].shader}\n${code}`),
    ...pooled.map(({ name, type, lengths }) => {
      const length = lengths.reduce((largest, size) => `max(${largest}, ${size})`);
      return `var<workgroup> ${name}: array<${type}, ${length}>;`;
    }),
    ...(layout === 'spread' ? [SPREAD] : []),
    ...entryPoint(launches, layout, subgroupParts(codes)),
    '',
  ].join('\n');
}

/** Parts that want to know the subgroup (lib/main_subgroups.wgsl). */
function subgroupParts(codes: readonly string[]): number[] {
  return codes.flatMap((code, part) => (/\bvar<private>\s+p\d+_subgroup_lanes\b/.test(code) ? [part] : []));
}

/** The branches depend on the workgroup alone, so parts may have barriers. */
function entryPoint(
  launches: readonly Launch[],
  layout: JoinLayout,
  inSubgroups: readonly number[],
): string[] {
  const dynamic = launches.flatMap((launch, part) => (launch.dynamic ? [part] : []));
  const fixed = launches.flatMap((launch, part) => (launch.dynamic ? [] : [part]));
  const place =
    layout === 'spread'
      ? [`  let place = spread_place(workgroup.x, ${launches.length}u);`]
      : fixed.length > 0
        ? ['  let group = workgroup.x;']
        : [];
  return [
    `@compute @workgroup_size(${launches[0].defines.WORKGROUP_SIZE})`,
    'fn main(',
    '  @builtin(workgroup_id) workgroup: vec3<u32>,',
    '  @builtin(local_invocation_index) lane: u32,',
    ...(inSubgroups.length > 0
      ? [
          '  @builtin(subgroup_invocation_id) lane_in_subgroup: u32,',
          '  @builtin(subgroup_size) lanes_in_subgroup: u32,',
        ]
      : []),
    ') {',
    ...inSubgroups.flatMap((part) => [
      `  p${part}_subgroup_lane = lane_in_subgroup;`,
      `  p${part}_subgroup_lanes = lanes_in_subgroup;`,
    ]),
    ...place,
    ...fixed.map((part) => {
      const pair = `join_table[${part >> 1}].${part % 2 === 0 ? 'xy' : 'zw'}`;
      return layout === 'spread'
        ? `  if (place.x == ${part}u) { p${part}_run(place.y, ${pair}.y, lane); }`
        : `  if (group >= ${pair}.x && group < ${pair}.x + ${pair}.y) { p${part}_run(group - ${pair}.x, ${pair}.y, lane); }`;
    }),
    ...dynamic.map((part) => `  p${part}_run(0u, 1u, lane);`),
    '}',
  ];
}

/** Which part a workgroup belongs to and its number there, when the workgroups of each part lie evenly in all. */
const SPREAD = `
fn spread_place(workgroup: u32, parts: u32) -> vec2<u32> {
  var left = 0u;
  for (var part = 0u; part < parts; part++) {
    left += join_table[part / 2u][part % 2u * 2u + 1u];
  }
  var at = workgroup;
  for (var part = 0u; part < parts; part++) {
    let count = join_table[part / 2u][part % 2u * 2u + 1u];
    let before = at * count / left;
    if ((at + 1u) * count / left > before) {
      return vec2(part, before);
    }
    at -= before;
    left -= count;
  }
  return vec2(parts, 0u);
}`;
