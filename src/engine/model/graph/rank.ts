/** What one rank of a model holds: row sizes in elements. */
import type { GraphModel, GraphOptions } from '../graph.ts';

export interface RankSizes {
  options: GraphOptions;
  moe: GraphModel['moe'];
  ranks: number;
  /** Bytes of an element. */
  element: number;
  hidden: number; // whole on every rank
  heads: number; // of queries, and of attention's result
  kv: number; // of keys and values together
  qkv: number;
  ffn: number;
  vocab: number; // the largest rank's
}

/** @throws Error when the ranks cannot share the heads or the feed-forward evenly. */
export function rankSizes(model: GraphModel, options: GraphOptions): RankSizes {
  const { name, numHeads, numKvHeads, headDim, intermediateSize, hiddenSize, vocabSize, moe } = model;
  const { ranks, elementBytes } = options;
  if (!Number.isInteger(ranks) || ranks < 1) {
    throw new Error(`ranks is ${ranks}; expected a whole number from 1 up: use 1 for a single device`);
  }
  if (!(elementBytes > 0)) {
    throw new Error(`elementBytes is ${elementBytes}; expected bytes of an element: use 2 for f16`);
  }
  const shared = { 'query heads': numHeads, 'feed-forward columns': intermediateSize, hidden: hiddenSize };
  for (const [what, count] of Object.entries(shared)) {
    if (count % ranks === 0) continue;
    throw new Error(`${name} has ${count} ${what}, expected a multiple of ${ranks} ranks: use fewer ranks`);
  }
  if (numKvHeads % ranks !== 0 && ranks % numKvHeads !== 0) {
    throw new Error(
      `${name} has ${numKvHeads} KV heads, expected a multiple or a divisor of ${ranks} ranks: use another number of ranks`,
    );
  }
  const heads = (numHeads * headDim) / ranks;
  const kv = 2 * Math.max(1, numKvHeads / ranks) * headDim; // with more ranks than KV heads, ranks hold copies
  return {
    options,
    moe,
    ranks,
    element: elementBytes,
    hidden: hiddenSize,
    heads,
    kv,
    qkv: heads + kv,
    ffn: intermediateSize / ranks,
    vocab: Math.ceil(vocabSize / ranks),
  };
}
