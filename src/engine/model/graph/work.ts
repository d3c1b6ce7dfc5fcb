/** What an operation over some rows of a batch is asked to do. */
import type { Work } from '../graph.ts';

/** Tokens [start, start + count) of one request; the batch's rows are the segments' tokens, one after the other. */
export interface WorkSegment {
  start: number;
  count: number;
  sample: boolean; // its last row gets logits
}

/**
 * Work of rows [start, end) of a batch. Decode rows are those of the leading one-token segments; a row at position p
 * attends to p + 1 tokens, and a chunk that the range cuts reads the keys up to its last row in the range.
 */
export function workOf(
  [start, end]: readonly [start: number, end: number],
  segments: readonly WorkSegment[],
): Work {
  const work: Work = { tokens: 0, decodeTokens: 0, decodeKv: 0, prefillKv: 0, prefillPairs: 0, samples: 0 };
  let row = 0;
  let decoding = true;
  for (const { start: position, count, sample } of segments) {
    if (count > 1) decoding = false;
    const first = Math.max(start, row);
    const stop = Math.min(end, row + count);
    if (first < stop) {
      const rows = stop - first;
      const keys = position + stop - row;
      work.tokens += rows;
      if (decoding) {
        work.decodeTokens += rows;
        work.decodeKv += keys;
      } else {
        work.prefillKv += keys;
        work.prefillPairs += rows * keys - (rows * (rows - 1)) / 2;
      }
      if (sample && stop === row + count) work.samples++;
    }
    row += count;
  }
  return work;
}
