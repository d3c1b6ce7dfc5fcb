/** Sampling parameters of the batch's rows, written into the step metadata (layout: plan/stepMeta.ts). */
import {
  ADJUST,
  ADJUST_WORDS,
  LOGPROBS_OFF,
  SAMPLE,
  SAMPLE_WORDS,
  type StepMetaLayout,
} from '../plan/stepMeta.ts';
import type { Request } from './request.ts';

/** The metadata as words and, over the same bytes, as floats. */
export interface MetaWords {
  u32: Uint32Array;
  f32: Float32Array;
}

interface Adjustment {
  outputCount: number;
  inPrompt: boolean;
  bias: number;
}

/** Tokens that the row's logits are changed for, with what is needed to change them. */
function adjustments(request: Request, endTokens: readonly number[]): Map<number, Adjustment> {
  const result = new Map<number, Adjustment>();
  for (const [token, seen] of request.seen ?? []) result.set(token, { ...seen, bias: 0 });
  const addBias = (token: number, bias: number): void => {
    const entry = result.get(token);
    if (entry) entry.bias += bias;
    else result.set(token, { outputCount: 0, inPrompt: false, bias });
  };
  for (const [token, bias] of request.ask.sampling.logitBias) addBias(token, bias);
  const { minTokens, stopTokenIds } = request.ask.stop;
  if (request.outputLength < minTokens) {
    for (const token of new Set([...endTokens, ...stopTokenIds])) addBias(token, -Infinity);
  }
  return result;
}

/**
 * Writes one row for each request, in order.
 * @throws Error when the adjustments of all rows do not fit; nothing is written past the section's end.
 */
export function writeSampling(
  rows: readonly Request[],
  endTokens: readonly number[],
  layout: StepMetaLayout,
  meta: MetaWords,
): void {
  let entry = 0;
  rows.forEach((request, row) => {
    const at = layout.sampling + row * SAMPLE_WORDS;
    const { sampling } = request.ask;
    meta.f32[at + SAMPLE.temperature] = sampling.temperature;
    meta.u32[at + SAMPLE.topK] = sampling.topK;
    meta.f32[at + SAMPLE.topP] = sampling.topP;
    meta.f32[at + SAMPLE.minP] = sampling.minP;
    meta.f32[at + SAMPLE.presencePenalty] = sampling.presencePenalty;
    meta.f32[at + SAMPLE.frequencyPenalty] = sampling.frequencyPenalty;
    meta.f32[at + SAMPLE.repetitionPenalty] = sampling.repetitionPenalty;
    meta.u32[at + SAMPLE.seedLow] = request.seed[0];
    meta.u32[at + SAMPLE.seedHigh] = request.seed[1];
    meta.u32[at + SAMPLE.counter] = request.outputLength;
    meta.u32[at + SAMPLE.topLogprobs] = sampling.logprobs ?? LOGPROBS_OFF;
    meta.u32[at + SAMPLE.flags] = 0;
    meta.u32[at + SAMPLE.adjustStart] = entry;
    const changes = adjustments(request, endTokens);
    if (entry + changes.size > layout.capacity.adjustments) {
      throw new Error(
        `the batch needs ${entry + changes.size} logit adjustments and has room for ${layout.capacity.adjustments}`,
      );
    }
    for (const [token, change] of changes) {
      const to = layout.adjust + entry++ * ADJUST_WORDS;
      meta.u32[to + ADJUST.token] = token;
      meta.u32[to + ADJUST.outputCount] = change.outputCount;
      meta.u32[to + ADJUST.inPrompt] = change.inPrompt ? 1 : 0;
      meta.f32[to + ADJUST.bias] = change.bias;
    }
    meta.u32[at + SAMPLE.adjustEnd] = entry;
  });
}
