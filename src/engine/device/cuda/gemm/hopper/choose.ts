/**
 * Which variant of gemm_wgmma a product gets: the one with the shortest estimated time. Rates were measured on an
 * NVIDIA H100 (random bf16 operands, products back to back); only their ratios matter.
 */
import { scheduleOf } from './schedule.ts';
import { PLAIN_VARIANTS, STEP, clusterOf, stageBytes, weightsOf, type HopperVariant } from './variant.ts';

export interface HopperShape {
  rows: number; // most rows that the program is for
  N: number; // weight rows: with silu twice the columns
  K: number;
  multiprocessors: number;
  /** CTA budget; undefined: one for each multiprocessor. */
  workgroups?: number;
}

/** Of one multiprocessor: what it computes in a microsecond, what it takes in at most. */
const FLOPS = 5.9e6;
const BYTES_IN = 87e3;
/** By warpgroups: one leaves the tensor cores idle at times; three do not share their four parts evenly. */
const UNEVEN = { 1: 1.05, 2: 1, 3: 1.03 };
/** Smallest tile, weight rows times tokens, that is dealt out in fair shares (FAIR in lib/gemmTile.cuh). */
const FAIR_TILE = 128 * 96;
/** Of the GPU: bytes of weights that memory delivers in a microsecond. */
const MEMORY_BYTES = 3.09e6;

/** Estimated time in microseconds. */
export function estimate(variant: HopperVariant, shape: HopperShape): number {
  const { rows, N, K, multiprocessors, workgroups = multiprocessors } = shape;
  const weights = weightsOf(variant);
  const { tokens, groups, clusterW, clusterT } = variant;
  const tiles = Math.ceil(N / (weights * clusterW)) * Math.ceil(rows / (tokens * clusterT));
  const clusters = Math.max(1, Math.floor(workgroups / clusterOf(variant)));
  const plan = scheduleOf(tiles, clusters, Math.ceil(K / STEP), weights * tokens >= FAIR_TILE);
  // CTAs beyond one for each multiprocessor share it.
  const share = Math.max(1, workgroups / multiprocessors);
  const multiply = ((2 * weights * tokens * STEP) / FLOPS) * UNEVEN[groups];
  const load = stageBytes(variant) / BYTES_IN;
  // Bytes that L2 delivers cost power, and so clock; sharing saves some.
  const fromL2 = ((weights / clusterT + tokens / clusterW) * STEP * 2) / BYTES_IN;
  const busy = plan.steps * (Math.max(multiply, load) + fromL2 * 0.07) * share;
  const memory = (N * K * 2) / MEMORY_BYTES;
  const join = 2.2 + (weights * tokens * 4 * (1 + 0.2 * (plan.parts - 2))) / 17.5e3;
  // The shorter of the two hides behind the longer, but not all of it.
  return Math.max(busy, memory) + 0.29 * Math.min(busy, memory) + plan.joins * join;
}

export function chooseHopper(shape: HopperShape): HopperVariant {
  let best: HopperVariant | undefined;
  let least = Infinity;
  for (const variant of candidates(shape)) {
    const time = estimate(variant, shape);
    if (time < least) [best, least] = [variant, time];
  }
  return best!;
}

/** What is worth trying for a product: for the autotuner. */
export function candidates({ rows, workgroups = Infinity }: HopperShape): HopperVariant[] {
  return PLAIN_VARIANTS.filter((variant) => {
    const { tokens, clusterT } = variant;
    // Not twice as many columns as rows, and no more tiles of few columns than read the weights fast enough.
    const largeEnough = rows <= tokens * (tokens < 32 ? 1 : tokens < 64 ? 2 : tokens < 96 ? 4 : Infinity);
    const smallEnough = tokens < 2 * rows || tokens === 8;
    const fits = clusterOf(variant) <= workgroups && (clusterT === 1 || rows > tokens);
    return largeEnough && smallEnough && fits;
  });
}
