/** How much fits: a model on the GPUs of a system. Bytes and tokens over all ranks. */
import type { GraphModel } from '../../model/graph.ts';
import type { GpuSystem } from './gpus.ts';

/** Share of memory that weights and keys and values may take; activations and buffers take the rest. */
const USABLE = 0.97;
const F16_BYTES = 2;

/** Parameters of a model, embeddings included. */
export function parameters(model: GraphModel): number {
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim, vocabSize, numLayers, moe } = model;
  const attention = hiddenSize * headDim * (2 * numHeads + 2 * numKvHeads);
  const feedForward = 3 * hiddenSize * intermediateSize * (moe?.numExperts ?? 1);
  const router = moe ? hiddenSize * moe.numExperts : 0;
  const embeddings = vocabSize * hiddenSize * (model.tieEmbeddings ? 1 : 2);
  return numLayers * (attention + feedForward + router) + embeddings;
}

export function kvBytesPerToken(model: GraphModel): number {
  return 2 * model.numLayers * model.numKvHeads * model.headDim * F16_BYTES;
}

/** Tokens whose keys and values fit beside the weights. @throws Error when the weights alone do not fit. */
export function kvCapacity(system: GpuSystem, model: GraphModel): number {
  const memory = system.gpu.memoryBytes * system.count * USABLE;
  const weights = parameters(model) * F16_BYTES;
  const tokens = Math.floor((memory - weights) / kvBytesPerToken(model));
  if (tokens > 0) return tokens;
  throw new Error(
    `${model.name} needs ${gigabytes(weights)} for its weights and ${system.name} has ${gigabytes(memory)}; take more GPUs (${system.gpu.name}x${2 * system.count})`,
  );
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
