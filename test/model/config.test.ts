import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  ConfigError,
  parseModelConfig,
  ropeInverseFrequencies,
  ropeLength,
} from '../../src/engine/model/config.ts';
import { goldenCases } from './goldens.ts';

const LLAMA = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 64,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  intermediate_size: 96,
  vocab_size: 100,
};
const as = (architecture: string, type: string, more: object = {}) => ({
  ...LLAMA,
  architectures: [architecture],
  model_type: type,
  num_key_value_heads: 2,
  ...more,
});
const MISTRAL = as('MistralForCausalLM', 'mistral');
const QWEN2 = as('Qwen2ForCausalLM', 'qwen2');
const QWEN3 = as('Qwen3ForCausalLM', 'qwen3');
const MIXTRAL = as('MixtralForCausalLM', 'mixtral');

describe('parseModelConfig', () => {
  test('resolves the defaults of transformers for each architecture', () => {
    const llama = parseModelConfig(LLAMA);
    expect(llama).toMatchObject({
      numKvHeads: 4,
      headDim: 16,
      rmsNormEps: 1e-6,
      maxPositionEmbeddings: 2048,
    });
    expect(llama).toMatchObject({
      bosTokenId: 1,
      eosTokenIds: [2],
      tieEmbeddings: false,
      rope: { theta: 10000 },
    });
    expect(parseModelConfig(MISTRAL)).toMatchObject({
      slidingWindow: 4096,
      slidingLayers: [true, true, true],
    });
    expect(parseModelConfig(QWEN2)).toMatchObject({
      qkvBias: true,
      oBias: false,
      bosTokenId: undefined,
      eosTokenIds: [],
    });
    expect(parseModelConfig(QWEN3)).toMatchObject({ headDim: 128, qkNorm: true, qkvBias: false });
    expect(parseModelConfig(MIXTRAL)).toMatchObject({
      rope: { theta: 1e6 },
      rmsNormEps: 1e-5,
      slidingWindow: undefined,
      moe: { numExperts: 8, topK: 2, normTopK: true },
    });
  });

  test('null and missing differ where they do in transformers', () => {
    expect(parseModelConfig({ ...MISTRAL, sliding_window: null }).slidingLayers).toEqual([
      false,
      false,
      false,
    ]);
    expect(parseModelConfig({ ...MISTRAL, num_key_value_heads: null }).numKvHeads).toBe(4);
    expect(
      parseModelConfig({ ...MISTRAL, num_attention_heads: 8, num_key_value_heads: undefined }).numKvHeads,
    ).toBe(8);
    expect(parseModelConfig({ ...LLAMA, head_dim: null }).headDim).toBe(16);
    expect(parseModelConfig({ ...LLAMA, eos_token_id: null }).eosTokenIds).toEqual([]);
    expect(parseModelConfig({ ...LLAMA, eos_token_id: [5, 6] }).eosTokenIds).toEqual([5, 6]);
  });

  test('biases follow the flags of the architecture that reads them', () => {
    const both = { attention_bias: true, mlp_bias: true };
    expect(parseModelConfig({ ...LLAMA, ...both })).toMatchObject({
      qkvBias: true,
      oBias: true,
      mlpBias: true,
    });
    expect(parseModelConfig({ ...QWEN3, ...both })).toMatchObject({
      qkvBias: true,
      oBias: true,
      mlpBias: false,
    });
    expect(parseModelConfig({ ...QWEN2, ...both })).toMatchObject({
      qkvBias: true,
      oBias: false,
      mlpBias: false,
    });
  });

  test('windows of Qwen: max_window_layers, layer_types, and off unless use_sliding_window', () => {
    const windowed = { ...QWEN2, use_sliding_window: true, sliding_window: 8, max_window_layers: 2 };
    expect(parseModelConfig(windowed)).toMatchObject({
      slidingWindow: 8,
      slidingLayers: [false, false, true],
    });
    expect(parseModelConfig({ ...windowed, max_window_layers: 0 }).slidingLayers).toEqual([true, true, true]);
    expect(parseModelConfig({ ...windowed, max_window_layers: 3 }).slidingWindow).toBeUndefined();
    expect(parseModelConfig({ ...windowed, use_sliding_window: false }).slidingWindow).toBeUndefined();
    const types = ['sliding_attention', 'full_attention', 'sliding_attention'];
    expect(parseModelConfig({ ...windowed, layer_types: types }).slidingLayers).toEqual([true, false, true]);
  });

  test('every spelling of RoPE gives the same configuration', () => {
    const llama3 = {
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 64,
    };
    const spellings = [
      { rope_parameters: { rope_type: 'llama3', rope_theta: 5e5, ...llama3 } },
      { rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...llama3 } },
      { rope_theta: 5e5, rope_scaling: { type: 'llama3', ...llama3 } },
      { rope_theta: 5e5, rope_parameters: { type: 'llama3', ...llama3 }, rope_scaling: null },
      // rope_scaling wins over rope_parameters; a theta inside over one beside; an original length beside over one inside.
      {
        rope_scaling: { rope_type: 'llama3', rope_theta: 5e5, ...llama3 },
        rope_theta: 1,
        rope_parameters: { rope_type: 'linear', factor: 2 },
      },
      {
        rope_theta: 5e5,
        original_max_position_embeddings: 64,
        rope_scaling: { rope_type: 'llama3', ...llama3, original_max_position_embeddings: 99 },
      },
    ];
    for (const spelling of spellings) {
      expect(parseModelConfig({ ...LLAMA, ...spelling }).rope).toEqual({
        theta: 5e5,
        scaling: { kind: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 64 },
      });
    }
    const linear = { theta: 10000, scaling: { kind: 'linear', factor: 2 } };
    expect(parseModelConfig({ ...LLAMA, rope_scaling: { type: 'linear', factor: 2 } }).rope).toEqual(linear);
    expect(parseModelConfig({ ...LLAMA, rope_scaling: {} }).rope).toEqual({
      theta: 10000,
      scaling: { kind: 'none' },
    });
  });

  test('is frozen at every depth', () => {
    const config = parseModelConfig(MIXTRAL);
    for (const part of [
      config,
      config.rope,
      config.rope.scaling,
      config.moe!,
      config.slidingLayers,
      config.eosTokenIds,
    ]) {
      expect(Object.isFrozen(part)).toBe(true);
    }
  });

  test.each([
    [
      'another class',
      { architectures: ['GemmaForCausalLM'], model_type: 'gemma' },
      /GemmaForCausalLM.*Qwen3 \(qwen3\)/,
    ],
    [
      'another class of a known type',
      { architectures: ['LlamaForSequenceClassification'] },
      /SequenceClassification/,
    ],
    ['a class and a type that disagree', { model_type: 'qwen2' }, /LlamaForCausalLM, model_type 'qwen2'/],
    [
      'no architecture',
      { architectures: undefined, model_type: undefined },
      /no named architecture.*supported/,
    ],
    ['yarn', { rope_scaling: { rope_type: 'yarn', factor: 4 } }, /'yarn'.*default, linear, dynamic, llama3/],
    ['longrope', { rope_parameters: { rope_type: 'longrope' } }, /'longrope'/],
    [
      'RoPE by layer type',
      { rope_parameters: { full_attention: { rope_type: 'default' } } },
      /differs by layer type/,
    ],
    ['partial rotary', { partial_rotary_factor: 0.5 }, /partial_rotary_factor is 0.5/],
    [
      'partial rotary inside',
      { rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.25 } },
      /0.25/,
    ],
    [
      'quantised weights',
      { quantization_config: { quant_method: 'gptq' } },
      /quantization_config.*not supported/,
    ],
    ['attention sinks', { attention_sinks: true }, /sinks/],
    ['another activation', { hidden_act: 'gelu' }, /hidden_act is "gelu"/],
    ['a missing size', { hidden_size: undefined }, /no hidden_size/],
    ['a size of the wrong type', { num_hidden_layers: '3' }, /num_hidden_layers is "3"/],
    ['a fraction', { vocab_size: 10.5 }, /vocab_size is 10.5/],
    ['a huge size', { intermediate_size: 2 ** 40 }, /intermediate_size/],
    ['heads that do not divide', { num_key_value_heads: 3 }, /num_key_value_heads is 3/],
    ['an uneven head', { head_dim: 15 }, /head_dim is 15/],
    ['hidden size that heads do not divide', { hidden_size: 66 }, /66/],
    ['a factor below 1', { rope_scaling: { type: 'linear', factor: 0.5 } }, /factor is 0.5/],
    ['a missing factor', { rope_scaling: { type: 'dynamic' } }, /factor of 'dynamic'/],
    ['an epsilon of 0', { rms_norm_eps: 0 }, /rms_norm_eps is 0/],
    ['a bad token id', { eos_token_id: [-1] }, /eos_token_id/],
    ['a bad flag', { tie_word_embeddings: 'yes' }, /tie_word_embeddings is "yes"/],
  ])('refuses %s by name', (_, change, message) => {
    expect(() => parseModelConfig({ ...LLAMA, ...change })).toThrow(ConfigError);
    expect(() => parseModelConfig({ ...LLAMA, ...change })).toThrow(message);
  });

  test.each([
    [
      'mixed layer types in Mistral',
      { ...MISTRAL, layer_types: ['full_attention', 'sliding_attention', 'full_attention'] },
    ],
    [
      'unknown layer types',
      { ...QWEN2, layer_types: ['linear_attention', 'full_attention', 'full_attention'] },
    ],
    ['layer types of the wrong length', { ...QWEN3, layer_types: ['full_attention'] }],
    ['windowed layers without a window', { ...QWEN3, layer_types: Array(3).fill('sliding_attention') }],
    ['more experts a token than experts', { ...MIXTRAL, num_local_experts: 2, num_experts_per_tok: 3 }],
    ['biases that Mistral does not have', { ...MISTRAL, attention_bias: true }],
    ['a list', []],
    ['null', null],
    ['text', 'llama'],
  ])('refuses %s', (_, json) => {
    expect(() => parseModelConfig(json)).toThrow(ConfigError);
  });
});

describe('ropeInverseFrequencies', () => {
  test.each(goldenCases().map((golden) => [golden.name, golden] as const))(
    'equals transformers: %s',
    (_, golden) => {
      const config = parseModelConfig(
        JSON.parse(readFileSync(join(golden.directory, 'config.json'), 'utf8')),
      );
      for (const [length, expected] of golden.inverseFrequencies) {
        const { inverseFrequencies, attentionFactor } = ropeInverseFrequencies(config, length);
        expect(attentionFactor).toBe(1);
        expect(inverseFrequencies.length).toBe(expected.length);
        inverseFrequencies.forEach((value, i) =>
          expect(Math.abs(value / expected[i] - 1)).toBeLessThan(4e-7),
        );
      }
    },
  );

  test('dynamic frequencies change with the length beyond the trained one, and only there', () => {
    const config = parseModelConfig({
      ...LLAMA,
      max_position_embeddings: 64,
      rope_scaling: { type: 'dynamic', factor: 2 },
    });
    const at = (length: number) => [...ropeInverseFrequencies(config, length).inverseFrequencies];
    expect(at(64)).toEqual(at(1));
    expect(at(65)).not.toEqual(at(64));
    expect(at(200)[7]).toBeLessThan(at(100)[7]);
    expect(at(200)[0]).toBe(1);
  });

  test('a prompt is rotated for its whole length, a later token for the length it completes', () => {
    expect([0, 4, 9].map((position) => ropeLength(10, position))).toEqual([10, 10, 10]);
    expect([10, 11].map((position) => ropeLength(10, position))).toEqual([11, 12]);
  });
});
