/** Sizes of published models, for graphs without weights (the simulator, the search, the lab). From their config.json. */
import type { GraphModel } from './graph.ts';

type Sizes = Omit<GraphModel, 'name' | 'headDim' | 'tieEmbeddings'> &
  Partial<Pick<GraphModel, 'headDim' | 'tieEmbeddings'>>;

function shape(name: string, sizes: Sizes): GraphModel {
  return { name, headDim: 128, tieEmbeddings: false, ...sizes };
}

const llama8b = { numLayers: 32, hiddenSize: 4096, intermediateSize: 14336, numHeads: 32, numKvHeads: 8 };
const llama70b = { numLayers: 80, hiddenSize: 8192, intermediateSize: 28672, numHeads: 64, numKvHeads: 8 };

const SHAPES: readonly GraphModel[] = [
  shape('llama-3.2-1b', {
    numLayers: 16,
    hiddenSize: 2048,
    intermediateSize: 8192,
    numHeads: 32,
    numKvHeads: 8,
    headDim: 64,
    vocabSize: 128256,
    tieEmbeddings: true,
  }),
  shape('llama-3.2-3b', {
    numLayers: 28,
    hiddenSize: 3072,
    intermediateSize: 8192,
    numHeads: 24,
    numKvHeads: 8,
    vocabSize: 128256,
    tieEmbeddings: true,
  }),
  shape('llama-2-7b', {
    numLayers: 32,
    hiddenSize: 4096,
    intermediateSize: 11008,
    numHeads: 32,
    numKvHeads: 32,
    vocabSize: 32000,
  }),
  shape('llama-2-70b', { ...llama70b, vocabSize: 32000 }),
  shape('llama-3-8b', { ...llama8b, vocabSize: 128256 }),
  shape('llama-3-70b', { ...llama70b, vocabSize: 128256 }),
  shape('llama-3.1-405b', {
    numLayers: 126,
    hiddenSize: 16384,
    intermediateSize: 53248,
    numHeads: 128,
    numKvHeads: 8,
    vocabSize: 128256,
  }),
  shape('mistral-7b', { ...llama8b, vocabSize: 32000 }),
  shape('qwen2-72b', { ...llama70b, intermediateSize: 29568, vocabSize: 152064 }),
  shape('deepseek-67b', {
    numLayers: 95,
    hiddenSize: 8192,
    intermediateSize: 22016,
    numHeads: 64,
    numKvHeads: 8,
    vocabSize: 102400,
  }),
  shape('mixtral-8x7b', { ...llama8b, vocabSize: 32000, moe: { numExperts: 8, topK: 2 } }),
];

export const SHAPE_NAMES: readonly string[] = SHAPES.map(({ name }) => name);

/** @throws Error naming the known shapes. */
export function graphModelOfShape(name: string): GraphModel {
  const found = SHAPES.find((model) => model.name === name);
  if (found) return found;
  throw new Error(
    `no shape is called '${name}'; expected one of ${SHAPE_NAMES.join(', ')}: use one of these`,
  );
}
