/** How large everything is: a pure function of the model, the device and what the user asked for. */
import type { DeviceTarget } from '../device.ts';
import { kvBytesPerToken, largestBatch, type StorageTypes } from './buffers.ts';
import type { ModelConfig } from './config.ts';

export interface SizeOptions {
  maxBatchTokens?: number;
  maxRequests?: number;
  kvMemoryBytes?: number;
  pageSize?: number;
  maxModelLen?: number;
  storage?: 'auto' | 'f32' | 'f16';
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
  return { tokens: 2048, requests: 256, kvBytes: 2048 * MiB };
}

/** @throws Error when an option cannot be met (got, expected, remedy). */
export function chooseSizes(config: ModelConfig, target: DeviceTarget, options: SizeOptions): EngineSizes {
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
  const budget = positive('--kv-memory', options.kvMemoryBytes, preset.kvBytes);
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

function chooseTypes(target: DeviceTarget, storage: 'auto' | 'f32' | 'f16'): StorageTypes {
  if (target.kind === 'cpu') {
    if (storage === 'f16')
      throw new Error('--storage f16 needs a GPU device; the cpu device computes in f32');
    return { weights: 'f32', kv: 'f32', activations: 'f32' };
  }
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
