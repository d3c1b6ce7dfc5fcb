/** How large everything is: a pure function of the model, the device and what the user asked for. */
import type { DeviceMemory, DeviceTarget } from '../device.ts';
import { activationBytes, kvBytesPerToken, largestBatch, type StorageTypes } from './buffers.ts';
import type { ModelConfig } from './config.ts';
import { weightElements } from './weightsPlan.ts';

export interface SizeOptions {
  maxBatchTokens?: number;
  maxRequests?: number;
  kvMemoryBytes?: number;
  pageSize?: number;
  maxModelLen?: number;
  storage?: 'auto' | 'f32' | 'f16' | 'bf16';
}

export interface EngineSizes {
  types: StorageTypes;
  maxBatchTokens: number; // B
  maxRequests: number; // R
  pageSize: number;
  pages: number;
  kvBytes: number;
  maxModelLen: number;
}

const MiB = 2 ** 20;

/**
 * Defaults where nothing was asked. WebGPU tells nobody how much memory is free, so a GPU gets a KV cache that fits
 * beside a small model on an 8 GB card; --kv-memory says otherwise. Step sizes keep one step well below a second: a
 * software adapter does about 10 GFLOP/s, the cpu device 2.
 */
function defaults(target: DeviceTarget) {
  if (target.kind === 'cpu') return { tokens: 64, requests: 32, kvBytes: 256 * MiB };
  if (target.software) return { tokens: 256, requests: 64, kvBytes: 256 * MiB };
  if (target.kind === 'cuda') return { tokens: 2048, requests: 512, kvBytes: 2048 * MiB };
  return { tokens: 2048, requests: 256, kvBytes: 2048 * MiB };
}

/** Part of the memory that a device which knows it gives to one engine. */
const UTILISATION = 0.92;

/** What is left for the KV cache beside weights and activations. Pipelines may need two more sets of activations. */
function leftForKv(
  config: ModelConfig,
  types: StorageTypes,
  tokens: number,
  rows: number,
  memory: DeviceMemory,
): number {
  const weights = weightElements(config) * (types.weights === 'f32' ? 4 : 2);
  const activations = 3 * activationBytes(config, types, tokens) + rows * config.vocabSize * 5;
  const reserve = (1 - UTILISATION) * memory.total;
  return Math.floor(memory.free - reserve - weights - activations);
}

/** @throws Error when an option cannot be met (got, expected, remedy). */
export function chooseSizes(
  config: ModelConfig,
  target: DeviceTarget,
  options: SizeOptions,
  memory?: DeviceMemory,
): EngineSizes {
  const preset = defaults(target);
  const types = chooseTypes(target, options.storage ?? 'auto');
  const largest = largestBatch(config, target.limits.maxBindingBytes);
  const maxBatchTokens = Math.min(
    positive('--max-batch-tokens', options.maxBatchTokens, preset.tokens),
    largest.tokens,
  );
  const maxRequests = Math.min(
    positive('--max-requests', options.maxRequests, preset.requests),
    largest.rows,
    maxBatchTokens,
  );
  const pageSize = positive('--page-size', options.pageSize, 16);

  const pageBytes = pageSize * kvBytesPerToken(config, types.kv);
  const left = memory ? leftForKv(config, types, maxBatchTokens, maxRequests, memory) : preset.kvBytes;
  if (options.kvMemoryBytes === undefined && left < pageBytes) {
    throw new Error(
      `the model does not fit: ${memory!.free} bytes of ${memory!.total} are free on the device, and weights and activations leave ${left} for the KV cache; lower --max-batch-tokens, or take a smaller model`,
    );
  }
  const budget = positive('--kv-memory', options.kvMemoryBytes, left);
  // K and V of one layer are one buffer each; a binding must hold all their pages.
  const bindingPages = Math.floor(target.limits.maxBindingBytes / (pageBytes / (2 * config.numLayers)));
  // More than every request at full length can never be used.
  const modelLimit = options.maxModelLen
    ? Math.min(options.maxModelLen, ropeReach(config))
    : trainedReach(config);
  const useful = maxRequests * Math.ceil(modelLimit / pageSize);
  const pages = Math.min(Math.floor(budget / pageBytes), bindingPages, useful);
  if (pages < 1) {
    throw new Error(
      `--kv-memory is ${budget} bytes and one KV page of ${pageSize} tokens takes ${pageBytes}; give more, or a smaller --page-size`,
    );
  }
  const maxModelLen = Math.min(modelLimit, pages * pageSize);
  if (options.maxModelLen !== undefined && options.maxModelLen > maxModelLen) {
    throw new Error(
      `--max-model-len is ${options.maxModelLen}; ${
        options.maxModelLen > modelLimit
          ? `the model reaches ${modelLimit} positions`
          : `the KV cache holds ${pages * pageSize} tokens, so give more --kv-memory`
      }`,
    );
  }
  return { types, maxBatchTokens, maxRequests, pageSize, pages, kvBytes: pages * pageBytes, maxModelLen };
}

function chooseTypes(target: DeviceTarget, storage: NonNullable<SizeOptions['storage']>): StorageTypes {
  if (target.kind === 'cpu') {
    if (storage === 'f16' || storage === 'bf16')
      throw new Error(`--storage ${storage} needs a GPU device; the cpu device computes in f32`);
    return { weights: 'f32', kv: 'f32', activations: 'f32' };
  }
  if (target.kind === 'cuda') {
    const type = storage === 'auto' ? 'bf16' : storage;
    return { weights: type, kv: type, activations: type };
  }
  if (storage === 'bf16') throw new Error('--storage bf16 needs the cuda device; WebGPU has f16');
  const chosen = storage === 'auto' ? (target.software ? 'f32' : 'f16') : storage;
  const native = chosen === 'f16' && target.features.f16 && !target.software;
  return { weights: chosen, kv: chosen, activations: native ? 'f16' : 'f32' };
}

/** What the model is served with by default: dynamic scaling is meant to stretch the trained range by its factor. */
function trainedReach(config: ModelConfig): number {
  const { scaling } = config.rope;
  return Math.floor(config.maxPositionEmbeddings * (scaling.kind === 'dynamic' ? scaling.factor : 1));
}

/** What may be asked for: dynamic scaling is defined for any length. */
function ropeReach(config: ModelConfig): number {
  return config.rope.scaling.kind === 'dynamic' ? Infinity : config.maxPositionEmbeddings;
}

function positive(option: string, value: number | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Error(`${option} is ${value}; expected a whole number from 1 up`);
  return value;
}
