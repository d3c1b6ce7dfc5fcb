/**
 * Slow twin of the sampling kernel (shaders/sample_chunk.wgsl, sample_row.wgsl): one row after the other, thresholds by
 * sorting. The order of operations is that of plan/stepMeta.ts.
 */
import {
  ADJUST,
  ADJUST_WORDS,
  COUNT,
  LOGPROBS_OFF,
  MAX_TOP_LOGPROBS,
  SAMPLE,
  SAMPLED,
  SAMPLED_WORDS,
  SAMPLE_WORDS,
} from '../plan/stepMeta.ts';
import type { SampleCall } from './calls.ts';
import type { TwinMemory } from './definition.ts';
import { gumbelQuad } from './philox.ts';

/** Logits are clamped to +-LOGIT_LIMIT; NaN and -inf become -LOGIT_LIMIT, which forbids a token. */
export const LOGIT_LIMIT = 1e30;
/** Tokens this far (in logit / temperature) below the best can never win: noise lies in [-2.9, 22.9]. */
export const DRAW_RANGE = 32;
/** Temperatures below this act as this. */
export const MIN_TEMPERATURE = 1e-6;

const { fround } = Math;

export interface SampleRow {
  temperature: number;
  topK: number; // 0 = off
  topP: number; // 1 = off
  minP: number; // 0 = off
  seedLow: number;
  seedHigh: number;
  counter: number;
}

export function sampleTwin(call: SampleCall, memory: TwinMemory): void {
  const meta = memory.u32(call.meta);
  const metaFloats = new Float32Array(meta.buffer, meta.byteOffset, meta.length);
  const logits = memory.f32(call.logits);
  const sampled = memory.u32(call.sampled);
  const sampledFloats = new Float32Array(sampled.buffer, sampled.byteOffset, sampled.length);
  const [capacity, vocab] = call.logits.shape;
  const rows = Math.min(meta[COUNT.logitRows], capacity);
  for (let row = 0; row < rows; row++) {
    const at = call.layout.sampling + row * SAMPLE_WORDS;
    const values = logits.subarray(row * vocab, (row + 1) * vocab);
    const raw = values.map(sanitize);
    adjust(call, meta, metaFloats, at, values);
    const token = drawToken(values.map(sanitize), {
      temperature: metaFloats[at + SAMPLE.temperature],
      topK: meta[at + SAMPLE.topK],
      topP: metaFloats[at + SAMPLE.topP],
      minP: metaFloats[at + SAMPLE.minP],
      seedLow: meta[at + SAMPLE.seedLow],
      seedHigh: meta[at + SAMPLE.seedHigh],
      counter: meta[at + SAMPLE.counter],
    });
    const out = row * SAMPLED_WORDS;
    sampled[out + SAMPLED.token] = token;
    const wanted = meta[at + SAMPLE.topLogprobs];
    const logprob = wanted === LOGPROBS_OFF ? () => 0 : logSoftmax(raw);
    sampledFloats[out + SAMPLED.logprob] = logprob(raw[token]);
    sampled[out + SAMPLED.rank] =
      wanted === LOGPROBS_OFF ? 0 : raw.reduce((count, value) => count + Number(value > raw[token]), 0);
    const count = wanted === LOGPROBS_OFF ? 0 : Math.min(wanted, MAX_TOP_LOGPROBS, vocab);
    sampled[out + SAMPLED.topCount] = count;
    const best = count > 0 ? byLikelihood(raw) : [];
    for (let i = 0; i < count; i++) {
      sampled[out + SAMPLED.topTokens + i] = best[i];
      sampledFloats[out + SAMPLED.topLogprobs + i] = logprob(raw[best[i]]);
    }
  }
}

export function sanitize(logit: number): number {
  return Number.isNaN(logit) ? -LOGIT_LIMIT : Math.min(Math.max(logit, -LOGIT_LIMIT), LOGIT_LIMIT);
}

/** Changes the row's logits at the tokens that it has entries for. */
function adjust(
  call: SampleCall,
  meta: Uint32Array,
  metaFloats: Float32Array,
  at: number,
  values: Float32Array,
): void {
  const repetition = metaFloats[at + SAMPLE.repetitionPenalty];
  const frequency = metaFloats[at + SAMPLE.frequencyPenalty];
  const presence = metaFloats[at + SAMPLE.presencePenalty];
  for (let entry = meta[at + SAMPLE.adjustStart]; entry < meta[at + SAMPLE.adjustEnd]; entry++) {
    const word = call.layout.adjust + entry * ADJUST_WORDS;
    const token = meta[word + ADJUST.token];
    const count = meta[word + ADJUST.outputCount];
    const bias = metaFloats[word + ADJUST.bias];
    if (token >= values.length) continue;
    let value = sanitize(values[token]);
    if (value > -LOGIT_LIMIT && bias > -LOGIT_LIMIT) {
      if (count > 0 || meta[word + ADJUST.inPrompt] > 0) {
        value = fround(value > 0 ? value / repetition : value * repetition);
      }
      value = fround(value - fround(frequency * count));
      if (count > 0) value = fround(value - presence);
      value = sanitize(fround(value + sanitize(bias)));
    } else {
      value = -LOGIT_LIMIT;
    }
    values[token] = value;
  }
}

/** All tokens, the most likely first; ties: lower id first. */
function byLikelihood(values: Float32Array, tokens = Uint32Array.from(values.keys())): Uint32Array {
  return tokens.sort((a, b) => values[b] - values[a] || a - b);
}

function logSoftmax(raw: Float32Array): (logit: number) => number {
  const max = raw.reduce((a, b) => Math.max(a, b), -LOGIT_LIMIT);
  if (max <= -LOGIT_LIMIT) return () => -LOGIT_LIMIT;
  const logSum = Math.log(raw.reduce((sum, value) => sum + Math.exp(value - max), 0));
  return (logit) => Math.max(logit - max - logSum, -LOGIT_LIMIT);
}

/** The token for sanitised, adjusted logits. All forbidden: token 0. */
export function drawToken(values: Float32Array, row: SampleRow): number {
  if (!(row.temperature > 0)) {
    let best = 0;
    for (let token = 1; token < values.length; token++) if (values[token] > values[best]) best = token;
    return best;
  }
  let token = 0;
  let bestScore = -Infinity;
  scoreTokens(values, row, allowedTokens(values, row), (candidate, score) => {
    if (score > bestScore || (score === bestScore && candidate < token))
      [token, bestScore] = [candidate, score];
  });
  return token;
}

/** Calls `visit` with logit / temperature + noise of each of the tokens. */
export function scoreTokens(
  values: Float32Array,
  row: SampleRow,
  tokens: Iterable<number>,
  visit: (token: number, score: number) => void,
): void {
  const inverse = fround(1 / Math.max(row.temperature, MIN_TEMPERATURE));
  const noise = new Float32Array(4);
  let quad = -1;
  for (const token of tokens) {
    if (values[token] <= -LOGIT_LIMIT) continue;
    if (token >>> 2 !== quad) {
      quad = token >>> 2;
      gumbelQuad(row.seedLow, row.seedHigh, row.counter, quad, noise);
    }
    visit(token, fround(fround(values[token] * inverse) + noise[token & 3]));
  }
}

/**
 * Tokens that may be drawn: top-k, then the smallest set of the most likely whose share of what top-k left reaches
 * top-p (at least one), then min-p relative to the most likely. Best first when there is a threshold.
 */
export function allowedTokens(values: Float32Array, row: SampleRow): Iterable<number> {
  const { topK, topP, minP } = row;
  const useTopK = topK > 0 && topK < values.length;
  const useTopP = topP < 1;
  if (!useTopK && !useTopP && !(minP > 0)) return values.keys();

  const inverse = fround(1 / Math.max(row.temperature, MIN_TEMPERATURE));
  const max = values.reduce((a, b) => Math.max(a, b), -LOGIT_LIMIT);
  const distance = (token: number): number => (max - values[token]) * inverse;
  const near = Uint32Array.from(values.keys()).filter((token) => distance(token) < DRAW_RANGE);
  let kept = byLikelihood(values, near);
  if (useTopK) kept = kept.subarray(0, topK);
  if (useTopP) {
    const mass = (token: number): number => Math.exp(-distance(token));
    const target = topP * kept.reduce((sum, token) => sum + mass(token), 0);
    let before = 0;
    let count = 0;
    while (count < kept.length && (count === 0 || before < target)) before += mass(kept[count++]);
    kept = kept.subarray(0, count);
  }
  if (minP > 0) {
    const farthest = -Math.log(minP);
    kept = kept.filter((token, index) => index === 0 || distance(token) <= farthest);
  }
  return kept;
}
