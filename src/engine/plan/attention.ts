/**
 * The attention work plan of a step: which workgroup computes which (query tile, KV chunk, KV head), and which partial
 * results are merged. A two-stage plan after FlashInfer's holistic persistent attention (scheduler.cuh):
 *
 *   1. cut every request into tiles of packed query rows, longest KV range first;
 *   2. cut KV ranges above a fair share of the work into chunks (attentionTiles.ts: chunkLimit);
 *   3. give each (tile, chunk, KV head) to the workgroup with the least work so far (a min-heap);
 *   4. write the items grouped by workgroup, and for split tiles the rows that `merge` combines.
 *
 * Runs on the CPU every step: typed scratch arrays that are reused, no object for an item.
 */
import {
  canSplitFurther,
  chunkLength,
  chunkLimit,
  FINEST_SPLIT,
  tileFor,
  visibleEnd,
  visibleStart,
} from './attentionTiles.ts';
import { TileList } from './attentionTileList.ts';
import type { AttentionRequest, TileRows } from './attentionTiles.ts';
import { COUNT, ITEM, ITEM_WORDS, PARTIAL_NONE } from './stepMeta.ts';
import type { StepMetaLayout } from './stepMeta.ts';
import { WorkHeap } from './workHeap.ts';

export { attentionCapacity } from './attentionCapacity.ts';
export { printPlan } from './attentionPrint.ts';
export type { AttentionRequest, TileRows } from './attentionTiles.ts';

export interface AttentionPlanInput {
  requests: readonly AttentionRequest[];
  heads: number;
  kvHeads: number; // divides heads
  headDim: number;
  pageSize: number;
  slidingWindow?: number; // a query sees its own position and the slidingWindow - 1 before it
  /** Workgroups that the attention dispatches get: any number from 1 to the layout's capacity. */
  workgroups: number;
  /** Tile sizes that the device wants; default both. */
  tiles?: readonly TileRows[];
  /**
   * True when both tile sizes run side by side in one dispatch: then one heap balances them together and short tiles
   * fill the gaps that long ones leave. Default false: one dispatch runs after the other, each balanced for itself.
   */
  together?: boolean;
}

/** What planAttention wrote, for logs, tests and the caller's buffer checks. */
export interface AttentionPlan {
  items16: number;
  items128: number;
  mergeRows: number;
  partialRows: number; // rows of partialOut and partialLse in use
  partialBytes: number; // bytes of both
  chunk16: number; // KV tokens that an item covers at most; 0 without items
  chunk128: number;
  /** Heaviest workgroup's work over the mean, the worse of both dispatches; 1 is perfect. */
  imbalance: number;
}

/** A schedule within this factor of perfect balance is not worth finer chunks. */
const GOOD_BALANCE = 1.1;
const TILES: readonly TileRows[] = [16, 128];

const lists: Record<TileRows, TileList> = { 16: new TileList(16), 128: new TileList(128) };
const heap = new WorkHeap();

/**
 * Plans attention for one step and writes the sections items16, items128, workIndptr16, workIndptr128, mergeIndptr,
 * mergeRow and the counters tile16Items, tile128Items, mergeRows, chunk16, chunk128 into `words` (layout.words u32).
 * Lists beyond `workgroups`, up to the layout's attentionWorkgroups, are left empty, so a dispatch of any size may
 * stride over all of them.
 *
 * @throws Error when a section of the layout is too small; nothing is written then.
 */
export function planAttention(
  input: AttentionPlanInput,
  layout: StepMetaLayout,
  words: Uint32Array,
): AttentionPlan {
  check(input, layout, words);
  cut(input);
  const { kvHeads, workgroups, together = false } = input;
  const limits: Record<TileRows, number> = { 16: 0, 128: 0 };
  let imbalance = 1;
  const total = (lists[16].kvTokens + lists[128].kvTokens) * kvHeads;
  if (together) {
    for (let split = 1; ; split *= 4) {
      heap.reset(workgroups);
      for (const tile of [128, 16] as const) {
        limits[tile] = chunkLimit(total, workgroups, tile, Math.min(split, FINEST_SPLIT[tile]));
        assign(lists[tile], limits[tile], kvHeads);
      }
      imbalance = heap.imbalance();
      if (imbalance <= GOOD_BALANCE || !canSplitFurther(16, limits[16], split)) break;
    }
  } else {
    for (const tile of TILES) {
      for (let split = 1; ; split *= 4) {
        heap.reset(workgroups);
        limits[tile] = chunkLimit(lists[tile].kvTokens * kvHeads, workgroups, tile, split);
        assign(lists[tile], limits[tile], kvHeads);
        if (heap.imbalance() <= GOOD_BALANCE || !canSplitFurther(tile, limits[tile], split)) break;
      }
      imbalance = Math.max(imbalance, heap.imbalance());
    }
  }
  const items16 = countItems(lists[16], limits[16], kvHeads);
  const items128 = countItems(lists[128], limits[128], kvHeads);
  const mergeRows = countMergeRows(input, limits);
  require(items16, layout.capacity.items16, 'attention items with 16-row tiles', 'items16');
  require(items128, layout.capacity.items128, 'attention items with 128-row tiles', 'items128');
  require(mergeRows, layout.capacity.mergeRows, 'merged attention rows', 'mergeRows');

  const merge = { rows: 0, partialRows: 0 };
  write(lists[16], limits[16], input, layout.items16, layout.workIndptr16, layout, words, merge);
  write(lists[128], limits[128], input, layout.items128, layout.workIndptr128, layout, words, merge);
  words[layout.mergeIndptr + merge.rows] = merge.partialRows;
  const chunk16 = items16 === 0 ? 0 : limits[16];
  const chunk128 = items128 === 0 ? 0 : limits[128];
  words[COUNT.tile16Items] = items16;
  words[COUNT.tile128Items] = items128;
  words[COUNT.mergeRows] = merge.rows;
  words[COUNT.chunk16] = chunk16;
  words[COUNT.chunk128] = chunk128;
  const partialBytes = merge.partialRows * (input.headDim + 1) * 4;
  return {
    items16,
    items128,
    mergeRows,
    partialRows: merge.partialRows,
    partialBytes,
    chunk16,
    chunk128,
    imbalance,
  };
}

function check(input: AttentionPlanInput, layout: StepMetaLayout, words: Uint32Array): void {
  const { heads, kvHeads, workgroups } = input;
  if (heads % kvHeads !== 0) {
    throw new Error(
      `planAttention: got ${heads} heads for ${kvHeads} KV heads, expected a multiple; fix the model's config`,
    );
  }
  if (!Number.isInteger(workgroups) || workgroups < 1) {
    throw new Error(
      `planAttention: got ${workgroups} workgroups, expected an integer >= 1; leave it to the device's default`,
    );
  }
  require(workgroups, layout.capacity.attentionWorkgroups, 'attention workgroups', 'attentionWorkgroups');
  require(layout.words, words.length, 'metadata words', 'the metadata array');
  for (const request of input.requests) {
    const { qStart, qLen, kvLen, pageStart } = request;
    if (!(qStart >= 0 && qLen >= 0 && kvLen >= 0 && pageStart >= 0)) {
      throw new Error(
        `planAttention: got a request with qStart ${qStart}, qLen ${qLen}, kvLen ${kvLen}, pageStart ${pageStart}, ` +
          'expected all >= 0; check the batch that the scheduler made',
      );
    }
    if (qLen === 0) continue;
    require(qStart + qLen, layout.capacity.tokens, 'token rows', 'tokens');
    const lastPage = pageStart + Math.ceil(kvLen / input.pageSize);
    require(lastPage, layout.capacity.pages, 'entries of page tables', 'pages');
  }
}

function require(got: number, expected: number, what: string, remedy: string): void {
  if (got <= expected) return;
  throw new Error(
    `planAttention: got ${got} ${what}, expected at most ${expected}; raise ${remedy} (attentionCapacity gives enough)`,
  );
}

/** Fills the tile lists from the requests. */
function cut(input: AttentionPlanInput): void {
  const { requests, heads, kvHeads, slidingWindow = 0, tiles = TILES } = input;
  const group = heads / kvHeads;
  lists[16].clear();
  lists[128].clear();
  for (let index = 0; index < requests.length; index++) {
    const request = requests[index];
    const packed = request.qLen * group;
    const list = lists[tileFor(packed, tiles)];
    for (let row = 0; row < packed; row += list.rows) {
      const firstToken = Math.floor(row / group);
      const lastToken = Math.floor((Math.min(row + list.rows, packed) - 1) / group);
      const kvEnd = visibleEnd(request, lastToken);
      const kvStart = Math.min(visibleStart(request, firstToken, slidingWindow), kvEnd);
      list.add(index, row, kvStart, kvEnd);
    }
  }
  lists[16].sort();
  lists[128].sort();
}

function chunksOf(list: TileList, tile: number, limit: number): number {
  const length = list.kvEnd[tile] - list.kvStart[tile];
  return length === 0 ? 1 : Math.ceil(length / chunkLength(length, limit));
}

function countItems(list: TileList, limit: number, kvHeads: number): number {
  let chunks = 0;
  for (let tile = 0; tile < list.count; tile++) chunks += chunksOf(list, tile, limit);
  return chunks * kvHeads;
}

function rowsOf(list: TileList, tile: number, input: AttentionPlanInput): number {
  const packed = input.requests[list.request[tile]].qLen * (input.heads / input.kvHeads);
  return Math.min(list.rows, packed - list.firstRow[tile]);
}

function countMergeRows(input: AttentionPlanInput, limits: Record<TileRows, number>): number {
  let rows = 0;
  for (const size of TILES) {
    const list = lists[size];
    for (let tile = 0; tile < list.count; tile++) {
      if (chunksOf(list, tile, limits[size]) > 1) rows += rowsOf(list, tile, input);
    }
  }
  return rows * input.kvHeads;
}

/** Gives each item, in the order of the enumeration, to the workgroup with the least work. */
function assign(list: TileList, limit: number, kvHeads: number): void {
  let item = 0;
  const needed = countItems(list, limit, kvHeads);
  if (list.owner.length < needed) list.owner = new Int32Array(needed * 2);
  for (let i = 0; i < list.count; i++) {
    const tile = list.order[i];
    const kvEnd = list.kvEnd[tile];
    const step = Math.max(chunkLength(kvEnd - list.kvStart[tile], limit), 1);
    let start = list.kvStart[tile];
    do {
      const end = Math.min(start + step, kvEnd);
      // FlashInfer's cost: the KV tokens plus a fixed part for loading queries and writing rows.
      const cost = 2 * list.rows + end - start;
      for (let head = 0; head < kvHeads; head++) list.owner[item++] = heap.assign(cost);
      start = end;
    } while (start < kvEnd);
  }
}

/** Writes the items of one list grouped by workgroup, its indptr, and the merge rows of its split tiles. */
function write(
  list: TileList,
  limit: number,
  input: AttentionPlanInput,
  itemsAt: number,
  indptrAt: number,
  layout: StepMetaLayout,
  words: Uint32Array,
  merge: { rows: number; partialRows: number },
): void {
  const { requests, heads, kvHeads } = input;
  const group = heads / kvHeads;
  const capacity = layout.capacity.attentionWorkgroups;
  const items = countItems(list, limit, kvHeads);
  // Counting sort by workgroup: counts, then starts; while items are placed, indptr[w] runs to the end of list w.
  words.fill(0, indptrAt, indptrAt + capacity + 1);
  for (let item = 0; item < items; item++) words[indptrAt + list.owner[item] + 1]++;
  for (let w = 0; w < capacity; w++) words[indptrAt + w + 1] += words[indptrAt + w];

  let item = 0;
  for (let i = 0; i < list.count; i++) {
    const tile = list.order[i];
    const request = requests[list.request[tile]];
    const firstRow = list.firstRow[tile];
    const kvStart = list.kvStart[tile];
    const kvEnd = list.kvEnd[tile];
    const step = Math.max(chunkLength(kvEnd - kvStart, limit), 1);
    const chunks = chunksOf(list, tile, limit);
    const rows = rowsOf(list, tile, input);
    const partialStart = merge.partialRows;
    for (let chunk = 0; chunk < chunks; chunk++) {
      const start = kvStart + chunk * step;
      const end = Math.min(start + step, kvEnd);
      for (let head = 0; head < kvHeads; head++) {
        const at = itemsAt + words[indptrAt + list.owner[item++]]++ * ITEM_WORDS;
        words[at + ITEM.qoStart] = request.qStart;
        words[at + ITEM.pageStart] = request.pageStart;
        words[at + ITEM.partialStart] = chunks === 1 ? PARTIAL_NONE : partialStart + head * rows * chunks;
        words[at + ITEM.qLen] = request.qLen;
        words[at + ITEM.kvLen] = request.kvLen;
        words[at + ITEM.rowStart] = firstRow;
        words[at + ITEM.kvStart] = start;
        words[at + ITEM.kvEnd] = end;
        words[at + ITEM.kvHead] = head;
        words[at + ITEM.chunkIndex] = chunk;
        words[at + ITEM.chunkCount] = chunks;
        words[at + ITEM.pad] = 0;
      }
    }
    if (chunks === 1) continue;
    for (let head = 0; head < kvHeads; head++) {
      for (let row = firstRow; row < firstRow + rows; row++) {
        const token = Math.floor(row / group);
        words[layout.mergeIndptr + merge.rows] = merge.partialRows;
        words[layout.mergeRow + merge.rows] =
          (request.qStart + token) * heads + head * group + (row - token * group);
        merge.rows++;
        merge.partialRows += chunks;
      }
    }
  }
  // Every start ran on to the end of its list, which is the start of the next: move them back by one.
  words.copyWithin(indptrAt + 1, indptrAt, indptrAt + capacity);
  words[indptrAt] = 0;
}
