/**
 * The attention work plan of a step: which workgroup computes which (query tile, KV chunk, KV head), and which partial
 * results are merged. A two-stage plan after FlashInfer's holistic persistent attention (scheduler.cuh):
 *
 *   1. cut every request into tiles of packed query rows;
 *   2. cut KV ranges above a fair share of the work into chunks (attentionTiles.ts: chunkLimit);
 *   3. give each (tile, chunk, KV head) to the workgroup with the least work so far (a min-heap);
 *   4. write the items grouped by workgroup, and for split tiles the rows that `merge` combines.
 *
 * Runs on the CPU every step: typed scratch arrays that are reused, no object for an item.
 */
import {
  canSplitFurther,
  chunkLimit,
  coarserLimit,
  FINEST_SPLIT,
  tileFor,
  visibleEnd,
  visibleStart,
} from './attentionTiles.ts';
import { sliceRequests } from './attentionSlice.ts';
import { TileList, type DealOrder } from './attentionTileList.ts';
import type { AttentionRequest, TileRows } from './attentionTiles.ts';
import { atMost, splitRows, writePlan, type Written } from './attentionWrite.ts';
import type { AttentionSection } from './stepMeta.ts';
import { WorkHeap } from './workHeap.ts';

export { attentionCapacity } from './attentionCapacity.ts';
export { printPlan } from './attentionPrint.ts';
export { sliceRequests } from './attentionSlice.ts';
export type { DealOrder } from './attentionTileList.ts';
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
  /**
   * In which order chunks are dealt out: 'given' as FlashInfer does, request after request; 'largest' first; 'best'
   * (default): largest first, and where that leaves more than 10 % imbalance the better of both.
   */
  order?: DealOrder | 'best';
  /** Token rows [start, end) of the dense batch that the plan is for (sliceRequests); default all. */
  rows?: readonly [start: number, end: number];
  /** First row of the partial results that this plan may use: plans that run side by side share one buffer. */
  partialBase?: number;
  /** Rows from there on that it may use; where they do not suffice it splits less. Default: no limit. */
  partialCapacity?: number;
}

/** What planAttention wrote, for logs, tests and the caller's buffer checks. */
export interface AttentionPlan extends Written {
  partialBytes: number; // bytes of the partial rows, from partialBase on
  chunk16: number; // KV tokens that an item covers at most; 0 without items
  chunk128: number;
  /** Heaviest workgroup's work over the mean, the worse of both dispatches; 1 is perfect. */
  imbalance: number;
  /** The order that was taken for each tile size. */
  order: Record<TileRows, DealOrder>;
}

/** A schedule within this factor of perfect balance is not worth another order or finer chunks. */
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
  const { heads, kvHeads, headDim, workgroups, together, rows, order = 'best' } = input;
  const { partialBase = 0, partialCapacity = Infinity } = input;
  check(input, section, words);
  const requests = rows ? sliceRequests(input.requests, rows[0], rows[1]) : input.requests;
  cutTiles(lists, requests, input);
  // Lists that one heap balances. The long tiles go first and the short ones fill the gaps.
  const dispatches = together ? [[lists[128], lists[16]]] : [[lists[16]], [lists[128]]];
  let imbalance = 1;
  for (const active of dispatches) {
    imbalance = Math.max(imbalance, chunksAndOwners(active, kvHeads, workgroups, order));
  }
  const writing = { requests, heads, kvHeads, partialBase };
  if (splitLess(writing, partialCapacity)) {
    imbalance = 1;
    for (const active of dispatches)
      imbalance = Math.max(imbalance, deal(active, kvHeads, workgroups, order));
  }
  const written = writePlan(lists, writing, section, words);
  return {
    ...written,
    partialBytes: written.partialRows * (headDim + 1) * 4,
    chunk16: written.items16 === 0 ? 0 : lists[16].limit,
    chunk128: written.items128 === 0 ? 0 : lists[128].limit,
    imbalance,
    order: { 16: lists[16].chosen, 128: lists[128].chosen },
  };
}

/** Cuts chunks of a fair share, finer ones where shares do not balance, and deals them out. Returns the imbalance. */
function chunksAndOwners(
  active: readonly TileList[],
  kvHeads: number,
  workgroups: number,
  order: DealOrder | 'best',
): number {
  const total = active.reduce((sum, list) => sum + list.kvTokens, 0) * kvHeads;
  for (let split = 1; ; split *= 4) {
    for (const list of active) {
      list.cut(chunkLimit(total, workgroups, list.rows, Math.min(split, FINEST_SPLIT[list.rows])));
    }
    const imbalance = deal(active, kvHeads, workgroups, order);
    const finer = active.some((list) => canSplitFurther(list.rows, list.limit, split));
    if (imbalance <= GOOD_BALANCE || !finer) return wholeTiles(active, imbalance, kvHeads, workgroups, order);
  }
}

/**
 * Leaves the long tiles whole where that is as fast: a few hundred prompt tokens make fewer tiles than there are
 * workgroups, and two halves for one of them take longer than the whole. Beside short tiles in one dispatch, which fill
 * the gaps, parts are better. Returns the imbalance.
 */
function wholeTiles(
  active: readonly TileList[],
  imbalance: number,
  kvHeads: number,
  workgroups: number,
  order: DealOrder | 'best',
): number {
  const [long] = active;
  if (active.length > 1 || long.rows !== 128 || long.chunkTotal === long.count) return imbalance;
  const { limit } = long;
  const cut = heap.largest + long.joinCost;
  long.cutNothing();
  const whole = deal(active, kvHeads, workgroups, order);
  if (heap.largest <= cut) return whole;
  long.cut(limit);
  return deal(active, kvHeads, workgroups, order);
}

/** Gives every chunk and KV head its workgroup. Returns the imbalance. */
function deal(
  active: readonly TileList[],
  kvHeads: number,
  workgroups: number,
  order: DealOrder | 'best',
): number {
  const by = (one: DealOrder): number => {
    heap.reset(workgroups);
    for (const list of active) list.deal(one, heap, kvHeads);
    return heap.imbalance();
  };
  if (order !== 'best') return by(order);
  const largest = by('largest');
  if (largest <= GOOD_BALANCE) return largest;
  const given = by('given');
  if (given < largest) return given;
  for (const list of active) list.chosen = 'largest';
  return largest;
}

/** Cuts longer chunks until the partial rows fit; uncut tiles have none. Returns whether it had to. */
function splitLess(
  writing: { requests: readonly AttentionRequest[]; heads: number; kvHeads: number },
  partialCapacity: number,
): boolean {
  for (let changed = false; ; changed = true) {
    const few = splitRows(lists[16], writing).partial;
    const many = splitRows(lists[128], writing).partial;
    if (few + many <= Math.max(0, partialCapacity)) return changed;
    const list = few > many ? lists[16] : lists[128];
    list.cut(coarserLimit(list.limit));
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
  atMost(workgroups, capacity.attentionWorkgroups, 'attention workgroups', 'attentionWorkgroups');
  atMost(end, words.length, 'metadata words', 'the metadata array');
  for (const request of input.requests) {
    const { qStart, qLen, kvLen, pageStart } = request;
    if (!(isCount(qStart) && isCount(qLen) && isCount(kvLen) && isCount(pageStart))) {
      throw new Error(
        `planAttention: got a request with qStart ${qStart}, qLen ${qLen}, kvLen ${kvLen}, pageStart ${pageStart}, ` +
          'expected whole numbers >= 0; check the batch that the scheduler made',
      );
    }
    if (qLen === 0) continue;
    atMost(qStart + qLen, capacity.tokens, 'token rows', 'tokens');
    const lastPage = pageStart + Math.ceil(kvLen / input.pageSize);
    atMost(lastPage, capacity.pages, 'entries of page tables', 'pages');
  }
}

function isCount(value: number): boolean {
  return (value | 0) === value && value >= 0;
}

/** Cuts the requests into tiles of packed query rows. */
export function cutTiles(
  into: Readonly<Record<TileRows, TileList>>,
  requests: readonly AttentionRequest[],
  { heads, kvHeads, slidingWindow = 0, tiles = TILES }: Omit<AttentionPlanInput, 'requests'>,
): void {
  const group = heads / kvHeads;
  into[16].clear();
  into[128].clear();
  for (let index = 0; index < requests.length; index++) {
    const request = requests[index];
    const packed = request.qLen * group;
    const list = into[tileFor(packed, tiles)];
    for (let row = 0; row < packed; row += list.rows) {
      const firstToken = Math.floor(row / group);
      const lastToken = Math.floor((Math.min(row + list.rows, packed) - 1) / group);
      const kvEnd = visibleEnd(request, lastToken);
      const kvStart = Math.min(visibleStart(request, firstToken, slidingWindow), kvEnd);
      list.add(index, row, kvStart, kvEnd);
    }
  }
}
