/**
 * config.json of a Hugging Face model directory -> ModelConfig, a frozen record with every default resolved.
 *
 * Meanings and defaults are those of transformers 5.17's configuration classes; what this engine would compute
 * differently from transformers is refused here by name. Knows nothing of weights and kernels.
 */

import {
  booleanOr,
  ConfigError,
  requirePositive,
  requireSize,
  sizeOr,
  tokenIds,
  type JsonObject,
} from './configJson.ts';
import { parseRope, type RopeConfig } from './configRope.ts';

export { ConfigError } from './configJson.ts';
export { ropeInverseFrequencies, ropeLength, type RopeConfig, type RopeScaling } from './configRope.ts';

export type Architecture = 'llama' | 'mistral' | 'qwen2' | 'qwen3' | 'mixtral';

export interface MoeConfig {
  readonly numExperts: number;
  readonly topK: number;
  /** Whether the chosen experts' probabilities are divided by their sum. */
  readonly normTopK: boolean;
}

export interface ModelConfig {
  readonly architecture: Architecture;
  readonly hiddenSize: number; // H
  readonly numLayers: number;
  readonly numHeads: number; // Hq
  readonly numKvHeads: number; // Hkv, divides Hq
  readonly headDim: number; // d, even; Hq * d need not be H
  readonly intermediateSize: number; // F, of one expert where there are experts
  readonly vocabSize: number;
  readonly rmsNormEps: number;
  readonly tieEmbeddings: boolean;
  readonly qkvBias: boolean;
  readonly oBias: boolean;
  readonly mlpBias: boolean; // on gate, up and down
  readonly qkNorm: boolean; // RMS norm of each q and k head before RoPE
  /** A token at position p sees positions above p - slidingWindow; undefined: no layer has a window. */
  readonly slidingWindow: number | undefined;
  /** Per layer: whether slidingWindow holds there. */
  readonly slidingLayers: readonly boolean[];
  readonly maxPositionEmbeddings: number;
  readonly rope: RopeConfig;
  readonly moe: MoeConfig | undefined;
  readonly hiddenAct: 'silu';
  readonly bosTokenId: number | undefined;
  /** Ids that end a text; empty when config.json names none. */
  readonly eosTokenIds: readonly number[];
}

/** Where the configuration classes of transformers differ. */
interface Family {
  readonly className: string;
  readonly defaultKvHeads: number | undefined; // undefined: as many as query heads
  readonly defaultHeadDim: number | undefined; // undefined: hidden size / heads
  readonly defaultEps: number;
  readonly defaultTheta: number;
  readonly defaultMaxPositions: number;
  readonly defaultBos: number | undefined;
  readonly defaultEos: number | undefined;
}

const FAMILIES: Readonly<Record<Architecture, Family>> = {
  llama: family('LlamaForCausalLM', { defaultMaxPositions: 2048 }),
  mistral: family('MistralForCausalLM', { defaultMaxPositions: 131072, defaultKvHeads: 8 }),
  qwen2: family('Qwen2ForCausalLM', { defaultKvHeads: 32, defaultBos: undefined, defaultEos: undefined }),
  qwen3: family('Qwen3ForCausalLM', {
    defaultKvHeads: 32,
    defaultHeadDim: 128,
    defaultBos: undefined,
    defaultEos: undefined,
  }),
  mixtral: family('MixtralForCausalLM', {
    defaultMaxPositions: 131072,
    defaultKvHeads: 8,
    defaultEps: 1e-5,
    defaultTheta: 1e6,
  }),
};

function family(className: string, differences: Partial<Family>): Family {
  return {
    className,
    defaultKvHeads: undefined,
    defaultHeadDim: undefined,
    defaultEps: 1e-6,
    defaultTheta: 1e4,
    defaultMaxPositions: 32768,
    defaultBos: 1,
    defaultEos: 2,
    ...differences,
  };
}

/** What an error offers instead of an unsupported model. */
export const SUPPORTED_MODELS =
  'Llama 2/3/3.1/3.2 and DeepSeek-LLM (llama), Mistral (mistral), Qwen2 and Qwen2.5 (qwen2), Qwen3 (qwen3), Mixtral (mixtral)';

/** Keys that mean "computed differently" when they hold anything but null, false or 0. */
const REFUSED_KEYS: Readonly<Record<string, string>> = {
  quantization_config: 'quantised weights',
  compression_config: 'compressed weights',
  attention_sink: 'attention sinks',
  attention_sinks: 'attention sinks',
  attention_chunk_size: 'chunked attention',
  attn_logit_softcapping: 'soft-capped attention',
  final_logit_softcapping: 'soft-capped logits',
  is_encoder_decoder: 'an encoder-decoder model',
  add_cross_attention: 'cross attention',
};

/** @throws ConfigError that names the field, its value, and what is supported. */
export function parseModelConfig(value: unknown): ModelConfig {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConfigError(
      'config.json does not hold an object; expected the config.json of a Hugging Face model',
    );
  }
  const json = value as JsonObject;
  const architecture = parseArchitecture(json);
  const family = FAMILIES[architecture];
  refuseUnsupported(json, architecture);

  const hiddenSize = requireSize(json, 'hidden_size');
  const numLayers = requireSize(json, 'num_hidden_layers');
  const numHeads = requireSize(json, 'num_attention_heads');
  // An explicit null means "as many as query heads" for every family, a missing key the family's default.
  const numKvHeads =
    json.num_key_value_heads === null
      ? numHeads
      : sizeOr(json, 'num_key_value_heads', family.defaultKvHeads ?? numHeads);
  if (numHeads % numKvHeads !== 0) {
    throw new ConfigError(
      `num_key_value_heads is ${numKvHeads}; expected a divisor of num_attention_heads ${numHeads}`,
    );
  }
  const maxPositionEmbeddings = sizeOr(json, 'max_position_embeddings', family.defaultMaxPositions);
  const attentionBias = booleanOr(json, 'attention_bias', false);
  const bias = architecture === 'llama' || architecture === 'qwen3' ? attentionBias : false;
  const bos = tokenIds(
    'bos_token_id',
    json.bos_token_id === undefined ? family.defaultBos : json.bos_token_id,
  );
  const eos = tokenIds(
    'eos_token_id',
    json.eos_token_id === undefined ? family.defaultEos : json.eos_token_id,
  );

  return deepFreeze({
    architecture,
    hiddenSize,
    numLayers,
    numHeads,
    numKvHeads,
    headDim: parseHeadDim(json, family, hiddenSize, numHeads),
    intermediateSize: requireSize(json, 'intermediate_size'),
    vocabSize: requireSize(json, 'vocab_size'),
    rmsNormEps: requirePositive('rms_norm_eps', json.rms_norm_eps ?? family.defaultEps),
    tieEmbeddings: booleanOr(json, 'tie_word_embeddings', false),
    qkvBias: architecture === 'qwen2' || bias,
    oBias: bias,
    mlpBias: architecture === 'llama' && booleanOr(json, 'mlp_bias', false),
    qkNorm: architecture === 'qwen3',
    ...parseWindow(json, architecture, numLayers),
    maxPositionEmbeddings,
    rope: parseRope(json, family.defaultTheta, maxPositionEmbeddings),
    moe: architecture === 'mixtral' ? parseMoe(json) : undefined,
    hiddenAct: 'silu',
    bosTokenId: bos[0],
    eosTokenIds: [...eos],
  });
}

function parseArchitecture(json: JsonObject): Architecture {
  const names = Object.keys(FAMILIES) as Architecture[];
  const listed = Array.isArray(json.architectures) ? json.architectures.map(String) : [];
  const byClass = names.find((name) => listed.includes(FAMILIES[name].className));
  const byType = names.find((name) => name === json.model_type);
  const got = [
    ...listed,
    ...(json.model_type === undefined ? [] : [`model_type '${String(json.model_type)}'`]),
  ];
  if (listed.length > 0 ? !byClass || (byType && byType !== byClass) : !byType) {
    throw new ConfigError(
      `the model is ${got.join(', ') || 'of no named architecture'}, which is not supported; supported: ${SUPPORTED_MODELS}`,
    );
  }
  return (byClass ?? byType)!;
}

function refuseUnsupported(json: JsonObject, architecture: Architecture): void {
  for (const [key, what] of Object.entries(REFUSED_KEYS)) {
    if (json[key])
      throw new ConfigError(`config.json has ${key}: ${what} is not supported; use a plain checkpoint`);
  }
  const act = json.hidden_act ?? 'silu';
  if (act !== 'silu' && act !== 'swish') {
    throw new ConfigError(`hidden_act is ${JSON.stringify(act)}; only silu is supported`);
  }
  const bias = json.attention_bias === true;
  if (bias && (architecture === 'mistral' || architecture === 'mixtral')) {
    throw new ConfigError(`attention_bias is true, which ${architecture} models do not have; expected false`);
  }
}

function parseHeadDim(json: JsonObject, family: Family, hiddenSize: number, numHeads: number): number {
  if ((json.head_dim ?? family.defaultHeadDim) === undefined && hiddenSize % numHeads !== 0) {
    throw new ConfigError(
      `hidden_size ${hiddenSize} is not a multiple of num_attention_heads ${numHeads}; give head_dim`,
    );
  }
  const headDim = sizeOr(json, 'head_dim', family.defaultHeadDim ?? hiddenSize / numHeads);
  if (headDim % 2 !== 0 || headDim < 4) {
    throw new ConfigError(`head_dim is ${headDim}; expected an even number from 4 up (RoPE rotates pairs)`);
  }
  return headDim;
}

/**
 * Mistral and Mixtral: one window for all layers (a Mistral config without the key has 4096). Qwen2 and Qwen3:
 * only with use_sliding_window, on the layers that layer_types names, else on those from max_window_layers on.
 * Llama models have none, whatever the config says.
 */
function parseWindow(
  json: JsonObject,
  architecture: Architecture,
  numLayers: number,
): Pick<ModelConfig, 'slidingWindow' | 'slidingLayers'> {
  const layers = (inWindow: (layer: number) => boolean) =>
    Array.from({ length: numLayers }, (_, i) => inWindow(i));
  const none = { slidingWindow: undefined, slidingLayers: layers(() => false) };
  if (architecture === 'llama') return none;
  const types = parseLayerTypes(json, numLayers);
  if (architecture === 'mistral' || architecture === 'mixtral') {
    const fallback = architecture === 'mistral' ? 4096 : null;
    const window = json.sliding_window === undefined ? fallback : json.sliding_window;
    if (types?.some((type) => (type === 'sliding_attention') !== (window !== null))) {
      throw new ConfigError(
        `layer_types mixes kinds of attention, which ${architecture} models do not; use uniform layers`,
      );
    }
    if (window === null) return none;
    return {
      slidingWindow: requireSize({ sliding_window: window }, 'sliding_window'),
      slidingLayers: layers(() => true),
    };
  }
  const used = booleanOr(json, 'use_sliding_window', false) && json.sliding_window !== null;
  const firstWindow = json.max_window_layers === 0 ? 0 : sizeOr(json, 'max_window_layers', 28);
  const slidingLayers = layers((i) => (types ? types[i] === 'sliding_attention' : used && i >= firstWindow));
  if (!slidingLayers.includes(true)) return none;
  if (!used) {
    throw new ConfigError(
      'layer_types has sliding_attention but use_sliding_window is false; expected both or neither',
    );
  }
  return { slidingWindow: sizeOr(json, 'sliding_window', 4096), slidingLayers };
}

function parseLayerTypes(json: JsonObject, numLayers: number): readonly string[] | undefined {
  const types = json.layer_types;
  if (types === undefined || types === null) return undefined;
  if (!Array.isArray(types) || types.length !== numLayers) {
    throw new ConfigError(`layer_types is ${JSON.stringify(types)}; expected a list of ${numLayers} names`);
  }
  for (const type of types) {
    if (type !== 'full_attention' && type !== 'sliding_attention') {
      throw new ConfigError(
        `layer type ${JSON.stringify(type)} is not supported; supported: full_attention, sliding_attention`,
      );
    }
  }
  return types as string[];
}

function parseMoe(json: JsonObject): MoeConfig {
  const numExperts = sizeOr(json, 'num_local_experts', sizeOr(json, 'num_experts', 8));
  const topK = sizeOr(json, 'num_experts_per_tok', 2);
  if (topK > numExperts) {
    throw new ConfigError(`num_experts_per_tok is ${topK}; expected at most num_local_experts ${numExperts}`);
  }
  return { numExperts, topK, normTopK: true };
}

function deepFreeze<T extends object>(value: T): T {
  for (const child of Object.values(value))
    if (typeof child === 'object' && child !== null) deepFreeze(child);
  return Object.freeze(value);
}
