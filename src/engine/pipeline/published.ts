/**
 * NanoFlow's published pipelines (OSDI '25, figure 6, and the configurations of its code), by their numbers: the dense
 * batch, the first nano-batch, and the first K, Q, V operation of each. Shapes and widths of its kernels are not ours.
 */
import type { OperationGraph } from '../model/graph.ts';
import type { Pipeline } from './pipeline.ts';
import { overlap } from './presets.ts';

export interface PublishedPipeline {
  model: string; // as model/shapes.ts calls it
  name: string;
  ranks: number;
  tokens: number; // B
  /** Rows of nano-batch 1; "nanobatch_1_size". */
  boundary: number;
  kqv1: number;
  kqv3: number;
  /** Decode rows that it was made for, where that is known. */
  decodeTokens: number;
}

const llama70b = { model: 'llama-2-70b', ranks: 8 };

export const PUBLISHED: readonly PublishedPipeline[] = [
  {
    ...llama70b,
    name: 'published-2048',
    tokens: 2048,
    boundary: 640,
    kqv1: 256,
    kqv3: 768,
    decodeTokens: 1280,
  },
  // The figure splits at 768, the configuration that came with the code at 640.
  {
    ...llama70b,
    name: 'published-2048-figure',
    tokens: 2048,
    boundary: 768,
    kqv1: 256,
    kqv3: 768,
    decodeTokens: 1280,
  },
  {
    ...llama70b,
    name: 'published-1024',
    tokens: 1024,
    boundary: 384,
    kqv1: 256,
    kqv3: 256,
    decodeTokens: 640,
  },
  { ...llama70b, name: 'published-768', tokens: 768, boundary: 384, kqv1: 128, kqv3: 128, decodeTokens: 480 },
  {
    model: 'llama-3-8b',
    ranks: 1,
    name: 'published-1024',
    tokens: 1024,
    boundary: 384,
    kqv1: 384,
    kqv3: 640,
    decodeTokens: 384,
  },
];

/**
 * One of them for a graph of its model. On several ranks the graph should have both output paths ('both'): nano-batch
 * 1 gathers heads and columns, nano-batch 2 reduces.
 * @throws Error when the graph is of another model or number of ranks.
 */
export function publishedPipeline(
  published: PublishedPipeline,
  graph: OperationGraph,
  workgroups: number,
  decodeTokens: number = published.decodeTokens,
): Pipeline {
  const { model, ranks, name, tokens, boundary, kqv1, kqv3 } = published;
  if (graph.model.name !== model || graph.options.ranks !== ranks) {
    throw new Error(
      `pipeline ${name} is for ${model} on ${ranks} ranks; got ${graph.model.name} on ${graph.options.ranks}: use that graph`,
    );
  }
  const sizes = ranks > 1 ? { boundary, kqv1, kqv3 } : { boundary };
  return overlap(graph, { tokens, decodeTokens }, workgroups, { ...sizes, name });
}

/** The published pipeline for a model and a dense batch; the first that fits. */
export function findPublished(model: string, tokens: number): PublishedPipeline | undefined {
  return PUBLISHED.find((each) => each.model === model && each.tokens === tokens);
}
