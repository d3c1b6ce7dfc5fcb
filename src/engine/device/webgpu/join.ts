/**
 * Several kernels in one dispatch: whole WGSL files become one module, and a partition table in a uniform gives each of
 * them its own range of workgroups. Nothing in a kernel's file knows of it: a kernel is `run(group, groups, lane)`.
 *
 * A kernel that draws its work by ticket (Launch.dynamic) is run by every workgroup once its own part is done, so cores
 * that finish early help out. WebGPU has no grid-wide barrier: parts must not depend on each other.
 */
import type { DeviceTarget, TensorView } from '../../device.ts';
import type { Launch } from '../../kernels/definition.ts';
import { expandShader } from './shaders.ts';
import { renameModule } from './wgslNames.ts';

/** How the workgroups of the parts lie in the dispatch: one part after the other, or each spread over all of it. */
export type JoinLayout = 'blocks' | 'spread';

export interface JoinedLaunch {
  label: string; // "gemm_matrix 128x128x64 ... | attention_lanes ..."
  /** Everything that the module depends on. */
  key: string;
  code(): string;
  /** Uniform slots: the partition table, then the params of each part. */
  params: Launch['params'][];
  bindings: Launch['bindings'];
  workgroups: number;
}

export type Join = { joined: JoinedLaunch } | { reason: string };

/** The partition table holds this many parts; uniform buffers of one stage are limited to 12. */
const MOST_PARTS = 8;

/** One launch of the parts, or why they must run one after the other. Pure: no device is needed. */
export function joinLaunches(
  launches: readonly Launch[],
  target: Pick<DeviceTarget, 'limits'>,
  layout: JoinLayout = 'blocks',
): Join {
  if (launches.length > MOST_PARTS) return { reason: `${launches.length} parts, at most ${MOST_PARTS} fit` };
  const sizes = new Set(launches.map(({ defines }) => defines.WORKGROUP_SIZE));
  if (sizes.size > 1) return { reason: `workgroups of ${[...sizes].join(' and ')} invocations` };
  const conflict = sharedBuffer(launches);
  if (conflict) return { reason: conflict };
  const slots = bindingSlots(launches);
  if (slots.bindings.length > target.limits.maxStorageBuffers) {
    return {
      reason: `${slots.bindings.length} storage buffers, the device binds ${target.limits.maxStorageBuffers}`,
    };
  }
  const workgroups = launches.reduce((sum, launch) => sum + launch.workgroups, 0);
  if (workgroups > target.limits.maxWorkgroups) {
    return { reason: `${workgroups} workgroups, the device takes ${target.limits.maxWorkgroups}` };
  }
  const identity = launches.map(({ shader, defines }, part) => [shader, sorted(defines), slots.at[part]]);
  return {
    joined: {
      label: launches.map(({ shader, variant }) => `${shader} ${variant}`.trim()).join(' | '),
      key: JSON.stringify(['joined', layout, launches.map(({ dynamic }) => dynamic ?? false), identity]),
      code: () => joinedModule(launches, slots.at, layout),
      params: [partitionTable(launches), ...launches.map(({ params }) => params)],
      bindings: slots.bindings,
      workgroups,
    },
  };
}

function sorted(defines: Launch['defines']): [string, unknown][] {
  return Object.entries(defines).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** [first, count] of each part; `spread` uses the counts alone. */
function partitionTable(launches: readonly Launch[]): number[] {
  let first = 0;
  return launches.flatMap(({ workgroups }) => {
    first += workgroups;
    return [first - workgroups, workgroups];
  });
}

/** WebGPU binds a buffer in one dispatch for reading or for writing, and for writing without overlap. */
function sharedBuffer(launches: readonly Launch[]): string | undefined {
  const seen = new Map<object, { part: number; access: string }>();
  for (const [part, { bindings }] of launches.entries()) {
    for (const { view, access } of bindings) {
      const other = seen.get(view.buffer);
      if (other && other.part !== part && (access === 'read_write' || other.access === 'read_write')) {
        // Two writers of different parts of a buffer would be allowed; none of our kernels does that, tickets aside.
        if (!(access === other.access && access === 'read_write' && apart(launches, view))) {
          return `"${view.buffer.label}" is written by one part and used by another`;
        }
      }
      if (!other || access === 'read_write') seen.set(view.buffer, { part, access });
    }
  }
  return undefined;
}

/** Whether no two bindings of this view's buffer overlap. */
function apart(launches: readonly Launch[], { buffer }: TensorView): boolean {
  const ranges = launches
    .flatMap(({ bindings }) => bindings)
    .filter(({ view }) => view.buffer === buffer)
    .map(({ view }) => [view.offset, view.offset + view.shape.reduce((a, b) => a * b, 4)])
    .sort((a, b) => a[0] - b[0]);
  return ranges.every(([start], i) => i === 0 || ranges[i - 1][1] <= start);
}

/** Where each part's bindings go. Equal views that are only read share a binding when they are declared alike. */
function bindingSlots(launches: readonly Launch[]): { bindings: Launch['bindings']; at: number[][] } {
  const bindings: Launch['bindings'] = [];
  const known = new Map<string, number>();
  const ids = new Map<object, number>();
  const at = launches.map((launch) => {
    const types = launch.bindings.some(({ access }) => access === 'read') ? declaredTypes(launch) : [];
    return launch.bindings.map((binding, index) => {
      const { view, access } = binding;
      if (!ids.has(view.buffer)) ids.set(view.buffer, ids.size);
      const key = [ids.get(view.buffer), view.offset, view.shape.join('x'), types[index]].join();
      const shared = access === 'read' && types[index] !== undefined ? known.get(key) : undefined;
      if (shared !== undefined) return shared;
      if (access === 'read') known.set(key, bindings.length);
      bindings.push(binding);
      return bindings.length - 1;
    });
  });
  return { bindings, at };
}

/** A kernel's text without comments, which hold examples of declarations. */
function bare(shader: string, defines: Launch['defines']): string {
  return expandShader(shader, defines).replace(/\/\/[^\n]*/g, '');
}

const BINDING = /@group\(0\)\s*@binding\((\d+)\)\s*var<([^>]*)>\s*(\w+)\s*:\s*([^;]+);/g;

/** Types of a kernel's storage bindings as they are written, by binding; types of its own are not comparable. */
function declaredTypes({ shader, defines }: Launch): (string | undefined)[] {
  const types: (string | undefined)[] = [];
  for (const [, binding, , , type] of bare(shader, defines).matchAll(BINDING)) {
    const plain = type.replace(/\s+/g, '');
    types[Number(binding) - 1] = /^array<(u32|f32|vec[24]<[uf]32>)>$/.test(plain) ? plain : undefined;
  }
  return types;
}

const DIRECTIVE = /^\s*(?:enable|requires|diagnostic)\b[^;]*;/gm;
const ENTRY = /@compute\s+@workgroup_size\([^)]*\)\s*fn\s+main\s*\([\s\S]*?\)\s*\{[\s\S]*?\n\}/;
const SHARED = /var<workgroup>\s+(\w+)\s*:\s*array<((?:vec[234]<)?[uif]32>?)\s*,\s*([^;]+)>\s*;/g;

function joinedModule(
  launches: readonly Launch[],
  slots: readonly (readonly number[])[],
  layout: JoinLayout,
): string {
  const directives = new Set<string>();
  const shared = new Map<string, { lengths: string[] }>();
  const declared = new Map<number, string>(); // binding slot -> name of its variable
  const firstStorage = launches.length + 1;
  let subgroups = false;
  const parts = launches.map(({ shader, defines }, part) => {
    const source = bare(shader, defines).replace(DIRECTIVE, (text) => {
      directives.add(text.trim());
      return '';
    });
    if (!ENTRY.test(source)) throw new Error(`shaders/${shader}.wgsl has no entry point as in lib/main.wgsl`);
    const aliases = new Map<string, string>();
    let code = renameModule(source.replace(ENTRY, ''), (name) => `p${part}_${name}`);
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
    // Parts never share a workgroup, so their arrays of one type can share memory: the first of each part, the second...
    const count = new Map<string, number>();
    code = code.replace(SHARED, (_, name: string, type: string, length: string) => {
      const nth = count.get(type) ?? 0;
      count.set(type, nth + 1);
      const pool = `shared_${type.replace(/\W+/g, '')}_${nth}`;
      aliases.set(name, pool);
      const entry = shared.get(pool) ?? { lengths: [] };
      shared.set(pool, entry);
      entry.lengths.push(length);
      entry.lengths.push(type);
      return '';
    });
    if (aliases.size > 0) {
      code = code.replace(/\b\w+\b/g, (word) => aliases.get(word) ?? word);
    }
    const inSubgroups = /\bvar<private>\s+p\d+_subgroup_lanes\b/.test(code);
    subgroups ||= inSubgroups;
    return { code, inSubgroups };
  });
  const pools = [...shared].map(([pool, { lengths }]) => {
    const sizes = lengths.filter((_, i) => i % 2 === 0);
    const length = sizes.reduce((largest, size) => (largest ? `max(${largest}, ${size})` : size), '');
    return `var<workgroup> ${pool}: array<${lengths[1]}, ${length}>;`;
  });
  const facts = parts.flatMap(({ inSubgroups }, part) =>
    inSubgroups
      ? [`  p${part}_subgroup_lane = lane_in_subgroup;`, `  p${part}_subgroup_lanes = lanes_in_subgroup;`]
      : [],
  );
  const dynamic = launches.flatMap((launch, part) => (launch.dynamic ? [part] : []));
  const fixed = launches.flatMap((launch, part) => (launch.dynamic ? [] : [part]));
  return [
    ...directives,
    `@group(0) @binding(0) var<uniform> join_table: array<vec4<u32>, ${MOST_PARTS / 2}>;`,
    ...parts.map(({ code }, part) => `// Part ${part}: ${launches[part].shader}\n${code}`),
    ...pools,
    ...(layout === 'spread' ? [SPREAD] : []),
    `@compute @workgroup_size(${launches[0].defines.WORKGROUP_SIZE})`,
    'fn main(',
    '  @builtin(workgroup_id) workgroup: vec3<u32>,',
    '  @builtin(local_invocation_index) lane: u32,',
    ...(subgroups
      ? [
          '  @builtin(subgroup_invocation_id) lane_in_subgroup: u32,',
          '  @builtin(subgroup_size) lanes_in_subgroup: u32,',
        ]
      : []),
    ') {',
    ...facts,
    ...(layout === 'spread'
      ? [`  let place = spread_place(workgroup.x, ${launches.length}u);`]
      : fixed.length > 0
        ? ['  let group = workgroup.x;']
        : []),
    ...fixed.map((part) => {
      const pair = `join_table[${part >> 1}].${part % 2 === 0 ? 'xy' : 'zw'}`;
      return layout === 'spread'
        ? `  if (place.x == ${part}u) { p${part}_run(place.y, ${pair}.y, lane); }`
        : `  if (group >= ${pair}.x && group < ${pair}.x + ${pair}.y) { p${part}_run(group - ${pair}.x, ${pair}.y, lane); }`;
    }),
    ...dynamic.map((part) => `  p${part}_run(0u, 1u, lane);`),
    '}',
    '',
  ].join('\n');
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
