/** Writes tile lists that were cut and dealt out into one attention plan of the metadata. */
import type { TileList } from './attentionTileList.ts';
import type { AttentionRequest, TileRows } from './attentionTiles.ts';
import { ATTENTION_COUNT, ITEM, ITEM_WORDS, PARTIAL_NONE, type AttentionSection } from './stepMeta.ts';

export interface WriteInput {
  requests: readonly AttentionRequest[];
  heads: number;
  kvHeads: number;
  partialBase: number; // first partial row that the plan uses
}

export interface Written {
  items16: number;
  items128: number;
  mergeRows: number;
  partialRows: number;
}

type Lists = Readonly<Record<TileRows, TileList>>;

/** (token, head) rows that are merged, and partial rows, of one list as it is cut. */
export function splitRows(
  list: TileList,
  input: Omit<WriteInput, 'partialBase'>,
): { merged: number; partial: number } {
  const { requests, heads, kvHeads } = input;
  let merged = 0;
  let partial = 0;
  for (let tile = 0; tile < list.count; tile++) {
    const chunks = list.chunks[tile];
    if (chunks === 1) continue;
    const rows = rowsOf(list, tile, requests[list.request[tile]], heads / kvHeads);
    merged += rows;
    partial += rows * chunks;
  }
  return { merged: merged * kvHeads, partial: partial * kvHeads };
}

/**
 * Writes items, indptrs, merge lists and counters of `section`.
 * @throws Error when a part of the section is too small; nothing is written then.
 */
export function writePlan(
  lists: Lists,
  input: WriteInput,
  section: AttentionSection,
  words: Uint32Array,
): Written {
  const { kvHeads, partialBase } = input;
  const items16 = lists[16].chunkTotal * kvHeads;
  const items128 = lists[128].chunkTotal * kvHeads;
  const mergeRows = splitRows(lists[16], input).merged + splitRows(lists[128], input).merged;
  atMost(items16, section.capacity.items16, 'attention items with 16-row tiles', 'items16');
  atMost(items128, section.capacity.items128, 'attention items with 128-row tiles', 'items128');
  atMost(mergeRows, section.capacity.mergeRows, 'merged attention rows', 'mergeRows');

  const merge = { rows: 0, partialRows: partialBase };
  writeList(lists[16], input, section, section.items16, section.workIndptr16, words, merge);
  writeList(lists[128], input, section, section.items128, section.workIndptr128, words, merge);
  words[section.mergeIndptr + merge.rows] = merge.partialRows;
  words[section.counts + ATTENTION_COUNT.items16] = items16;
  words[section.counts + ATTENTION_COUNT.items128] = items128;
  words[section.counts + ATTENTION_COUNT.mergeRows] = merge.rows;
  words[section.counts + ATTENTION_COUNT.chunk16] = items16 === 0 ? 0 : lists[16].limit;
  words[section.counts + ATTENTION_COUNT.chunk128] = items128 === 0 ? 0 : lists[128].limit;
  return { items16, items128, mergeRows, partialRows: merge.partialRows - partialBase };
}

/** @throws Error saying which capacity is too small. */
export function atMost(got: number, expected: number, what: string, remedy: string): void {
  if (got <= expected) return;
  throw new Error(
    `planAttention: got ${got} ${what}, expected at most ${expected}; raise ${remedy} (attentionCapacity gives enough)`,
  );
}

function rowsOf(list: TileList, tile: number, request: AttentionRequest, group: number): number {
  return Math.min(list.rows, request.qLen * group - list.firstRow[tile]);
}

// Names of this module: the loop below runs thousands of times a step.
const WORDS = ITEM_WORDS;
const NONE = PARTIAL_NONE;
const field = { ...ITEM };

let partialStart = new Float64Array(64); // of each tile of the list that is being written

/** Items grouped by workgroup, in the order in which they were dealt out; then the merge rows of split tiles. */
function writeList(
  list: TileList,
  { requests, heads, kvHeads }: WriteInput,
  section: AttentionSection,
  itemsAt: number,
  indptrAt: number,
  words: Uint32Array,
  merge: { rows: number; partialRows: number },
): void {
  const group = heads / kvHeads;
  if (partialStart.length < list.count) partialStart = new Float64Array(list.count * 2);
  for (let tile = 0; tile < list.count; tile++) {
    const chunks = list.chunks[tile];
    if (chunks === 1) continue;
    partialStart[tile] = merge.partialRows;
    const firstRow = list.firstRow[tile];
    const request = requests[list.request[tile]];
    const endRow = firstRow + rowsOf(list, tile, request, group);
    for (let head = 0; head < kvHeads; head++) {
      for (let row = firstRow; row < endRow; row++) {
        const token = Math.floor(row / group);
        words[section.mergeIndptr + merge.rows] = merge.partialRows;
        words[section.mergeRow + merge.rows] =
          (request.qStart + token) * heads + head * group + (row - token * group);
        merge.rows++;
        merge.partialRows += chunks;
      }
    }
  }

  const capacity = section.capacity.attentionWorkgroups;
  const { order, owner } = list.dealt[list.chosen];
  const items = list.chunkTotal * kvHeads;
  // Counting sort by workgroup: counts, then starts; while items are placed, indptr[w] runs to the end of list w.
  words.fill(0, indptrAt, indptrAt + capacity + 1);
  for (let item = 0; item < items; item++) words[indptrAt + owner[item] + 1]++;
  for (let w = 0; w < capacity; w++) words[indptrAt + w + 1] += words[indptrAt + w];
  for (let i = 0; i < list.chunkTotal; i++) {
    const chunk = order[i];
    const tile = list.chunkTile[chunk];
    const chunks = list.chunks[tile];
    const request = requests[list.request[tile]];
    const rows = rowsOf(list, tile, request, group);
    const { qStart, pageStart, qLen, kvLen } = request;
    const firstRow = list.firstRow[tile];
    const start = list.chunkStart[chunk];
    const end = list.chunkEnd[chunk];
    const index = chunk - list.firstChunk[tile];
    const partial = partialStart[tile];
    for (let head = 0; head < kvHeads; head++) {
      const at = itemsAt + words[indptrAt + owner[chunk * kvHeads + head]]++ * WORDS;
      words[at + field.qoStart] = qStart;
      words[at + field.pageStart] = pageStart;
      words[at + field.partialStart] = chunks === 1 ? NONE : partial + head * rows * chunks;
      words[at + field.qLen] = qLen;
      words[at + field.kvLen] = kvLen;
      words[at + field.rowStart] = firstRow;
      words[at + field.kvStart] = start;
      words[at + field.kvEnd] = end;
      words[at + field.kvHead] = head;
      words[at + field.chunkIndex] = index;
      words[at + field.chunkCount] = chunks;
      words[at + field.pad] = 0;
    }
  }
  // Every start ran on to the end of its list, which is the start of the next: move them back by one.
  words.copyWithin(indptrAt + 1, indptrAt, indptrAt + capacity);
  words[indptrAt] = 0;
}
