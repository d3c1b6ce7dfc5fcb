/**
 * A dense batch by its make-up: everything that the cost of a step depends on, as sums over its rows. A nano-operation
 * gets its part in proportion to its rows (requests of a batch are taken as alike), so that a step can be priced
 * without walking its rows for each nano-operation.
 */
import type { Work } from '../../model/graph.ts';
import { decodeRowsIn, type BatchRows } from '../../pipeline/arrangement.ts';
import type { Segment } from '../../schedule/scheduler.ts';

export type BatchMix = Work;

export function emptyMix(): BatchMix {
  return { tokens: 0, decodeTokens: 0, decodeKv: 0, prefillKv: 0, prefillPairs: 0, samples: 0 };
}

/** The make-up of a batch. Decode rows are those of the leading one-token segments, as for real devices. */
export function mixOf(batch: { segments: readonly Segment[] }): BatchMix {
  const mix = emptyMix();
  let decoding = true;
  for (const { start, count, sample } of batch.segments) {
    if (count > 1) decoding = false;
    mix.tokens += count;
    if (sample) mix.samples++;
    if (decoding) {
      mix.decodeTokens++;
      mix.decodeKv += start + 1;
    } else {
      mix.prefillKv += start + count;
      mix.prefillPairs += pairs(start, count);
    }
  }
  return mix;
}

/** (query, key) pairs of a causal chunk of `count` tokens behind `start` others. */
export function pairs(start: number, count: number): number {
  return count * start + (count * (count + 1)) / 2;
}

/** Fills `work` with the part of a mix that lies in token rows [start, end); `rows`: how they stand. */
export function workOfRange(
  mix: BatchMix,
  start: number,
  end: number,
  work: Work,
  rows: BatchRows = mix,
): Work {
  const decodeTokens = decodeRowsIn(rows, [start, end]);
  const decodePart = mix.decodeTokens > 0 ? decodeTokens / mix.decodeTokens : 0;
  const prefill = mix.tokens - mix.decodeTokens;
  const prefillPart = prefill > 0 ? (end - start - decodeTokens) / prefill : 0;
  work.tokens = end - start;
  work.decodeTokens = decodeTokens;
  work.decodeKv = mix.decodeKv * decodePart;
  work.prefillKv = mix.prefillKv * prefillPart;
  work.prefillPairs = mix.prefillPairs * prefillPart;
  work.samples = (mix.samples * (end - start)) / mix.tokens;
  return work;
}

/**
 * The mean batch of the steady state of a workload with constant lengths: `tokens` rows of which a share
 * output / (input + output) decodes, each with `input + output / 2` KV tokens; whole prompts fill the rest.
 * `kvTokens`: room for keys and values; when the decoding requests do not fit, the batch is smaller.
 */
export function steadyMix(input: number, output: number, tokens: number, kvTokens = Infinity): BatchMix {
  const context = input + output / 2;
  const wanted = Math.round((tokens * output) / (input + output));
  // Requests in prefill hold half their prompt on average; there are few of them.
  const decodeTokens = Math.min(wanted, Math.floor(kvTokens / context));
  const prefill = wanted === decodeTokens ? tokens - wanted : Math.round((decodeTokens * input) / output);
  const prompts = prefill / input;
  return {
    tokens: decodeTokens + prefill,
    decodeTokens,
    decodeKv: decodeTokens * context,
    prefillKv: prefill,
    prefillPairs: prompts * pairs(0, input),
    samples: decodeTokens + Math.round(prompts),
  };
}
