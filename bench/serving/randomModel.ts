/**
 * Models of published shapes with random weights, made in memory as they are read: to measure the speed of a model that
 * is not there. The numbers are normal with deviation 0.02 (norms are 1), never zeros, which run faster than real data.
 */
import { parseModelConfig } from '../../src/engine/model/config.ts';
import type { ByteSource, ModelFiles } from '../../src/engine/model/modelFiles.ts';
import { graphModelOfShape, SHAPE_NAMES } from '../../src/engine/model/shapes.ts';
import { weightPlan } from '../../src/engine/model/weightsPlan.ts';

const llama = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
};
const llama3 = {
  ...llama,
  vocab_size: 128256,
  bos_token_id: 128000,
  eos_token_id: 128001,
  head_dim: undefined,
};

/** config.json of published models. */
export const SHAPES: Record<string, object> = {
  'llama-3.2-1b': {
    ...llama3,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 16,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 64,
    max_position_embeddings: 131072,
    rope_theta: 500000,
    rope_scaling: {
      rope_type: 'llama3',
      factor: 32,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
    tie_word_embeddings: true,
  },
  'llama-3-8b': {
    ...llama3,
    hidden_size: 4096,
    intermediate_size: 14336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    max_position_embeddings: 8192,
    rope_theta: 500000,
    tie_word_embeddings: false,
  },
  // The embedded model's shape, for machines that are too small for the others.
  tiny: {
    ...llama,
    vocab_size: 4096,
    bos_token_id: 0,
    eos_token_id: 1,
    hidden_size: 256,
    intermediate_size: 768,
    num_hidden_layers: 8,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    max_position_embeddings: 1024,
    tie_word_embeddings: true,
  },
};

/** A Llama (or Mixtral) of a published shape's sizes: what decides speed, without the model's own details. */
function likeLlama(name: string): object {
  if (!SHAPE_NAMES.includes(name)) {
    const all = new Set([...Object.keys(SHAPES), ...SHAPE_NAMES]);
    throw new Error(`no shape '${name}'; there are ${[...all].join(', ')}`);
  }
  const shape = graphModelOfShape(name);
  return {
    ...llama,
    ...(shape.moe && {
      architectures: ['MixtralForCausalLM'],
      model_type: 'mixtral',
      num_local_experts: shape.moe.numExperts,
      num_experts_per_tok: shape.moe.topK,
    }),
    vocab_size: shape.vocabSize,
    bos_token_id: 0,
    eos_token_id: 1,
    hidden_size: shape.hiddenSize,
    intermediate_size: shape.intermediateSize,
    num_hidden_layers: shape.numLayers,
    num_attention_heads: shape.numHeads,
    num_key_value_heads: shape.numKvHeads,
    head_dim: shape.headDim,
    max_position_embeddings: 131072,
    tie_word_embeddings: shape.tieEmbeddings,
  };
}

/** Random bf16 words; tensors repeat them, each from a place of its own. */
const BLOCK = 2 ** 22;

export interface RandomModelOptions {
  /** Matrices of zeros, for diagnosis: they draw little power. */
  zeroWeights?: boolean;
}

/**
 * @param shape a published shape's name, or the contents of a config.json
 * @param layers fewer layers than the shape has
 */
export function randomModelFiles(
  shape: string | object,
  layers?: number,
  { zeroWeights = false }: RandomModelOptions = {},
): ModelFiles {
  const known = typeof shape === 'object' ? shape : (SHAPES[shape] ?? likeLlama(shape));
  const json = layers === undefined ? known : { ...known, num_hidden_layers: layers };
  const config = parseModelConfig(JSON.parse(JSON.stringify(json)));
  const header: Record<string, object> = {};
  const tensors: { end: number; vector: boolean }[] = [];
  let end = 0;
  for (const part of weightPlan(config).flatMap((spec) => spec.parts)) {
    const start = end;
    end += part.sourceShape.reduce((product, size) => product * size, 2);
    header[part.tensor] = { dtype: 'BF16', shape: part.sourceShape, data_offsets: [start, end] };
    tensors.push({ end, vector: part.sourceShape.length === 1 });
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const head = new Uint8Array(8 + text.length);
  new DataView(head.buffer).setUint32(0, text.length, true);
  head.set(text, 8);
  const files = new Map<string, ByteSource>([
    ['config.json', bytes('config.json', new TextEncoder().encode(JSON.stringify(json)))],
    ['model.safetensors', weights(head, tensors, end, zeroWeights)],
  ]);
  return {
    location: `random ${typeof shape === 'object' ? 'model' : shape}`,
    has: async (name) => files.has(name),
    open: async (name) => {
      const file = files.get(name);
      if (!file) throw new Error(`the random model has no ${name}`);
      return file;
    },
    close: async () => {},
  };
}

function bytes(name: string, data: Uint8Array): ByteSource {
  return { name, size: data.length, read: async (offset, length) => data.slice(offset, offset + length) };
}

function weights(
  head: Uint8Array,
  tensors: { end: number; vector: boolean }[],
  size: number,
  zeros: boolean,
): ByteSource {
  const block = zeros ? new Uint16Array(BLOCK) : randomBlock();
  return {
    name: 'model.safetensors',
    size: head.length + size,
    async read(offset, length) {
      if (offset < head.length) return head.slice(offset, offset + length);
      const from = offset - head.length;
      const words = new Uint16Array(length / 2);
      // Reads do not cross tensors.
      if (tensors.find(({ end }) => from < end)?.vector)
        words.fill(0x3f80); // 1
      else {
        for (let at = 0; at < words.length;) {
          const place = (from / 2 + at) % BLOCK;
          const run = Math.min(words.length - at, BLOCK - place);
          words.set(block.subarray(place, place + run), at);
          at += run;
        }
      }
      return new Uint8Array(words.buffer);
    },
  };
}

function randomBlock(): Uint16Array {
  const floats = new Float32Array(BLOCK);
  let state = 12345;
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < BLOCK; i++) {
    floats[i] = 0.02 * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  }
  const bits = new Uint32Array(floats.buffer);
  return Uint16Array.from(bits, (word) => word >>> 16);
}
