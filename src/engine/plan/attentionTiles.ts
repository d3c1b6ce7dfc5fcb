/**
 * The pure arithmetic of the attention plan: which rows a tile holds, which KV range it may see, how long a chunk is.
 * Kernels never repeat these formulas: a work item carries its own range (plan/stepMeta.ts, ITEM).
 *
 * Packed rows: the `group = heads / kvHeads` query heads that share a KV head are laid side by side, so packed row
 * r of a request is token r / group, head kvHead * group + r % group. A tile is 16 or 128 packed rows of one request.
 */

/** Rows of a query tile: short queries (decode) take 16, longer ones (prefill) 128. */
export type TileRows = 16 | 128;

/** One request of a step, as the attention plan sees it. */
export interface AttentionRequest {
  qStart: number; // first token row of the request in the dense batch
  qLen: number; // tokens of the request in this step; 0 gives no work
  kvLen: number; // KV tokens, this step's included
  pageStart: number; // index of the request's first page id within the `pages` section
}

/** Shortest chunk worth a partial result of its own, by tile size, in KV tokens. */
const SHORTEST_CHUNK: Record<TileRows, number> = { 16: 128, 128: 256 };
const CHUNK_STEP = 64;

/**
 * How much finer than one fair share a chunk may get when whole shares do not balance. Fine chunks are cheap for 16-row
 * tiles (few partial rows); for 128-row tiles they would multiply the memory for partial results.
 */
export const FINEST_SPLIT: Record<TileRows, number> = { 16: 4, 128: 1 };

/** Which tile size takes a request with so many packed rows, among those that the device wants. */
export function tileFor(packedRows: number, tiles: readonly TileRows[]): TileRows {
  if (tiles.length === 1) return tiles[0];
  return packedRows > 16 ? 128 : 16;
}

/**
 * First KV position after the causal view of `token` (query token of the request), and, with a window, the first
 * inside it. Query token i of a request stands at position kvLen - qLen + i; qLen > kvLen leaves early tokens nothing.
 */
export function visibleEnd(request: AttentionRequest, token: number): number {
  return Math.min(Math.max(request.kvLen - request.qLen + token + 1, 0), request.kvLen);
}
export function visibleStart(request: AttentionRequest, token: number, slidingWindow: number): number {
  if (slidingWindow === 0) return 0;
  return Math.max(request.kvLen - request.qLen + token + 1 - slidingWindow, 0);
}

/**
 * Longest chunk of KV tokens that one work item covers: a fair share of all the work (`totalKv`: KV tokens of all
 * tiles times KV heads) of one of `workgroups`, or 1/split of it, but never too short to be worth a partial result.
 * With this limit at most `split * workgroups` chunks exist beyond one for each tile (attentionCapacity relies on it).
 */
export function chunkLimit(totalKv: number, workgroups: number, tile: TileRows, split: number): number {
  const share = Math.ceil(totalKv / (workgroups * split));
  return Math.max(Math.ceil(share / CHUNK_STEP) * CHUNK_STEP, SHORTEST_CHUNK[tile]);
}

/** Whether a larger `split` would shorten the limit of this tile size at all. */
export function canSplitFurther(tile: TileRows, limit: number, split: number): boolean {
  return split < FINEST_SPLIT[tile] && limit > SHORTEST_CHUNK[tile];
}

/** Length of the chunks of a tile that sees `length` KV tokens: equal parts, none above the limit; the last is the rest. */
export function chunkLength(length: number, limit: number): number {
  if (length <= limit) return length;
  const equal = Math.ceil(length / Math.ceil(length / limit));
  return Math.min(Math.ceil(equal / CHUNK_STEP) * CHUNK_STEP, limit);
}

/**
 * Chunks that a tile of `length` KV tokens is cut into. Nobody else counts them: the plan writes the count into every
 * item (ITEM.chunkCount) and the merge lists, and the kernels read it from there. (FlashInfer's kernel computes it
 * again from the chunk length, and host and device must agree.)
 */
export function chunkCount(length: number, limit: number): number {
  return length === 0 ? 1 : Math.ceil(length / chunkLength(length, limit));
}

/** The next longer limit to try where the partial results of this one do not fit. */
export function coarserLimit(limit: number): number {
  return Math.ceil((limit * 1.25) / CHUNK_STEP) * CHUNK_STEP;
}
