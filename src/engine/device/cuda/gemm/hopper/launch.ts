/** One launch of gemm_wgmma: pure, from a call and a variant. */
import { DTYPE_BYTES, type TensorView } from '../../../../device.ts';
import type { GemmCall } from '../../../../kernels/calls.ts';
import { rangeWord } from '../../../../plan/stepMeta.ts';
import {
  TYPE_MACRO,
  type CudaLaunch,
  type CudaModule,
  type CudaTarget,
  type TensorMapSpec,
} from '../../launch.ts';
import { MOST_UNITS } from './schedule.ts';
import {
  STEP,
  clusterOf,
  sharedBytesOf,
  threadsOf,
  variantName,
  weightsOf,
  type HopperVariant,
} from './variant.ts';

/** Tokens whose tiles take turns before the next weights: their operand should stay in L2. */
const TOKENS_IN_L2 = 2048;

export function hopperLaunch(call: GemmCall, given: HopperVariant, target: CudaTarget): CudaLaunch {
  const { a, w, out, bias, workgroups = target.cuda.multiprocessors } = call;
  const variant = fitBudget(given, workgroups);
  const silu = call.epilogue === 'silu_mul';
  const [N, K] = w.shape;
  const columns = silu ? N / 2 : N;
  const capacity = Math.min(a.shape[0], out.shape.at(-2)!);
  const { tokens, clusterW, clusterT } = variant;
  const weights = weightsOf(variant);
  const cluster = clusterOf(variant);
  const ctas = Math.floor(workgroups / cluster) * cluster;
  const steps = Math.ceil(K / STEP);
  return {
    ...hopperModule(variant, {
      in: a.dtype,
      out: out.dtype,
      silu,
      add: call.add ?? false,
      bias: bias !== undefined,
    }),
    variant: `${a.dtype} ${variantName(variant)}${silu ? ' silu' : ''}${call.add ? ' add' : ''}`,
    args: [
      { map: silu ? gatedMap(w, weights / clusterT) : rowsMap(w, weights / clusterT) },
      { map: rowsMap(a, tokens / clusterW) },
      { pointer: call.meta },
      { u32: rangeWord(call.layout, call.range, call.rows) },
      { u32: capacity },
      { u32: columns },
      { u32: steps },
      { u32: Math.max(1, Math.floor(TOKENS_IN_L2 / (tokens * clusterT))) },
      { pointer: out },
      { u32: out.shape.at(-1)! },
      { u32: call.outColumn },
      { pointer: bias },
      { scratch: MOST_UNITS * ctas * weights * tokens * 4 },
      { counters: MOST_UNITS * ctas * variant.groups * 4 },
    ],
    ctas,
    threads: threadsOf(variant),
    cluster,
    sharedBytes: sharedBytesOf(variant, out.dtype === 'f32'),
    profiles: { records: unitsOf(variant, Math.min(capacity, call.maxRows), N, ctas / cluster) },
  };
}

/** Tiles and parts of tiles that a cluster has at most. */
function unitsOf(variant: HopperVariant, rows: number, N: number, clusters: number): number {
  const { tokens, clusterW, clusterT } = variant;
  const tiles = Math.ceil(N / (weightsOf(variant) * clusterW)) * Math.ceil(rows / (tokens * clusterT));
  return Math.ceil(tiles / clusters) + MOST_UNITS;
}

/** A budget smaller than a cluster: the same tiles without it. */
function fitBudget(variant: HopperVariant, workgroups: number): HopperVariant {
  return workgroups >= clusterOf(variant) ? variant : { ...variant, clusterW: 1, clusterT: 1 };
}

export interface HopperUse {
  in: 'bf16' | 'f16' | TensorView['dtype'];
  out: TensorView['dtype'];
  silu: boolean;
  add: boolean;
  bias: boolean;
}

export function hopperModule(variant: HopperVariant, use: HopperUse): CudaModule {
  const { tokens, groups, blocks, stages, clusterW, clusterT, resident, guest = false } = variant;
  return {
    source: 'gemm_wgmma',
    defines: {
      IN: TYPE_MACRO[use.in],
      OUT: TYPE_MACRO[use.out],
      SILU: use.silu,
      ADD: use.add,
      BIAS: use.bias,
      SPLIT: true,
      TOKENS: tokens,
      GROUPS: groups,
      BLOCKS: blocks,
      STAGES: stages,
      CLUSTER_W: clusterW,
      CLUSTER_T: clusterT,
      RESIDENT: resident,
      GUEST: guest,
    },
  };
}

/** Boxes of 64 elements of K of so many rows of a matrix. */
function rowsMap(view: TensorView, rows: number): TensorMapSpec {
  const [count, K] = view.shape;
  const bytes = DTYPE_BYTES[view.dtype];
  return { view, sizes: [K, count], strides: [K * bytes], box: [STEP, rows], swizzle: 128 };
}

/** The same of gate and up weights: boxes hold 8 gate rows, the 8 up rows that belong to them, and so on in turn. */
function gatedMap(view: TensorView, rows: number): TensorMapSpec {
  const [count, K] = view.shape;
  const row = K * DTYPE_BYTES[view.dtype];
  return {
    view,
    sizes: [K, 8, 2, count / 16],
    strides: [row, (count / 2) * row, 8 * row],
    box: [STEP, 8, 2, rows / 16],
    swizzle: 128,
  };
}
