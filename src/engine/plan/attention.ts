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
  coarserLimit,
  chunkLength,
  chunkLimit,
  FINEST_SPLIT,
  tileFor,
  visibleEnd,
  visibleStart,
} from './attentionTiles.ts';
import { TileList } from './attentionTileList.ts';
import type { AttentionRequest, TileRows } from './attentionTiles.ts';
import { sliceRequests } from './attentionSlice.ts';
import { ATTENTION_COUNT, ITEM, ITEM_WORDS, PARTIAL_NONE } from './stepMeta.ts';
import type { AttentionSection } from './stepMeta.ts';
import { WorkHeap } from './workHeap.ts';

export { attentionCapacity } from './attentionCapacity.ts';
export { printPlan } from './attentionPrint.ts';
export { sliceRequests } from './attentionSlice.ts';
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
  /** Token rows [start, end) of the dense batch that the plan is for (sliceRequests); default all. */
  rows?: readonly [start: number, end: number];
  /** First row of the partial results that this plan may use: plans that run side by side share one buffer. */
  partialBase?: number;
  /** Rows from there on that it may use; where they do not suffice it splits less. Default: no limit. */
  partialCapacity?: number;
}

/** What planAttention wrote, for logs, tests and the caller's buffer checks. */
export interface AttentionPlan {
  items16: number;
  items128: number;
  mergeRows: number;
  partialRows: number; // rows of partialOut and partialLse in use, from partialBase on
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
 * Plans attention for one step, or for the token rows of one nano-batch, and writes one plan of the metadata: items,
 * indptrs, merge lists and counters of `section` (layout.attention[slot]). Lists beyond `workgroups`, up to the
 * section's attentionWorkgroups, are left empty, so a dispatch of any size may stride over all of them.
 *
 * @throws Error when a part of the section is too small; nothing is written then.
 */
export function planAttention(
  input: AttentionPlanInput,
  section: AttentionSection,
  words: Uint32Array,
): AttentionPlan {
  const { kvHeads, workgroups, together = false, rows, partialBase = 0, partialCapacity = Infinity } = input;
  check(input, section, words);
  const requests = rows ? sliceRequests(input.requests, rows[0], rows[1]) : input.requests;
  cut(requests, input);
  const limits: Record<TileRows, number> = { 16: 0, 128: 0 };
  let imbalance = 1;
  const total = (lists[16].kvTokens + lists[128].kvTokens) * kvHeads;
  if (together) {
    for (let split = 1; ; split *= 4) {
      for (const tile of TILES) {
        limits[tile] = chunkLimit(total, workgroups, tile, Math.min(split, FINEST_SPLIT[tile]));
      }
      imbalance = assignBoth(limits, kvHeads, workgroups);
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
  if (splitLess(limits, requests, input, partialCapacity)) {
    imbalance = 1;
    if (together) imbalance = assignBoth(limits, kvHeads, workgroups);
    for (const tile of together ? [] : TILES) {
      heap.reset(workgroups);
      assign(lists[tile], limits[tile], kvHeads);
      imbalance = Math.max(imbalance, heap.imbalance());
    }
  }
  const items16 = countItems(lists[16], limits[16], kvHeads);
  const items128 = countItems(lists[128], limits[128], kvHeads);
  const mergeRows =
    countRows(16, limits, requests, input).merged + countRows(128, limits, requests, input).merged;
  require(items16, section.capacity.items16, 'attention items with 16-row tiles', 'items16');
  require(items128, section.capacity.items128, 'attention items with 128-row tiles', 'items128');
  require(mergeRows, section.capacity.mergeRows, 'merged attention rows', 'mergeRows');

  const merge = { rows: 0, partialRows: partialBase };
  write(lists[16], limits[16], requests, input, section.items16, section.workIndptr16, section, words, merge);
  write(
    lists[128],
    limits[128],
    requests,
    input,
    section.items128,
    section.workIndptr128,
    section,
    words,
    merge,
  );
  words[section.mergeIndptr + merge.rows] = merge.partialRows;
  const chunk16 = items16 === 0 ? 0 : limits[16];
  const chunk128 = items128 === 0 ? 0 : limits[128];
  words[section.counts + ATTENTION_COUNT.items16] = items16;
  words[section.counts + ATTENTION_COUNT.items128] = items128;
  words[section.counts + ATTENTION_COUNT.mergeRows] = merge.rows;
  words[section.counts + ATTENTION_COUNT.chunk16] = chunk16;
  words[section.counts + ATTENTION_COUNT.chunk128] = chunk128;
  const partialRows = merge.partialRows - partialBase;
  return {
    items16,
    items128,
    mergeRows,
    partialRows,
    partialBytes: partialRows * (input.headDim + 1) * 4,
    chunk16,
    chunk128,
    imbalance,
  };
}

/** One heap for both tile sizes: long tiles first. Returns the imbalance. */
function assignBoth(limits: Record<TileRows, number>, kvHeads: number, workgroups: number): number {
  heap.reset(workgroups);
  for (const tile of [128, 16] as const) assign(lists[tile], limits[tile], kvHeads);
  return heap.imbalance();
}

/** Raises limits until the partial rows fit; without splits there are none. Returns whether it had to. */
function splitLess(
  limits: Record<TileRows, number>,
  requests: readonly AttentionRequest[],
  input: AttentionPlanInput,
  partialCapacity: number,
): boolean {
  for (let changed = false; ; changed = true) {
    const few = countRows(16, limits, requests, input).partial;
    const many = countRows(128, limits, requests, input).partial;
    if (few + many <= Math.max(0, partialCapacity)) return changed;
    const tile = few > many ? 16 : 128;
    limits[tile] = coarserLimit(limits[tile]);
  }
}

function check(input: AttentionPlanInput, { capacity, end }: AttentionSection, words: Uint32Array): void {
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
  require(workgroups, capacity.attentionWorkgroups, 'attention workgroups', 'attentionWorkgroups');
  require(end, words.length, 'metadata words', 'the metadata array');
  for (const request of input.requests) {
    const { qStart, qLen, kvLen, pageStart } = request;
    if (!(qStart >= 0 && qLen >= 0 && kvLen >= 0 && pageStart >= 0)) {
      throw new Error(
        `planAttention: got a request with qStart ${qStart}, qLen ${qLen}, kvLen ${kvLen}, pageStart ${pageStart}, ` +
          'expected all >= 0; check the batch that the scheduler made',
      );
    }
    if (qLen === 0) continue;
    require(qStart + qLen, capacity.tokens, 'token rows', 'tokens');
    const lastPage = pageStart + Math.ceil(kvLen / input.pageSize);
    require(lastPage, capacity.pages, 'entries of page tables', 'pages');
  }
}

function require(got: number, expected: number, what: string, remedy: string): void {
  if (got <= expected) return;
  throw new Error(
    `planAttention: got ${got} ${what}, expected at most ${expected}; raise ${remedy} (attentionCapacity gives enough)`,
  );
}

/** Fills the tile lists from the requests. */
function cut(requests: readonly AttentionRequest[], input: AttentionPlanInput): void {
  const { heads, kvHeads, slidingWindow = 0, tiles = TILES } = input;
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

function rowsOf(list: TileList, tile: number, request: AttentionRequest, group: number): number {
  return Math.min(list.rows, request.qLen * group - list.firstRow[tile]);
}

/** (token, head) rows that are merged, and partial rows, of one tile size. */
function countRows(
  size: TileRows,
  limits: Record<TileRows, number>,
  requests: readonly AttentionRequest[],
  { heads, kvHeads }: AttentionPlanInput,
): { merged: number; partial: number } {
  const list = lists[size];
  let merged = 0;
  let partial = 0;
  for (let tile = 0; tile < list.count; tile++) {
    const chunks = chunksOf(list, tile, limits[size]);
    if (chunks === 1) continue;
    const rows = rowsOf(list, tile, requests[list.request[tile]], heads / kvHeads);
    merged += rows;
    partial += rows * chunks;
  }
  return { merged: merged * kvHeads, partial: partial * kvHeads };
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
  requests: readonly AttentionRequest[],
  { heads, kvHeads }: AttentionPlanInput,
  itemsAt: number,
  indptrAt: number,
  section: AttentionSection,
  words: Uint32Array,
  merge: { rows: number; partialRows: number },
): void {
  const group = heads / kvHeads;
  const capacity = section.capacity.attentionWorkgroups;
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
    const rows = rowsOf(list, tile, request, group);
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
        words[section.mergeIndptr + merge.rows] = merge.partialRows;
        words[section.mergeRow + merge.rows] =
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
