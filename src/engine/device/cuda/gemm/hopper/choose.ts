/**
 * Which variant of gemm_wgmma a product gets: the one with the shortest estimated time. Rates were measured on an
 * NVIDIA H100 (random bf16 operands, products back to back); only their ratios matter.
 */
import { scheduleOf } from './schedule.ts';
import {
  FEW_VARIANTS,
  MANY_VARIANTS,
  STEP,
  clusterOf,
  stageBytes,
  weightsOf,
  type HopperVariant,
} from './variant.ts';

export interface HopperShape {
  rows: number; // most rows that the program is for
  N: number; // weight rows: with silu twice the columns
  K: number;
  multiprocessors: number;
  /** CTA budget; undefined: one for each multiprocessor. */
  workgroups?: number;
}

/** Of one multiprocessor, for a microsecond. */
const FLOPS = 5.1e6;
const BYTES_IN = 68e3;
/** Of the GPU: bytes of weights that memory delivers in a microsecond. */
const MEMORY_BYTES = 2.95e6;

/** Estimated time in microseconds. */
export function estimate(variant: HopperVariant, shape: HopperShape): number {
  const { rows, N, K, multiprocessors, workgroups = multiprocessors } = shape;
  const weights = weightsOf(variant);
  const { tokens, clusterW, clusterT, resident } = variant;
  const tiles = Math.ceil(N / (weights * clusterW)) * Math.ceil(rows / (tokens * clusterT));
  const steps = Math.ceil(K / STEP);
  const clusters = Math.max(1, Math.floor(workgroups / clusterOf(variant)));
  const plan = scheduleOf(tiles, clusters, steps);
  // CTAs beyond one for each multiprocessor share it.
  const share = Math.max(1, workgroups / multiprocessors);
  const multiply = (2 * weights * tokens * STEP) / FLOPS;
  const load = stageBytes(variant) / BYTES_IN;
  // Bytes that L2 delivers cost power, and so clock; sharing saves some.
  const fromL2 = ((weights / clusterT + tokens / clusterW) * STEP * 2) / BYTES_IN;
  const join = 4 + (weights * tokens * 4) / 20e3;
  const busy = plan.steps * (Math.max(multiply, load) + fromL2 / 20) * share;
  const memory = (N * K * 2) / MEMORY_BYTES;
  return Math.max(busy, memory) + plan.joins * (busy > memory ? join : join / 2) + (resident === 2 ? 2 : 4);
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
  // Few rows: the smallest tiles that hold them all in one, or in two.
  const few = FEW_VARIANTS.filter(({ tokens }) => tokens >= rows && (tokens < 2 * rows || tokens === 8));
  const many = MANY_VARIANTS.filter(({ tokens }) => rows > 32 && tokens < 2 * rows);
  const all =
    rows > 64 ? [...FEW_VARIANTS.filter(({ tokens }) => tokens === 64), ...many] : [...few, ...many];
  return all.filter(
    (variant) => clusterOf(variant) <= workgroups && (variant.clusterT === 1 || rows > variant.tokens),
  );
}
