/**
 * attention: paged attention over the work items of one tile size. WGSL files for one operation:
 *   attention_lanes  few query rows on a GPU with subgroups: keeps the memory busy; software adapters, without barriers
 *   attention_stream few query rows and few workgroups: loads one step ahead, across items
 *   attention_matrix f16 on subgroup matrices: many query rows, and few rows where no shuffles may be used
 *   attention_tile   many query rows on a GPU, and few rows on a GPU without subgroups: workgroup memory
 */
import type { DeviceTarget, DType } from '../device.ts';
import { attentionSection } from '../plan/stepMeta.ts';
import { matrixFits, matrixVariant } from './attentionMatrix.ts';
import type { AttentionCall } from './calls.ts';
import type { KernelDefinition, Launch } from './definition.ts';
import { twin } from './attentionTwin.ts';
import type { Variant } from './variants.ts';

/** What the choice depends on. */
export interface AttentionShape {
  tile: 16 | 128;
  headDim: number;
  group: number; // query heads for each KV head
  workgroups: number; // budget of the dispatch
  kvType: DType;
  qType?: DType; // default: kvType
  /** Workgroup size that is wanted (CallBase.invocations); followed as far as lanes and workgroup memory allow. */
  invocations?: number;
}

export interface AttentionVariant {
  shader: 'attention_lanes' | 'attention_stream' | 'attention_matrix' | 'attention_tile';
  defines: Record<string, number | boolean>;
}

const MAX_HEAD_DIM = 256;
/** Workgroup memory that every device has; more would cost resident workgroups. */
const WORKGROUP_BYTES = 16384;

/** Smallest power of two >= n. */
function powerOfTwo(n: number): number {
  return 2 ** Math.ceil(Math.log2(n));
}

/** Picks the shader and its constants from shape and target alone. */
export function choose(shape: AttentionShape, target: DeviceTarget): AttentionVariant {
  const { headDim, group, tile, kvType, workgroups } = shape;
  const invocations = shape.invocations && Math.min(shape.invocations, target.limits.maxInvocations);
  const width = headDim % 4 === 0 ? 4 : 2;
  const { subgroups } = target.features;
  const { min } = target.subgroupSize;
  if (target.software) {
    const lanes = subgroups ? Math.min(8, min) : 1;
    // 16-byte loads where every lane gets one.
    const kvWidth = kvType === 'f16' && headDim % 8 === 0 && headDim / 8 >= lanes ? 8 : width;
    const loads = Math.ceil(headDim / kvWidth / lanes);
    // Rows share the loads of a KV token; their queries and accumulators share the vector registers, and the driver's
    // compiler takes seconds when many of them are alive.
    const own = loads * kvWidth;
    const rows = Math.min(
      tile === 16 ? powerOfTwo(group) : 8,
      2 ** Math.max(0, Math.floor(Math.log2(32 / own))),
      8,
    );
    const slots = slotsFor(invocations ?? lanes, lanes, rows, headDim, target);
    const teamLanes = subgroups ? min : 1;
    return lanesVariant('attention_lanes', {
      width,
      kvWidth,
      lanes,
      slots,
      loads,
      rows,
      tokens: own > 8 ? 2 : 4,
      teamLanes,
    });
  }
  if (matrixFits(shape, target) && (tile === 128 || !subgroups)) return matrixVariant(shape);
  // f16 rows that divide by 8 are loaded 16 bytes at a time.
  const kvWidth = kvType === 'f16' && headDim % 8 === 0 ? 8 : width;
  const lanes = Math.min(powerOfTwo(headDim / kvWidth), min);
  const loads = Math.ceil(headDim / kvWidth / lanes);
  if (tile === 16 && subgroups && loads <= 2) {
    const rows = Math.min(powerOfTwo(group), 8);
    // Share of the copy bandwidth on an H100 (64 x 2048 tokens, 32/8 heads of 128) by workgroups and lanes x loads x
    // tokens; "+" issues the loads of a step while the step before is computed:
    //   32: 16x1x4 24 %, 8x2x4 35 %, 16x1x4+ 36 %, 8x2x2+ 40 %      64: 46, 64, 71, 73 (8x2x3+ 76)
    //   132: 80, 90, 97, 95 (97)                                    264: 100, 91, 98, 97 (16x1x2+ 103)
    if (loads === 1 && kvWidth === 8 && lanes >= 8 && rows <= 4 && headDim / 8 === lanes) {
      const few = workgroups < target.defaultWorkgroups;
      const team = few ? { lanes: lanes / 2, loads: 2, tokens: 3 } : { lanes, loads: 1, tokens: 2 };
      const slots = slotsFor(invocations ?? 256, team.lanes, rows, headDim, target);
      return lanesVariant('attention_stream', { width, kvWidth, rows, ...team, slots, teamLanes: min });
    }
    const tokens = rows * loads * kvWidth > 32 || loads > 1 ? 2 : 4;
    const small = (256 / lanes) * headDim * 4 > 12288 || workgroups >= 2 * target.defaultWorkgroups;
    const workgroupSize = invocations ?? (small ? 128 : 256);
    const slots = slotsFor(workgroupSize, lanes, rows, headDim, target);
    return lanesVariant('attention_lanes', {
      width,
      kvWidth,
      lanes,
      slots,
      loads,
      rows,
      tokens,
      teamLanes: min,
    });
  }
  // Dimensions of an invocation: 32, or 16 when its subgroup can hold the whole row; then it carries more rows.
  const narrow = powerOfTwo(Math.max(headDim / 16, 1));
  const shuffled = subgroups && narrow <= min;
  const wanted = shuffled ? narrow : powerOfTwo(Math.max(headDim / 32, 1));
  const rows = tile === 128 && shuffled ? 4 : 1;
  const ownSize = Math.min(256, Math.max(64, (tile / rows) * wanted));
  const workgroupSize = Math.max(1, Math.floor((invocations ?? ownSize) / wanted)) * wanted;
  const tokenBytes = 2 * headDim * 4 + (shuffled ? 0 : workgroupSize * rows * 4);
  const room = Math.floor(Math.min(WORKGROUP_BYTES, target.limits.maxWorkgroupBytes) / tokenBytes);
  const tokens = Math.max(1, Math.min(shuffled ? 16 : 4, room));
  return {
    shader: 'attention_tile',
    defines: {
      WIDTH: width,
      KV_WIDTH: width,
      WORKGROUP_SIZE: workgroupSize,
      SUBGROUPS: shuffled,
      LANES: wanted,
      STEPS: Math.log2(wanted),
      OWN: Math.ceil(headDim / width / wanted),
      ROWS: rows,
      TOKENS: tokens,
    },
  };
}

/** Slots of a workgroup of `invocations`: the slots of a subgroup have f32 rows and a softmax in workgroup memory. */
function slotsFor(
  invocations: number,
  lanes: number,
  rows: number,
  headDim: number,
  { limits, features, subgroupSize }: DeviceTarget,
): number {
  const together = features.subgroups ? Math.max(1, subgroupSize.min / lanes) : 1;
  const room = Math.floor(limits.maxWorkgroupBytes / (rows * (headDim + 2) * 4)) * together;
  return Math.max(1, Math.min(Math.floor(invocations / lanes), room));
}

function lanesVariant(
  shader: 'attention_lanes' | 'attention_stream',
  chosen: {
    width: number;
    kvWidth: number;
    lanes: number;
    slots: number;
    loads: number;
    rows: number;
    tokens: number;
    teamLanes: number; // invocations that surely are in one subgroup
  },
): AttentionVariant {
  const { lanes, slots } = chosen;
  // Slots that meet by shuffles: a power of two that divides them.
  let together = Math.max(1, chosen.teamLanes / lanes);
  while (slots % together !== 0) together /= 2;
  return {
    shader,
    defines: {
      WIDTH: chosen.width,
      KV_WIDTH: chosen.kvWidth,
      WORKGROUP_SIZE: lanes * slots,
      LANES: lanes,
      SUBGROUPS: lanes > 1 || together > 1,
      STEPS: Math.log2(lanes),
      PARTS: chosen.kvWidth === 8 ? 2 : 1,
      SLOTS: slots,
      SLOT_STEPS: Math.log2(together),
      TEAMS: slots / together,
      SHARED: slots > together,
      SPREAD_PAGES: slots === 1 && chosen.tokens <= lanes,
      LOADS: chosen.loads,
      ROWS: chosen.rows,
      TOKENS: chosen.tokens,
    },
  };
}

function launches(call: AttentionCall, target: DeviceTarget): Launch[] {
  const { tile, q, kCache, vCache, out, heads, kvHeads, headDim, pageSize, layout, slidingWindow } = call;
  check(call);
  const section = attentionSection(layout, call.slot);
  const group = heads / kvHeads;
  const workgroups =
    call.workgroups ?? Math.min(layout.capacity.attentionWorkgroups, target.limits.maxWorkgroups);
  const shape = {
    tile,
    headDim,
    group,
    kvType: kCache.dtype,
    qType: q.dtype,
    workgroups,
    invocations: call.invocations,
  };
  const { shader, defines } = choose(shape, target);
  const short = shader.slice('attention_'.length);
  return [
    {
      shader,
      variant: `${kCache.dtype} ${tile} rows d${headDim}x${group} page ${pageSize} (${short})`,
      defines: {
        ...defines,
        Q: q.dtype,
        KV: kCache.dtype,
        OUT: out.dtype,
        HEAD_DIM: headDim,
        GROUP: group,
        PAGE_SIZE: pageSize,
        TILE: tile,
        WINDOW: slidingWindow !== undefined,
      },
      bindings: [
        { view: call.meta, access: 'read' },
        { view: q, access: 'read' },
        { view: kCache, access: 'read' },
        { view: vCache, access: 'read' },
        { view: out, access: 'read_write' },
        { view: call.partialOut, access: 'read_write' },
        { view: call.partialLse, access: 'read_write' },
      ],
      params: [
        tile === 16 ? section.items16 : section.items128,
        tile === 16 ? section.workIndptr16 : section.workIndptr128,
        layout.pages,
        layout.capacity.attentionWorkgroups,
        heads,
        kvHeads,
        { f32: call.scale * Math.LOG2E },
        slidingWindow ?? 0,
      ],
      workgroups,
    },
  ];
}

function check({ label, heads, kvHeads, headDim, kCache, vCache }: AttentionCall): void {
  if (heads % kvHeads !== 0) {
    throw new Error(
      `call "${label}": got ${heads} heads for ${kvHeads} KV heads, expected a multiple; fix the config`,
    );
  }
  if (headDim % 2 !== 0 || headDim < 2 || headDim > MAX_HEAD_DIM) {
    throw new Error(
      `call "${label}": got head dimension ${headDim}, expected an even number up to ${MAX_HEAD_DIM}; this model is not supported`,
    );
  }
  if (kCache.dtype !== vCache.dtype) {
    throw new Error(
      `call "${label}": got ${kCache.dtype} keys and ${vCache.dtype} values, expected one type; store both alike`,
    );
  }
}

export const attention: KernelDefinition<'attention'> = { kernel: 'attention', launches, twin };

/** Targets and shapes whose choices reach every kind of variant. */
const TARGETS = [
  { software: true, subgroups: true, subgroupSize: { min: 8, max: 8 } },
  { software: true, subgroups: false, subgroupSize: { min: 8, max: 8 } },
  { software: false, subgroups: false, subgroupSize: { min: 4, max: 128 } },
  { software: false, subgroups: true, subgroupSize: { min: 32, max: 32 } },
  { software: false, subgroups: true, subgroupSize: { min: 8, max: 32 } },
];
const SHAPES = [
  { headDim: 8, group: 2, Q: 'f16', KV: 'f16', OUT: 'f16' },
  { headDim: 20, group: 1, Q: 'f32', KV: 'f32', OUT: 'f32' },
  { headDim: 30, group: 3, Q: 'f16', KV: 'f16', OUT: 'f16' },
  { headDim: 64, group: 4, Q: 'f32', KV: 'f16', OUT: 'f32' },
  { headDim: 128, group: 4, Q: 'f16', KV: 'f16', OUT: 'f16' },
  { headDim: 128, group: 1, Q: 'f32', KV: 'f32', OUT: 'f32' },
  { headDim: 256, group: 7, Q: 'f32', KV: 'f16', OUT: 'f16' },
  { headDim: 256, group: 7, Q: 'f32', KV: 'f32', OUT: 'f32' },
] as const;

const limits = { maxWorkgroupBytes: WORKGROUP_BYTES, maxInvocations: 256 } as DeviceTarget['limits'];

export const variantDefines: Variant[] = TARGETS.flatMap(({ software, subgroups, subgroupSize }) =>
  SHAPES.flatMap(({ headDim, group, Q, KV, OUT }) =>
    (
      [
        [16, 8],
        [16, 64],
        [128, 64],
      ] as const
    ).map(([tile, workgroups]) => {
      const target = {
        software,
        subgroupSize,
        features: { subgroups },
        limits,
        defaultWorkgroups: 64,
      } as DeviceTarget;
      const { shader, defines } = choose({ tile, headDim, group, kvType: KV, workgroups }, target);
      const shape = { Q, KV, OUT, HEAD_DIM: headDim, GROUP: group, PAGE_SIZE: 16, TILE: tile };
      return { shader, defines: { ...defines, ...shape, WINDOW: group === 4 } };
    }),
  ),
);
