import type { TileRows } from './attentionTiles.ts';

/** The query tiles of one size with their KV ranges, in arrays that grow and are reused from step to step. */
export class TileList {
  readonly rows: TileRows;
  count = 0;
  /** KV tokens of all tiles, for one KV head. */
  kvTokens = 0;
  request = new Int32Array(64);
  firstRow = new Int32Array(64);
  kvStart = new Int32Array(64);
  kvEnd = new Int32Array(64);
  order = new Float64Array(64);
  /** Workgroup of each item, in the order of the enumeration. */
  owner = new Int32Array(64);
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
      this.order = new Float64Array(size);
    }
    const tile = this.count++;
    this.request[tile] = request;
    this.firstRow[tile] = firstRow;
    this.kvStart[tile] = kvStart;
    this.kvEnd[tile] = kvEnd;
    this.kvTokens += kvEnd - kvStart;
  }

  /** Longest first: greedy assignment in this order stays within 4/3 of the best one (Graham 1969). */
  sort(): void {
    for (let tile = 0; tile < this.count; tile++) {
      this.order[tile] = tile - (this.kvEnd[tile] - this.kvStart[tile]) * this.count;
    }
    const order = this.order.subarray(0, this.count).sort();
    for (let i = 0; i < this.count; i++) {
      const key = order[i];
      order[i] = key - Math.floor(key / this.count) * this.count;
    }
  }
}

function grown(from: Int32Array<ArrayBuffer>, size: number): Int32Array<ArrayBuffer> {
  const to = new Int32Array(size);
  to.set(from);
  return to;
}
