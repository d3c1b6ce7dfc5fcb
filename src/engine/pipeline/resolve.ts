/** A pipeline on a batch of another make-up than the one it was made for; and which rows never meet in an operation. */
import { blocksOf, type BatchRows, type TokenRange } from './arrangement.ts';
import type { Pipeline } from './pipeline.ts';

export type { BatchRows, TokenRange } from './arrangement.ts';

/**
 * The batch with its rows arranged as the pipeline wants them: halves have the parts that they had in its own batch. What
 * is rounded is the half: one that has whole tiles of a matrix product keeps them in a batch of the same size.
 */
export function resolveRows(pipeline: BatchRows, { tokens, decodeTokens }: BatchRows): BatchRows {
  const { halves } = pipeline;
  if (!halves) return { tokens, decodeTokens };
  const part = (first: number, of: number, all: number): number => (of === 0 ? 0 : (first * all) / of);
  const prompts = tokens - decodeTokens;
  const exact = part(halves.decode, pipeline.decodeTokens, decodeTokens);
  const rest = part(halves.prefill, pipeline.tokens - pipeline.decodeTokens, prompts);
  const decode = Math.round(exact);
  const prefill = Math.min(prompts, Math.max(0, Math.round(exact + rest) - decode));
  return { tokens, decodeTokens, halves: { decode, prefill } };
}

/** Which rows of a batch a range of the pipeline stands for. */
export type Resolver = (range: TokenRange) => [start: number, end: number];

/**
 * Blocks of rows of one kind scale for themselves, so their borders stay borders. Monotone, 0 -> 0, tokens -> tokens.
 * A range may resolve to no rows. A pipeline without decode (or prefill) rows gives rows of that kind to its first
 * (last) ranges.
 */
export function resolver(pipeline: Pipeline, batch: BatchRows): Resolver {
  const from = blocksOf(pipeline);
  const to = blocksOf(resolveRows(pipeline, batch));
  const boundary = (at: number): number => {
    const block = from.findIndex(({ range }) => at <= range[1]);
    const [start, end] = from[block].range;
    const [first, last] = to[block].range;
    return start === end ? first : first + Math.round(((at - start) * (last - first)) / (end - start));
  };
  return ([start, end]) => {
    const first = start === 0 ? 0 : boundary(start);
    const last = end === pipeline.tokens ? batch.tokens : boundary(end);
    return [first, Math.max(first, last)];
  };
}

/** Rows of a batch that a range of the pipeline stands for; possibly none. */
export function resolveRange(
  pipeline: Pipeline,
  range: TokenRange,
  batch: BatchRows,
): [start: number, end: number] {
  return resolver(pipeline, batch)(range);
}

/**
 * Maximal token ranges that no nano-operation crosses: rows of different groups never meet in one, so each group can
 * have activation buffers of its own.
 */
export function groups({
  tokens,
  nano,
}: {
  tokens: number;
  nano: readonly { range: TokenRange }[];
}): TokenRange[] {
  const cuts = new Set([0, tokens]);
  for (const { range } of nano) for (const at of range) cuts.add(at);
  const kept = [...cuts]
    .filter((cut) => nano.every(({ range: [start, end] }) => cut <= start || cut >= end))
    .sort((a, b) => a - b);
  return kept.slice(1).map((end, i) => [kept[i], end]);
}
