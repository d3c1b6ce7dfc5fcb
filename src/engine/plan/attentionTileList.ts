/** Query tiles of one size and the KV chunks they are cut into, in arrays that grow and are reused from step to step. */
import { chunkCount, chunkLength, type TileRows } from './attentionTiles.ts';
import type { WorkHeap } from './workHeap.ts';

/** In which order chunks are dealt out: as the requests stand in the batch, or the most expensive first. */
export type DealOrder = 'given' | 'largest';

export class TileList {
  readonly rows: TileRows;
  /** Tiles, in the order of the requests. */
  count = 0;
  /** KV tokens of all tiles, for one KV head. */
  kvTokens = 0;
  request = new Int32Array(64);
  firstRow = new Int32Array(64);
  kvStart = new Int32Array(64);
  kvEnd = new Int32Array(64);
  /** KV chunks that each tile is cut into, at least 1. */
  chunks = new Int32Array(64);
  firstChunk = new Int32Array(64);

  /** The longest chunk that the last cut allowed. */
  limit = 0;
  /** Chunks of all tiles, tile after tile. */
  chunkTotal = 0;
  chunkTile = new Int32Array(64);
  chunkStart = new Int32Array(64);
  chunkEnd = new Int32Array(64);
  /** Chunks in the order in which they were dealt out, and the workgroup of each (chunk, KV head). */
  readonly dealt: Record<DealOrder, { order: Float64Array; owner: Int32Array }> = {
    given: { order: new Float64Array(64), owner: new Int32Array(64) },
    largest: { order: new Float64Array(64), owner: new Int32Array(64) },
  };
  /** Which of both deals the plan takes. */
  chosen: DealOrder = 'given';

  constructor(rows: TileRows) {
    this.rows = rows;
  }

  clear(): void {
    this.count = 0;
    this.kvTokens = 0;
  }

  add(request: number, firstRow: number, kvStart: number, kvEnd: number): void {
    if (this.count === this.request.length) {
      const size = this.count * 2;
      this.request = grown(this.request, size);
      this.firstRow = grown(this.firstRow, size);
      this.kvStart = grown(this.kvStart, size);
      this.kvEnd = grown(this.kvEnd, size);
      this.chunks = new Int32Array(size);
      this.firstChunk = new Int32Array(size);
    }
    const tile = this.count++;
    this.request[tile] = request;
    this.firstRow[tile] = firstRow;
    this.kvStart[tile] = kvStart;
    this.kvEnd[tile] = kvEnd;
    this.kvTokens += kvEnd - kvStart;
  }

  /** Cuts every tile into chunks of at most `limit` KV tokens; a tile that sees nothing is one empty chunk. */
  cut(limit: number): void {
    this.limit = limit;
    let at = 0;
    for (let tile = 0; tile < this.count; tile++) {
      const end = this.kvEnd[tile];
      const length = end - this.kvStart[tile];
      const step = chunkLength(length, limit);
      const chunks = chunkCount(length, limit);
      this.chunks[tile] = chunks;
      this.firstChunk[tile] = at;
      while (at + chunks > this.chunkTile.length) this.growChunks();
      let start = this.kvStart[tile];
      for (let chunk = 0; chunk < chunks; chunk++) {
        this.chunkTile[at] = tile;
        this.chunkStart[at] = start;
        start = Math.min(start + step, end);
        this.chunkEnd[at++] = start;
      }
    }
    this.chunkTotal = at;
  }

  /** Leaves every tile whole. */
  cutNothing(): void {
    let longest = 1;
    for (let tile = 0; tile < this.count; tile++) {
      longest = Math.max(longest, this.kvEnd[tile] - this.kvStart[tile]);
    }
    this.cut(longest);
  }

  /** What writing and merging the partial rows of cut tiles adds to a plan's length, in KV tokens as cost(). */
  get joinCost(): number {
    return 2 * this.rows;
  }

  /** FlashInfer's cost of a chunk: its KV tokens, and a fixed part for loading queries and writing rows. */
  cost(chunk: number): number {
    return 2 * this.rows + this.chunkEnd[chunk] - this.chunkStart[chunk];
  }

  /** Gives each (chunk, KV head), in the wanted order, to the workgroup with the least work in `heap`. */
  deal(by: DealOrder, heap: WorkHeap, kvHeads: number): void {
    const { chunkTotal, dealt } = this;
    const items = chunkTotal * kvHeads;
    if (dealt[by].owner.length < items) dealt[by].owner = new Int32Array(items * 2);
    if (dealt[by].order.length < chunkTotal) dealt[by].order = new Float64Array(chunkTotal * 2);
    const { order, owner } = dealt[by];
    this.sort(by, order.subarray(0, chunkTotal));
    for (let i = 0; i < chunkTotal; i++) {
      const chunk = order[i];
      const cost = this.cost(chunk);
      for (let head = 0; head < kvHeads; head++) owner[chunk * kvHeads + head] = heap.assign(cost);
    }
    this.chosen = by;
  }

  /**
   * Largest first: greedy assignment in this order stays within 4/3 of the best one (Graham 1969). Equal costs keep the
   * order of the requests.
   */
  private sort(by: DealOrder, order: Float64Array): void {
    if (by === 'given') {
      for (let chunk = 0; chunk < order.length; chunk++) order[chunk] = chunk;
      return;
    }
    // Cost and index in one number, so that the sort needs no comparison function.
    const count = order.length;
    for (let chunk = 0; chunk < count; chunk++) order[chunk] = chunk - this.cost(chunk) * count;
    order.sort();
    for (let i = 0; i < count; i++) order[i] -= Math.floor(order[i] / count) * count;
  }

  private growChunks(): void {
    const size = this.chunkTile.length * 2;
    this.chunkTile = grown(this.chunkTile, size);
    this.chunkStart = grown(this.chunkStart, size);
    this.chunkEnd = grown(this.chunkEnd, size);
  }
}

function grown(from: Int32Array<ArrayBuffer>, size: number): Int32Array<ArrayBuffer> {
  const to = new Int32Array(size);
  to.set(from);
  return to;
}
