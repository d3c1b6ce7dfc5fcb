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

/** Of one multiprocessor: what it computes in a microsecond, what it takes in at most. */
const FLOPS = 5.8e6;
const BYTES_IN = 86e3;
/** Microseconds from asking for bytes to having them, when all multiprocessors ask: bounds what few stages take in. */
const LATENCY = 1.3;
/** Of the GPU: bytes of weights that memory delivers in a microsecond. */
const MEMORY_BYTES = 3.04e6;

/** Estimated time in microseconds. */
export function estimate(variant: HopperVariant, shape: HopperShape): number {
  const { rows, N, K, multiprocessors, workgroups = multiprocessors } = shape;
  const weights = weightsOf(variant);
  const { tokens, clusterW, clusterT, resident, stages } = variant;
  const tiles = Math.ceil(N / (weights * clusterW)) * Math.ceil(rows / (tokens * clusterT));
  const clusters = Math.max(1, Math.floor(workgroups / clusterOf(variant)));
  const plan = scheduleOf(tiles, clusters, Math.ceil(K / STEP));
  // CTAs beyond one for each multiprocessor share it.
  const share = Math.max(1, workgroups / multiprocessors);
  const multiply = (2 * weights * tokens * STEP) / FLOPS;
  const bytes = stageBytes(variant);
  const load = bytes / Math.min(BYTES_IN, (stages * bytes) / LATENCY);
  // Bytes that L2 delivers cost power, and so clock; sharing saves some.
  const fromL2 = ((weights / clusterT + tokens / clusterW) * STEP * 2) / BYTES_IN;
  const busy = plan.steps * (Math.max(multiply, load) + fromL2 / 10) * share;
  const memory = (N * K * 2) / MEMORY_BYTES;
  const join = 2.9 + (weights * tokens * 4 * (1 + 0.4 * (plan.parts - 2))) / 26e3;
  const ends = resident === 2 ? 0.3 : 1.2;
  // The shorter of the two hides behind the longer, but not all of it.
  return Math.max(busy, memory) + 0.19 * Math.min(busy, memory) + plan.joins * join + ends;
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
