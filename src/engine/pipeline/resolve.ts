/** A pipeline on a batch of another make-up than the one it was made for; and which rows never meet in an operation. */
import type { Pipeline } from './pipeline.ts';

export type TokenRange = readonly [start: number, end: number];

/** Rows of a batch; decode rows come first. */
export interface BatchRows {
  tokens: number;
  decodeTokens: number;
}

/**
 * Where a boundary of the pipeline lies in a batch: decode rows and prefill rows scale for themselves, so the border
 * between them stays one. Monotone, 0 -> 0, tokens -> tokens.
 */
export function resolveBoundary(pipeline: Pipeline, boundary: number, batch: BatchRows): number {
  const { tokens, decodeTokens } = pipeline;
  if (boundary <= decodeTokens) {
    return decodeTokens === 0 ? 0 : Math.round((boundary * batch.decodeTokens) / decodeTokens);
  }
  const prefill = batch.tokens - batch.decodeTokens;
  return batch.decodeTokens + Math.round(((boundary - decodeTokens) * prefill) / (tokens - decodeTokens));
}

/**
 * Rows of a batch that a range of the pipeline stands for; possibly none. A pipeline without decode (or prefill) rows
 * gives rows of that kind to its first (last) ranges.
 */
export function resolveRange(
  pipeline: Pipeline,
  [start, end]: TokenRange,
  batch: BatchRows,
): [start: number, end: number] {
  const first = start === 0 ? 0 : resolveBoundary(pipeline, start, batch);
  const last = end === pipeline.tokens ? batch.tokens : resolveBoundary(pipeline, end, batch);
  return [first, Math.max(first, last)];
}

/**
 * Maximal token ranges that no nano-operation crosses: rows of different groups never meet in one, so each group can
 * have activation buffers of its own.
 */
export function groups(pipeline: Pipeline): TokenRange[] {
  const cuts = new Set([0, pipeline.tokens]);
  for (const { range } of pipeline.nano) for (const at of range) cuts.add(at);
  const kept = [...cuts]
    .filter((cut) => pipeline.nano.every(({ range: [start, end] }) => cut <= start || cut >= end))
    .sort((a, b) => a - b);
  return kept.slice(1).map((end, i) => [kept[i], end]);
}
