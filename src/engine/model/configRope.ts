/**
 * Rotary position frequencies of a checkpoint: reading them from config.json and computing them.
 *
 * Follows transformers 5.17 (modeling_rope_utils.py) step by step in float32, so that angles differ from the
 * reference by at most a unit in the last place. Knows nothing of kernels: a device gets a Float32Array.
 */

import { ConfigError, optionalNumber, requirePositive, type JsonObject } from './configJson.ts';

/** How the plain frequencies theta^(-2i/d) are changed for longer contexts. */
export type RopeScaling =
  | { readonly kind: 'none' }
  | { readonly kind: 'linear'; readonly factor: number }
  | { readonly kind: 'dynamic'; readonly factor: number }
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositions: number;
    };

export interface RopeConfig {
  readonly theta: number;
  readonly scaling: RopeScaling;
}

/** What the frequencies depend on; a ModelConfig is one. */
export interface RopeSource {
  readonly headDim: number;
  readonly maxPositionEmbeddings: number;
  readonly rope: RopeConfig;
}

export interface RopeFrequencies {
  /** headDim/2 frequencies in radians per position; pair i rotates elements i and i + headDim/2. */
  readonly inverseFrequencies: Float32Array;
  /** Factor on cos and sin; 1 for every kind that is supported. */
  readonly attentionFactor: number;
}

const SUPPORTED_ROPE = 'default, linear, dynamic, llama3';

/**
 * Reads both spellings: `rope_theta` + `rope_scaling` (kind under `rope_type` or the older `type`), and
 * transformers 5's `rope_parameters`. As there, a non-empty `rope_scaling` wins over `rope_parameters`, and a
 * `rope_theta` inside the record wins over the one beside it.
 */
export function parseRope(json: JsonObject, defaultTheta: number, maxPositions: number): RopeConfig {
  const record = ropeRecord(json);
  const kind = record.rope_type ?? record.type ?? 'default';
  const theta = requirePositive('rope_theta', record.rope_theta ?? json.rope_theta ?? defaultTheta);
  const partial = optionalNumber(
    'partial_rotary_factor',
    record.partial_rotary_factor ?? json.partial_rotary_factor,
  );
  if (partial !== undefined && partial !== 1) {
    throw new ConfigError(
      `partial_rotary_factor is ${partial}; only 1 (all of head_dim is rotated) is supported`,
    );
  }
  const factor = () => {
    const value = requirePositive(`rope factor of '${String(kind)}'`, record.factor);
    if (value < 1) throw new ConfigError(`rope factor is ${value}; expected a number of at least 1`);
    return value;
  };
  switch (kind) {
    case 'default':
      return { theta, scaling: { kind: 'none' } };
    case 'linear':
      return { theta, scaling: { kind: 'linear', factor: factor() } };
    case 'dynamic':
      return { theta, scaling: { kind: 'dynamic', factor: factor() } };
    case 'llama3': {
      const lowFreqFactor = requirePositive('low_freq_factor', record.low_freq_factor);
      const highFreqFactor = requirePositive('high_freq_factor', record.high_freq_factor);
      if (highFreqFactor <= lowFreqFactor) {
        throw new ConfigError(
          `high_freq_factor is ${highFreqFactor}; expected more than low_freq_factor ${lowFreqFactor}`,
        );
      }
      // transformers gives the field beside the record priority over the one inside it.
      const originalMaxPositions = requirePositive(
        'original_max_position_embeddings',
        json.original_max_position_embeddings ?? record.original_max_position_embeddings ?? maxPositions,
      );
      const scaling = {
        kind: 'llama3',
        factor: factor(),
        lowFreqFactor,
        highFreqFactor,
        originalMaxPositions,
      } as const;
      return { theta, scaling };
    }
    default:
      throw new ConfigError(`rope type '${String(kind)}' is not supported; supported: ${SUPPORTED_ROPE}`);
  }
}

function ropeRecord(json: JsonObject): JsonObject {
  for (const key of ['rope_scaling', 'rope_parameters']) {
    const value = json[key];
    if (value === undefined || value === null) continue;
    if (typeof value !== 'object' || Array.isArray(value)) {
      throw new ConfigError(`${key} is ${JSON.stringify(value)}; expected an object or null`);
    }
    const record = value as JsonObject;
    if (Object.keys(record).length === 0) continue;
    if ('full_attention' in record || 'sliding_attention' in record) {
      throw new ConfigError(
        `${key} differs by layer type, which is not supported; expected one record for all layers`,
      );
    }
    return record;
  }
  return {};
}

/**
 * Frequencies for a request that is `sequenceLength` tokens long. Only 'dynamic' scaling looks at the length,
 * and only beyond maxPositionEmbeddings; see ropeLength() for which length a token is rotated with.
 */
export function ropeInverseFrequencies(config: RopeSource, sequenceLength = 0): RopeFrequencies {
  const { headDim, rope, maxPositionEmbeddings } = config;
  const { scaling } = rope;
  let base = rope.theta;
  if (scaling.kind === 'dynamic') {
    // "NTK-aware" scaling by bloc97 and emozilla: the base grows so that the lowest frequency spans the length.
    const length = Math.max(sequenceLength, maxPositionEmbeddings);
    const stretch = (scaling.factor * length) / maxPositionEmbeddings - (scaling.factor - 1);
    base *= stretch ** (headDim / (headDim - 2));
  }
  const inverse = new Float32Array(headDim / 2);
  for (let i = 0; i < inverse.length; i++) {
    const plain = Math.fround(1 / Math.fround(base ** Math.fround((2 * i) / headDim)));
    inverse[i] =
      scaling.kind === 'linear'
        ? plain / scaling.factor
        : scaling.kind === 'llama3'
          ? llama3Frequency(plain, scaling)
          : plain;
  }
  return { inverseFrequencies: inverse, attentionFactor: 1 };
}

/** Llama 3.1: long waves are stretched by `factor`, short ones kept, and those between blended. */
function llama3Frequency(plain: number, scaling: Extract<RopeScaling, { kind: 'llama3' }>): number {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
  const wavelength = (2 * Math.PI) / plain;
  if (wavelength > originalMaxPositions / lowFreqFactor) return plain / factor;
  if (wavelength < originalMaxPositions / highFreqFactor) return plain;
  const smooth = (originalMaxPositions / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return ((1 - smooth) * plain) / factor + smooth * plain;
}

/**
 * The length whose frequencies rotate the token at `position` (0-based) of a request with `promptLength` prompt
 * tokens. transformers recomputes dynamic frequencies in each forward pass from the longest position in the
 * batch and leaves cached keys as they are: for one sequence the prompt is rotated for its whole length, and
 * each later token for the length it completes. This function says the same of one request alone, so that
 * neither batch-mates nor the cutting of a prompt into chunks can change a result. Keys that are computed anew
 * (after preemption) must keep the original promptLength. All other kinds ignore the length.
 */
export function ropeLength(promptLength: number, position: number): number {
  return Math.max(promptLength, position + 1);
}
