/** Configurations as published, against the published numbers of parameters: every tensor is planned, and once. */

import { expect, test } from 'vitest';
import { parseModelConfig } from '../../src/engine/model/config.ts';
import { weightPlan } from '../../src/engine/model/weights.ts';

const sizes = (
  hidden_size: number,
  num_hidden_layers: number,
  num_attention_heads: number,
  num_key_value_heads: number,
  intermediate_size: number,
  vocab_size: number,
) => ({
  hidden_size,
  num_hidden_layers,
  num_attention_heads,
  num_key_value_heads,
  intermediate_size,
  vocab_size,
});
const of = (name: string, type: string) => ({
  architectures: [`${name}ForCausalLM`],
  model_type: type,
  hidden_act: 'silu',
});
const llama = { ...of('Llama', 'llama'), rms_norm_eps: 1e-5, attention_bias: false, pretraining_tp: 1 };
const llama3Rope = (factor: number) => ({
  rope_theta: 500000,
  rope_scaling: {
    factor,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
    rope_type: 'llama3',
  },
  max_position_embeddings: 131072,
});
const qwenWindow = {
  use_sliding_window: false,
  sliding_window: 32768,
  max_window_layers: 21,
  rope_theta: 1e6,
};

test.each([
  ['Llama 2 7B', 6_738_415_616, { ...llama, ...sizes(4096, 32, 32, 32, 11008, 32000), rope_scaling: null }],
  ['Llama 3.1 8B', 8_030_261_248, { ...llama, ...sizes(4096, 32, 32, 8, 14336, 128256), ...llama3Rope(8) }],
  [
    'Llama 3.2 1B',
    1_235_814_400,
    {
      ...llama,
      ...sizes(2048, 16, 32, 8, 8192, 128256),
      ...llama3Rope(32),
      head_dim: 64,
      tie_word_embeddings: true,
    },
  ],
  [
    'Mistral 7B v0.1',
    7_241_732_096,
    { ...of('Mistral', 'mistral'), ...sizes(4096, 32, 32, 8, 14336, 32000), sliding_window: 4096 },
  ],
  [
    'Mixtral 8x7B',
    46_702_792_704,
    {
      ...of('Mixtral', 'mixtral'),
      ...sizes(4096, 32, 32, 8, 14336, 32000),
      num_local_experts: 8,
      num_experts_per_tok: 2,
      sliding_window: null,
    },
  ],
  [
    'Qwen2.5 0.5B',
    494_032_768,
    {
      ...of('Qwen2', 'qwen2'),
      ...sizes(896, 24, 14, 2, 4864, 151936),
      ...qwenWindow,
      tie_word_embeddings: true,
    },
  ],
  [
    'Qwen2.5 7B',
    7_615_616_512,
    { ...of('Qwen2', 'qwen2'), ...sizes(3584, 28, 28, 4, 18944, 152064), ...qwenWindow },
  ],
  [
    'Qwen3 0.6B',
    596_049_920,
    {
      ...of('Qwen3', 'qwen3'),
      ...sizes(1024, 28, 16, 8, 3072, 151936),
      head_dim: 128,
      use_sliding_window: false,
      sliding_window: null,
      tie_word_embeddings: true,
    },
  ],
  [
    'DeepSeek LLM 7B',
    6_910_365_696,
    { ...llama, ...sizes(4096, 30, 32, 32, 11008, 102400), rope_scaling: null },
  ],
])('%s has %i parameters', (_, parameters, json) => {
  const config = parseModelConfig(json);
  const planned = weightPlan(config).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  expect(planned).toBe(parameters);
  const tensors = weightPlan(config).flatMap((spec) => spec.parts.map((part) => part.tensor));
  expect(new Set(tensors).size).toBe(tensors.length);
});
