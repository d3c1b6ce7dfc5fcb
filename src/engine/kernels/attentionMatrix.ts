/**
 * Constants of shaders/attention_matrix.wgsl: attention on subgroup matrices, for f16 queries and KV with head
 * dimension 64 or 128. How scores and results are dealt out to subgroups of 32 is decided here.
 */
import type { DeviceTarget } from '../device.ts';
import type { AttentionShape, AttentionVariant } from './attention.ts';
import { combine, type Variant } from './variants.ts';

/** Workgroup memory besides the tiles: a value for each invocation, and a flag. */
const OTHER_BYTES = 256 * 4 + 16;

/** Whether the device and the shape have matrices for it. */
export function matrixFits(
  { headDim, kvType, qType = kvType, tile, invocations }: AttentionShape,
  { features, subgroupSize, limits, software }: DeviceTarget,
): boolean {
  if (software || !features.subgroupMatrix || !features.f16) return false;
  if (subgroupSize.min !== 32 || subgroupSize.max !== 32) return false;
  if (kvType !== 'f16' || qType !== 'f16' || (headDim !== 64 && headDim !== 128)) return false;
  const threads = threadsFor(invocations);
  return (
    (invocations === undefined || invocations === threads) &&
    threads <= limits.maxInvocations &&
    sharedBytes(matrixSizes(tile, headDim, threads)) <= limits.maxWorkgroupBytes
  );
}

function threadsFor(invocations: number | undefined): number {
  return invocations === 128 ? 128 : 256;
}

interface MatrixSizes {
  rows: number; // packed rows of a walk
  tokens: number; // of a step
  valuesAt: number; // 16-byte elements of workgroup memory before the values: keys, then scores (and weights)
  kvRow: number; // 16-byte elements of a row
  scoreParts: number;
  apart: boolean;
}

function matrixSizes(tile: 16 | 128, headDim: number, threads: number): MatrixSizes {
  const stream = tile === 16;
  const rows = stream ? 16 : threads / 4;
  // 32 KiB of K and V a step where the scores of few rows leave room for them.
  const tokens = stream ? 8192 / headDim : threads === 256 || headDim === 64 ? 64 : 32;
  const columns = threads / 32 / (rows / 16);
  const scoreParts = Math.max(1, columns / (tokens / 16));
  const kvRow = headDim / 8 + 1;
  const scores = scoreParts * rows * (tokens / 4 + 1);
  const weights = rows * (tokens / 8 + 1);
  const keys = tokens * kvRow;
  const apart = scores + weights <= keys;
  return { rows, tokens, valuesAt: Math.max(keys, scores), kvRow, scoreParts, apart };
}

function sharedBytes({ valuesAt, tokens, kvRow }: MatrixSizes): number {
  return (valuesAt + tokens * kvRow) * 16 + OTHER_BYTES;
}

/** The variant for a shape that fits. */
export function matrixVariant({ tile, headDim, invocations }: AttentionShape): AttentionVariant {
  const threads = threadsFor(invocations);
  const { rows, tokens, valuesAt, scoreParts, apart } = matrixSizes(tile, headDim, threads);
  const subgroupRows = rows / 16;
  const subgroupColumns = threads / 32 / subgroupRows;
  const tokenBlocks = tokens / 16;
  const dimBlocks = headDim / 16;
  const resultParts = Math.max(1, subgroupColumns / dimBlocks);
  const pieces = headDim / 8; // 16-byte pieces of a row
  return {
    shader: 'attention_matrix',
    defines: {
      WIDTH: 4,
      KV_WIDTH: 8,
      WORKGROUP_SIZE: threads,
      STREAM: tile === 16,
      ROWS: rows,
      TOKENS: tokens,
      SG_N: subgroupColumns,
      FETCH: (tokens * pieces) / threads,
      QUERIES: Math.ceil((rows * pieces) / threads),
      S_OWN: Math.max(1, tokenBlocks / subgroupColumns),
      S_PARTS: scoreParts,
      S_COLUMNS: subgroupColumns / scoreParts,
      S_DEPTH: dimBlocks / scoreParts,
      O_OWN: Math.max(1, dimBlocks / subgroupColumns),
      O_PARTS: resultParts,
      O_COLUMNS: subgroupColumns / resultParts,
      O_DEPTH: tokenBlocks / resultParts,
      U: Math.max(1, (rows * tokens) / 8 / threads),
      APART: apart,
      VALUES_AT: valuesAt,
    },
  };
}

export const variantDefines: Variant[] = combine({
  tile: [16, 128],
  headDim: [64, 128],
  invocations: [128, 256],
  OUT: ['f32', 'f16'],
  WINDOW: [true, false],
}).map(({ tile, headDim, invocations, OUT, WINDOW }) => {
  const shape = { tile, headDim, invocations, group: 4, workgroups: 64, kvType: 'f16' } as AttentionShape;
  const { shader, defines } = matrixVariant(shape);
  const sizes = {
    Q: 'f16',
    KV: 'f16',
    OUT,
    HEAD_DIM: shape.headDim,
    GROUP: 4,
    PAGE_SIZE: 16,
    TILE: shape.tile,
  };
  return { shader, defines: { ...defines, ...sizes, WINDOW } };
});
