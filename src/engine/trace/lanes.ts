/**
 * Order within lanes. On a lane, two spans are apart or one lies in the other; spans that overlap in part go to
 * sub-lanes. Chrome's complete events and every drawing of nested bars need that.
 */
import type { Track } from './trace.ts';

interface SpanColumns {
  ts: ArrayLike<number>;
  dur: ArrayLike<number>;
  track: ArrayLike<number>;
}

/** Row numbers by track, then start, then longest first (an outer span before what it holds), then as they came. */
export function laneOrder({ ts, dur, track }: SpanColumns, rows: number): Uint32Array {
  const order = Uint32Array.from({ length: rows }, (_, row) => row);
  return order.sort((a, b) => track[a] - track[b] || ts[a] - ts[b] || dur[b] - dur[a] || a - b);
}

/** Walks a lane's spans in laneOrder; `fits` says whether the next one is apart from or inside of what is open. */
class Nesting {
  readonly #ends: number[] = [];

  fits(start: number, end: number): boolean {
    while (this.#ends.length > 0 && this.#ends.at(-1)! <= start) this.#ends.pop();
    return this.#ends.length === 0 || end <= this.#ends.at(-1)!;
  }

  open(end: number): void {
    this.#ends.push(end);
  }
}

/**
 * Gives every span a track on which it overlaps no other in part: its own, or a sub-lane that is appended to `tracks`.
 * @returns the track of each span
 */
export function splitLanes(spans: SpanColumns, rows: number, tracks: Track[]): Uint32Array {
  const assigned = Uint32Array.from({ length: rows }, (_, row) => spans.track[row]);
  let lanes: { track: number; nesting: Nesting }[] = [];
  let current = -1;
  for (const row of laneOrder(spans, rows)) {
    const track = spans.track[row];
    if (track !== current) {
      current = track;
      lanes = [{ track, nesting: new Nesting() }];
    }
    const start = spans.ts[row];
    const end = start + spans.dur[row];
    let lane = lanes.find(({ nesting }) => nesting.fits(start, end));
    if (!lane) {
      const { kind, name } = tracks[track];
      lane = { track: tracks.length, nesting: new Nesting() };
      tracks.push({ kind, index: lanes.length, parent: track, name: `${name} (${lanes.length + 1})` });
      lanes.push(lane);
    }
    lane.nesting.open(end);
    assigned[row] = lane.track;
  }
  return assigned;
}

/** First span (in laneOrder) that overlaps an earlier one of its track in part; -1: none. */
export function firstPartialOverlap(spans: SpanColumns, order: ArrayLike<number>): number {
  let nesting = new Nesting();
  for (let i = 0; i < order.length; i++) {
    const row = order[i];
    if (i > 0 && spans.track[order[i - 1]] !== spans.track[row]) nesting = new Nesting();
    const end = spans.ts[row] + spans.dur[row];
    if (!nesting.fits(spans.ts[row], end)) return row;
    nesting.open(end);
  }
  return -1;
}

/** Total length of the union of [start, end) intervals that come sorted by start. */
export class Union {
  busy = 0;
  #end = -Infinity;

  add(start: number, end: number): void {
    if (end <= this.#end) return;
    this.busy += end - Math.max(start, this.#end);
    this.#end = end;
  }
}
