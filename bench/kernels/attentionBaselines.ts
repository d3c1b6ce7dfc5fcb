/** The schedules that the attention plan is compared with, written as plans that the same kernels carry out. */
import { cutTiles, type AttentionPlanInput } from '../../src/engine/plan/attention.ts';
import { TileList } from '../../src/engine/plan/attentionTileList.ts';
import type { TileRows } from '../../src/engine/plan/attentionTiles.ts';
import { writePlan, type Written } from '../../src/engine/plan/attentionWrite.ts';
import type { AttentionSection } from '../../src/engine/plan/stepMeta.ts';
import { WorkHeap } from '../../src/engine/plan/workHeap.ts';

export interface Baseline extends Written {
  /** Heaviest workgroup's work over the mean, the worse of both tile sizes, for the budget of the plan. */
  imbalance: number;
  /** Workgroups of each dispatch. */
  workgroups: Record<TileRows, number>;
}

/**
 * No splitting: a workgroup for each (query tile, KV head), so one for each (request, KV head) of a decode batch.
 * `oneEach`: as many workgroups as that takes, which the device fits in as others end; otherwise the budget's
 * workgroups take turns.
 */
export function planWhole(
  input: AttentionPlanInput,
  oneEach: boolean,
  section: AttentionSection,
  words: Uint32Array,
): Baseline {
  return planBy(input, Infinity, oneEach, section, words);
}

/** KV ranges in chunks of exactly `chunk` tokens, dealt out to the budget's workgroups in turns. */
export function planFixed(
  input: AttentionPlanInput,
  chunk: number,
  section: AttentionSection,
  words: Uint32Array,
): Baseline {
  return planBy(input, chunk, false, section, words);
}

function planBy(
  input: AttentionPlanInput,
  chunk: number,
  oneEach: boolean,
  section: AttentionSection,
  words: Uint32Array,
): Baseline {
  const { requests, heads, kvHeads, workgroups: budget } = input;
  const lists = { 16: new TileList(16), 128: new TileList(128) };
  cutTiles(lists, requests, input);
  let imbalance = 1;
  const workgroups: Record<TileRows, number> = { 16: 1, 128: 1 };
  for (const list of Object.values(lists)) {
    cutExactly(list, chunk);
    const items = list.chunkTotal * kvHeads;
    const lists = oneEach ? Math.max(1, items) : budget;
    workgroups[list.rows] = lists;
    const order = Float64Array.from({ length: list.chunkTotal }, (_, i) => i);
    list.dealt.given = { order, owner: Int32Array.from({ length: items }, (_, item) => item % lists) };
    list.chosen = 'given';
    imbalance = Math.max(imbalance, imbalanceOf(list, kvHeads, budget, oneEach));
  }
  const written = writePlan(lists, { requests, heads, kvHeads, partialBase: 0 }, section, words);
  return { ...written, imbalance, workgroups };
}

/** Workgroups beyond the budget start as others end, which is what a heap does with items in the given order. */
function imbalanceOf(list: TileList, kvHeads: number, budget: number, oneEach: boolean): number {
  if (list.chunkTotal === 0) return 1;
  const heap = new WorkHeap();
  heap.reset(budget);
  const loads = new Float64Array(budget);
  let total = 0;
  for (let item = 0; item < list.chunkTotal * kvHeads; item++) {
    const cost = list.cost(Math.floor(item / kvHeads));
    heap.assign(cost);
    loads[item % budget] += cost;
    total += cost;
  }
  return oneEach ? heap.imbalance() : (Math.max(...loads) * budget) / total;
}

function cutExactly(list: TileList, chunk: number): void {
  const tiles: number[] = [];
  const starts: number[] = [];
  const ends: number[] = [];
  for (let tile = 0; tile < list.count; tile++) {
    list.firstChunk[tile] = tiles.length;
    let start = list.kvStart[tile];
    do {
      const end = Math.min(start + chunk, list.kvEnd[tile]);
      tiles.push(tile);
      starts.push(start);
      ends.push(end);
      start = end;
    } while (start < list.kvEnd[tile]);
    list.chunks[tile] = tiles.length - list.firstChunk[tile];
  }
  list.limit = Math.min(chunk, 2 ** 31);
  list.chunkTotal = tiles.length;
  list.chunkTile = Int32Array.from(tiles);
  list.chunkStart = Int32Array.from(starts);
  list.chunkEnd = Int32Array.from(ends);
}
