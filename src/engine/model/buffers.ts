/**
 * Everything on the device that is not a weight: activations, KV cache, metadata, sampled tokens. Allocated once, for
 * the largest batch; sizes are decided here and nowhere else.
 *
 * Dawn orders dispatches by whole buffers, so what may run at the same time never shares a buffer.
 */
import {
  tensor,
  tensorBytes,
  type Device,
  type DeviceBuffer,
  type DType,
  type TensorView,
} from '../device.ts';
import { sampleScratchBytes } from '../kernels/sample.ts';
import { SAMPLED_WORDS, type StepMetaLayout } from '../plan/stepMeta.ts';
import type { ModelConfig } from './config.ts';

export interface BufferSizes {
  tokens: number; // B
  requests: number; // R
  pages: number; // P
  pageSize: number; // S
  partialRows: number;
  parts: number; // most parts of a product
  ropeRows: number;
}

export type FloatType = 'f32' | 'f16' | 'bf16';

/** Storage types: activations are of 16 bits only where the device computes in them. */
export interface StorageTypes {
  weights: FloatType;
  kv: FloatType;
  activations: FloatType;
}

/**
 * Activations of the rows of one nano-batch group, at their row of the dense batch: what runs at the same time never
 * shares a buffer, because WebGPU binds a buffer either for reading or for writing in one dispatch. The plain order
 * uses set 0 only.
 */
export interface ActivationSet {
  x: TensorView; // [B, H] residual stream, f32
  y: TensorView; // [parts, B, H] what is added to it next, f32: products of ranges of K (GemmCall.parts)
  normed: TensorView; // [B, H]
  qkv: TensorView; // [B, (Hq + 2 Hkv) D]
  q: TensorView; // [B, Hq, D]
  attended: TensorView; // [B, Hq, D]
  partialOut: TensorView;
  partialLse: TensorView;
  gateUp?: TensorView; // [B, 2F]; MoE: [B X, 2F]
  ffn: TensorView; // [B, F]; MoE: [B X, F]
  moe?: {
    routerLogits: TensorView; // [B, E]
    weights: TensorView; // [B, X]
    choices: TensorView; // [B, X] u32
    slotSource: TensorView; // [B X] u32
    expertStart: TensorView; // [E + 1] u32
    y: TensorView; // [B X, H]
  };
}

export interface ModelBuffers {
  meta: TensorView;
  ropeTable: TensorView;
  sets: ActivationSet[]; // at least one
  logitsNormed: TensorView; // [R, H]
  logits: TensorView; // [R, V] f32
  sampled: TensorView; // [R, SAMPLED_WORDS] u32
  sampleScratch: TensorView;
  kv: { k: TensorView; v: TensorView }[]; // per layer [P, Hkv, S, D]
}

/** All buffers, each once. */
export function bufferList(buffers: ModelBuffers): DeviceBuffer[] {
  const { kv, sets, ...single } = buffers;
  const views = [
    ...Object.values(single),
    ...sets.flatMap(({ moe, ...set }) => [...Object.values(set), ...Object.values(moe ?? {})]),
    ...kv.flatMap(({ k, v }) => [k, v]),
  ];
  return [...new Set(views.filter((view) => view !== undefined).map((view) => view.buffer))];
}

export function kvBytesPerToken(config: ModelConfig, kv: FloatType): number {
  return 2 * config.numLayers * config.numKvHeads * config.headDim * (kv === 'f32' ? 4 : 2);
}

/** About the bytes of one activation set (allocateSet) without partial results of attention. */
export function activationBytes(config: ModelConfig, { activations }: StorageTypes, tokens: number): number {
  const { hiddenSize: H, intermediateSize: F, numHeads, numKvHeads, headDim: D } = config;
  const X = config.moe?.topK ?? 1;
  const stored = H + (3 * numHeads + 2 * numKvHeads + numHeads) * D + 3 * X * F;
  return tokens * (8 * H + stored * (activations === 'f32' ? 4 : 2) + (config.moe ? 4 * X * H : 0));
}

/** Most tokens of a batch and logit rows such that no activation is larger than one binding. */
export function largestBatch(config: ModelConfig, maxBindingBytes: number): { tokens: number; rows: number } {
  const experts = config.moe?.topK ?? 1;
  const widest = Math.max(
    experts * 2 * config.intermediateSize,
    experts * config.hiddenSize,
    (config.numHeads + 2 * config.numKvHeads) * config.headDim,
  );
  return {
    tokens: Math.max(1, Math.floor(maxBindingBytes / (4 * widest))),
    rows: Math.max(1, Math.floor(maxBindingBytes / (4 * config.vocabSize))),
  };
}

export function allocateBuffers(
  device: Device,
  config: ModelConfig,
  layout: StepMetaLayout,
  sizes: BufferSizes,
  types: StorageTypes,
): ModelBuffers {
  const make = maker(device);
  const { requests: R, pages, pageSize } = sizes;
  const { numKvHeads, headDim: D, vocabSize: V } = config;
  const kvShape = [pages, numKvHeads, pageSize, D];
  return {
    meta: make('meta', 'u32', [layout.words]),
    ropeTable: make('ropeTable', 'f32', [sizes.ropeRows, D / 2, 2]),
    sets: [allocateSet(device, config, sizes, types, '')],
    logitsNormed: make('logitsNormed', types.activations, [R, config.hiddenSize]),
    logits: make('logits', 'f32', [R, V]),
    sampled: make('sampled', 'u32', [R, SAMPLED_WORDS]),
    sampleScratch: make('sampleScratch', 'u32', [
      Math.ceil(sampleScratchBytes(R, V, layout.capacity.adjustments) / 4),
    ]),
    kv: Array.from({ length: config.numLayers }, (_, layer) => ({
      k: make(`layers.${layer}.k`, types.kv, kvShape),
      v: make(`layers.${layer}.v`, types.kv, kvShape),
    })),
  };
}

/** One set of activations. `suffix` tells the buffers of sets apart in errors and traces. */
export function allocateSet(
  device: Device,
  config: ModelConfig,
  { tokens: B, partialRows, parts }: Pick<BufferSizes, 'tokens' | 'partialRows' | 'parts'>,
  types: StorageTypes,
  suffix: string,
): ActivationSet {
  const make = maker(device, suffix);
  const { hiddenSize: H, intermediateSize: F, numHeads, numKvHeads, headDim: D } = config;
  const act = types.activations;
  const X = config.moe?.topK ?? 1;
  return {
    x: make('x', 'f32', [B, H]),
    y: make('y', 'f32', [parts, B, H]),
    normed: make('normed', act, [B, H]),
    qkv: make('qkv', act, [B, (numHeads + 2 * numKvHeads) * D]),
    q: make('q', act, [B, numHeads, D]),
    attended: make('attended', act, [B, numHeads, D]),
    partialOut: make('partialOut', 'f32', [partialRows, D]),
    partialLse: make('partialLse', 'f32', [partialRows]),
    gateUp: make('gateUp', act, [B * X, 2 * F]),
    ffn: make('ffn', act, [B * X, F]),
    moe: config.moe && {
      routerLogits: make('routerLogits', 'f32', [B, config.moe.numExperts]),
      weights: make('routeWeights', 'f32', [B, X]),
      choices: make('routeChoices', 'u32', [B, X]),
      slotSource: make('slotSource', 'u32', [B * X]),
      expertStart: make('expertStart', 'u32', [config.moe.numExperts + 1]),
      y: make('moeY', 'f32', [B * X, H]),
    },
  };
}

function maker(device: Device, suffix = ''): (label: string, dtype: DType, shape: number[]) => TensorView {
  return (label, dtype, shape) =>
    tensor(device.createBuffer(`${label}${suffix}`, Math.max(4, tensorBytes(dtype, shape))), dtype, shape);
}
