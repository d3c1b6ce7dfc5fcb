/**
 * The variants of gemm_wgmma (native-cuda/kernels/gemm_wgmma.cu), as plain data, and what each needs of the GPU.
 *
 * Weights are the rows of the matrix instructions (64 each), tokens their columns: a tile is `weights` x `tokens`.
 */
export interface HopperVariant {
  tokens: number; // of a tile: a multiple of 8, at most 256
  groups: 1 | 2 | 3; // warpgroups that multiply
  blocks: 1 | 2; // blocks of 64 weight rows of each
  stages: number; // steps of K (64 elements) under way
  /** CTAs of a cluster along weights and along tokens; those in a row share the other operand. */
  clusterW: 1 | 2;
  clusterT: 1 | 2;
  /** CTAs that fit a multiprocessor: with 2, the next launch loads its first weights while this one ends. */
  resident: 1 | 2;
  /** Leaves 80 registers for each of 128 threads of another kernel on the same multiprocessor. */
  guest?: boolean;
}

export const STEP = 64; // elements of K
const ROW_BYTES = STEP * 2;

export function weightsOf({ groups, blocks }: HopperVariant): number {
  return groups * blocks * 64;
}

export function clusterOf({ clusterW, clusterT }: HopperVariant): number {
  return clusterW * clusterT;
}

/** Threads of a CTA: where registers move between warpgroups, loading takes a whole one. */
export function threadsOf({ groups, resident }: HopperVariant): number {
  return groups * 128 + (resident === 1 && groups > 1 ? 128 : 32);
}

/** Dynamic shared memory: alignment, ring, where 16-bit results are turned, barriers, a word for each group. */
export function sharedBytesOf(variant: HopperVariant, wideOut: boolean): number {
  const { groups, stages } = variant;
  const turn = wideOut ? 0 : groups * 4 * 1024;
  return 1024 + stages * stageBytes(variant) + turn + stages * 16 + 64;
}

/** Bytes that a CTA takes in for one step. */
export function stageBytes(variant: HopperVariant): number {
  return (weightsOf(variant) + variant.tokens) * ROW_BYTES;
}

/** The name of a variant in tables and logs: "256x128 c1x2 s4". */
export function variantName(variant: HopperVariant): string {
  const { tokens, groups, clusterW, clusterT, stages, resident, guest } = variant;
  const cluster = clusterOf(variant) > 1 ? ` c${clusterW}x${clusterT}` : '';
  const how = `${groups === 2 ? '' : ` g${groups}`}${resident === 2 ? ' r2' : ''}${guest ? ' guest' : ''}`;
  return `${weightsOf(variant)}x${tokens}${cluster} s${stages}${how}`;
}

const alone = { clusterW: 1, clusterT: 1 } as const;
/** Two CTAs with different tokens share weights; with different weights, tokens. */
const sharedWeights = { clusterW: 1, clusterT: 2 } as const;
const sharedTokens = { clusterW: 2, clusterT: 1 } as const;
/** 64 weight rows and as many stages as there is room for: most bytes under way, most tiles. */
const deep = { ...alone, groups: 1, blocks: 1, resident: 1 } as const;
const small = { ...alone, groups: 2, blocks: 1, resident: 2 } as const;
const middle = { groups: 2, blocks: 1, resident: 1 } as const;
const wide = { groups: 3, blocks: 1, resident: 1 } as const;
const large = { groups: 2, blocks: 2, resident: 1 } as const;

/** Those that the chooser weighs; of equals the first is taken. */
export const PLAIN_VARIANTS: readonly HopperVariant[] = [
  { ...deep, tokens: 8, stages: 20 },
  { ...small, tokens: 8, stages: 6 },
  { ...deep, tokens: 16, stages: 19 },
  { ...small, tokens: 16, stages: 5 },
  { ...deep, tokens: 32, stages: 16 },
  { ...small, tokens: 32, stages: 5 },
  { ...deep, tokens: 64, stages: 12 },
  { ...middle, ...alone, tokens: 64, stages: 8 },
  { ...large, ...sharedWeights, tokens: 128, stages: 4 },
  { ...large, ...alone, tokens: 128, stages: 4 },
  { ...middle, ...sharedTokens, tokens: 256, stages: 4 },
  { ...wide, ...alone, tokens: 192, stages: 4 },
  { ...wide, ...sharedTokens, tokens: 192, stages: 4 },
  { ...middle, ...alone, tokens: 192, stages: 5 },
  { ...middle, ...sharedTokens, tokens: 192, stages: 5 },
  { ...middle, ...alone, tokens: 176, stages: 5 },
  { ...middle, ...sharedTokens, tokens: 176, stages: 5 },
  // Between: for 200 to 700 rows there is one wave of tiles of some size, and of no other.
  { ...wide, ...alone, tokens: 176, stages: 4 },
  { ...wide, ...alone, tokens: 160, stages: 4 },
  { ...wide, ...alone, tokens: 144, stages: 5 },
  { ...wide, ...alone, tokens: 112, stages: 5 },
  { ...wide, ...sharedWeights, tokens: 96, stages: 5 },
  { ...wide, ...sharedWeights, tokens: 80, stages: 6 },
  { ...wide, ...alone, tokens: 80, stages: 6 },
  { ...wide, ...sharedWeights, tokens: 64, stages: 6 },
  { ...wide, ...alone, tokens: 64, stages: 6 },
  { ...middle, ...alone, tokens: 160, stages: 6 },
  { ...middle, ...alone, tokens: 144, stages: 6 },
  { ...middle, ...alone, tokens: 112, stages: 7 },
  { ...middle, ...alone, tokens: 80, stages: 8 },
  { ...wide, ...sharedWeights, tokens: 128, stages: 5 },
  { ...wide, ...alone, tokens: 128, stages: 5 },
  { ...middle, ...sharedWeights, tokens: 128, stages: 6 },
  { ...middle, ...alone, tokens: 128, stages: 6 },
  { ...wide, ...alone, tokens: 96, stages: 5 },
  { ...middle, ...sharedWeights, tokens: 96, stages: 7 },
  { ...middle, ...alone, tokens: 96, stages: 7 },
  { ...deep, tokens: 192, stages: 6 },
  { ...deep, tokens: 128, stages: 8 },
  { ...deep, tokens: 96, stages: 9 },
];

/**
 * Large tiles that leave room on each multiprocessor for a CTA of a memory-bound kernel: 128 threads of 80 registers, and
 * 72 KB (or 21 KB) of shared memory.
 */
export const GUEST_VARIANTS: readonly HopperVariant[] = [
  { ...large, ...sharedWeights, tokens: 128, stages: 3, guest: true },
  { ...large, ...sharedWeights, tokens: 128, stages: 4, guest: true },
];

export const ALL_VARIANTS: readonly HopperVariant[] = [...PLAIN_VARIANTS, ...GUEST_VARIANTS];
