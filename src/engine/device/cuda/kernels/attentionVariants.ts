/**
 * Which CUDA kernel computes attention, and its constants: pure functions of shape and target. Shared memory is counted
 * as the kernels lay it out (native-cuda/kernels/lib/attentionDecode.cuh, attentionPrefill.cuh).
 */
import type { DType } from '../../../device.ts';
import type { CudaTarget } from '../launch.ts';

/** What the choice depends on. */
export interface CudaAttentionShape {
  tile: 16 | 128;
  headDim: number;
  group: number; // query heads of a KV head
  pageSize: number;
  qType: DType;
  kvType: DType;
  /** Threads of a CTA that are wanted: 128 or less asks for the guest, which leaves most of an SM to another kernel. */
  threads?: number;
}

export type AttentionSource =
  'attention_simple' | 'attention_decode' | 'attention_mma' | 'attention_wgmma' | 'attention_mixed';

export interface CudaAttentionVariant {
  source: AttentionSource;
  defines: Record<string, string | number>;
  threads: number;
  sharedBytes: number;
}

const MAX_HEAD_DIM = 256;
const TILE = 16; // KV tokens of a tile of mma.sync
const ALIGNMENT = 1024; // of swizzled tiles; dynamic shared memory itself promises less
const TMA_HEAD_DIMS = [64, 128, 256];
/** Shared memory of a guest CTA: what the product with room for one leaves (gemm/hopper/variant.ts). */
const GUEST_BYTES = 70 * 1024;

/** Largest power of two that divides n, at most `limit`: rows of a TMA box, which must lie within one page. */
export function boxRows(pageSize: number, limit: number): number {
  return Math.min(pageSize & -pageSize, limit);
}

/** Whether TMA and wgmma can be used: 128-byte swizzle wants columns by 64 and rows by 8. */
export function hopperFits(shape: Omit<CudaAttentionShape, 'tile'>, target: CudaTarget): boolean {
  return (
    target.cuda.family === 'hopper' &&
    sixteenBit(shape) &&
    TMA_HEAD_DIMS.includes(shape.headDim) &&
    shape.pageSize % 8 === 0
  );
}

/** @throws Error for head dimensions that no kernel has. */
export function checkHeadDim(headDim: number, label: string): void {
  if (headDim > MAX_HEAD_DIM || headDim % 2 !== 0) {
    throw new Error(
      `${label}: got head_dim ${headDim}, expected an even number up to ${MAX_HEAD_DIM}; no kernel has it`,
    );
  }
}

function sixteenBit({ qType, kvType, headDim }: Omit<CudaAttentionShape, 'tile'>): boolean {
  return (
    qType === kvType &&
    (kvType === 'bf16' || kvType === 'f16') &&
    headDim % 8 === 0 &&
    headDim <= MAX_HEAD_DIM
  );
}

export interface DecodeConstants {
  warps: number;
  tiles: number; // of 16 KV tokens in a unit
  depth: number; // units of K and V that a warp keeps on their way
  rows: 8 | 16; // rows that a walk over the KV range computes
  combine: number; // rows that are combined at a time
}

const blocksOf = (headDim: number): number => Math.ceil(headDim / 64);

/** Bytes of a unit of K and V together. */
const unitBytes = (headDim: number, tiles: number): number => 2 * tiles * TILE * blocksOf(headDim) * 128;

/** Shared memory of the decode part: Decode<...>::BYTES. */
export function decodeBytes(
  headDim: number,
  { warps, tiles, depth, rows, combine }: DecodeConstants,
): number {
  const ring = warps * depth * unitBytes(headDim, tiles);
  const queries = 2 * rows * (Math.ceil(headDim / 16) * 32 + 16);
  const combined = warps * combine * (headDim + 4) * 4;
  const stats = warps * rows * 8;
  const items = warps * 4 * 48;
  return ring + queries + combined + stats + items + warps * depth * 16 + 16;
}

/** As many units on their way as shared memory holds; fewer warps where each could not have one. */
export function decodeConstants(
  headDim: number,
  bytes: number,
  fixed: Omit<DecodeConstants, 'depth'>,
): DecodeConstants {
  const rest = decodeBytes(headDim, { ...fixed, depth: 0 });
  const room = Math.floor((bytes - rest) / (fixed.warps * (unitBytes(headDim, fixed.tiles) + 16)));
  if (room < 1 && fixed.warps > 1) {
    return decodeConstants(headDim, bytes, { ...fixed, warps: Math.floor(fixed.warps / 2) });
  }
  return { ...fixed, depth: Math.max(1, Math.min(6, room)) };
}

/**
 * Warps of a decode CTA. Measured on an H100 (256 requests of 1024-2048 tokens, 32/8 heads of 128), share of the read
 * bandwidth with 132 and with 32 CTAs, by warps x tiles x depth: 8x1x2 95 %, 64 %; 12x1x2 94, 72; 8x2x1 96, 75;
 * 12x2x1 95, 82; guest on all 132: 2x1x1 71, 3x1x1 82, 4x1x1 83 (but 36 KiB).
 */
function decodeTeam(
  headDim: number,
  group: number,
  guest: boolean,
  hopper: boolean,
): Omit<DecodeConstants, 'depth'> {
  // More than 8 rows come from large groups, or from several tokens of a request: then 8 rows are walked twice.
  const rows = !guest && group > 8 ? 16 : 8;
  if (guest) return { warps: 3, tiles: headDim > 128 ? 1 : 2, rows, combine: 1 };
  if (headDim > 128) return { warps: hopper ? 8 : 4, tiles: 1, rows, combine: 2 };
  if (!hopper) return { warps: 8, tiles: 1, rows: 16, combine: 4 };
  return { warps: rows === 16 ? 8 : 12, tiles: 2, rows, combine: 4 };
}

/** Shared memory of the prefill part: Prefill<...>::BYTES. */
function prefillBytes(headDim: number, kvTile: number, stages: number): number {
  const query = 128 * headDim * 2;
  const tile = kvTile * headDim * 2;
  return query + 2 * stages * tile + stages * 32 + 2 * 2 * 48 + 16;
}

/** KV tokens of a tile on wgmma: 256 columns leave registers for the scores of 64 tokens only. */
export function kvTile(headDim: number): number {
  return headDim > 128 ? 64 : 128;
}

export function decodeDefines(constants: DecodeConstants): Record<string, number> {
  return {
    DECODE_WARPS: constants.warps,
    DECODE_TILES: constants.tiles,
    DECODE_DEPTH: constants.depth,
    DECODE_ROWS: constants.rows,
    DECODE_COMBINE: constants.combine,
  };
}

/** Picks source and constants; the caller adds the storage types. */
export function chooseAttention(shape: CudaAttentionShape, target: CudaTarget): CudaAttentionVariant {
  const { tile, headDim, group, threads } = shape;
  const room = target.cuda.sharedBytesPerCta;
  if (!sixteenBit(shape)) {
    const defines = { HEAD_DIM: headDim, TILE: tile };
    return { source: 'attention_simple', defines, threads: 256, sharedBytes: 0 };
  }
  const hopper = hopperFits(shape, target);
  if (tile === 16) {
    const guest = threads !== undefined && threads <= 128;
    const bytes = guest ? GUEST_BYTES - ALIGNMENT : room - ALIGNMENT;
    const constants = decodeConstants(headDim, bytes, decodeTeam(headDim, group, guest, hopper));
    return {
      source: 'attention_decode',
      defines: {
        HEAD_DIM: headDim,
        TMA: hopper ? 1 : 0,
        ...decodeDefines(constants),
        MIN_CTAS: guest ? 6 : 1,
      },
      threads: constants.warps * 32,
      sharedBytes: decodeBytes(headDim, constants) + ALIGNMENT,
    };
  }
  if (hopper) {
    const tileTokens = kvTile(headDim);
    const stages = headDim === 64 ? 3 : 2;
    return {
      source: 'attention_wgmma',
      defines: { HEAD_DIM: headDim, KV_TILE: tileTokens, STAGES: stages },
      threads: 384,
      sharedBytes: prefillBytes(headDim, tileTokens, stages) + ALIGNMENT,
    };
  }
  const tokens = headDim > 128 ? 32 : 64;
  const bytes = (stages: number): number => 128 + blocksOf(headDim) * 128 * (128 + 2 * stages * tokens);
  const stages = bytes(2) <= room ? 2 : 1;
  return {
    source: 'attention_mma',
    defines: { HEAD_DIM: headDim, KV_TILE: tokens, STAGES: stages },
    threads: 256,
    sharedBytes: bytes(stages),
  };
}

/** Both tile sizes in one launch; undefined where that kernel does not exist. */
export function chooseMixed(
  shape: Omit<CudaAttentionShape, 'tile'>,
  target: CudaTarget,
): CudaAttentionVariant | undefined {
  const { headDim } = shape;
  if (!hopperFits(shape, target) || headDim > 128) return undefined;
  const tileTokens = kvTile(headDim);
  const prefill = prefillBytes(headDim, tileTokens, 2);
  const bytes = target.cuda.sharedBytesPerCta - 2 * ALIGNMENT - prefill;
  const constants = decodeConstants(headDim, bytes, { warps: 3, tiles: 2, rows: 8, combine: 2 });
  const decode = Math.ceil(decodeBytes(headDim, constants) / ALIGNMENT) * ALIGNMENT;
  return {
    source: 'attention_mixed',
    defines: {
      HEAD_DIM: headDim,
      KV_TILE: tileTokens,
      STAGES: 2,
      DECODE_TILES: constants.tiles,
      DECODE_DEPTH: constants.depth,
      DECODE_COMBINE: constants.combine,
    },
    threads: 384,
    sharedBytes: decode + prefill + ALIGNMENT,
  };
}
