/**
 * The engine on the cuda device with the head dimensions that its fast kernels are for (the golden models are smaller):
 * logits as on the cpu device, and the same text with and without CUDA graphs and, where the margin allows, for any CTA
 * budget.
 */
import { describe, expect, it } from 'vitest';
import { randomModelFiles } from '../../bench/serving/randomModel.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import type { Device } from '../../src/engine/device.ts';
import type { CudaDeviceOptions } from '../../src/engine/device/cuda/cudaDevice.ts';
import { createCudaDevice } from '../../src/engine/device/cuda/openCuda.ts';
import { Engine } from '../../src/engine/engine.ts';
import { parseModelConfig } from '../../src/engine/model/config.ts';
import { readJson } from '../../src/engine/model/modelFiles.ts';
import { ModelRunner } from '../../src/engine/model/runner.ts';
import { chooseSizes } from '../../src/engine/model/sizes.ts';
import { overlap, type OverlapOptions } from '../../src/engine/pipeline/presets.ts';
import { mixBatch, randomizeKv, type BatchMix } from '../../src/engine/search/measure.ts';
import { onlyOnCuda } from '../device/testDevice.ts';
import { ask, fakeText } from '../engine/fakeRunner.ts';

const base = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
  vocab_size: 1000,
  bos_token_id: 0,
  eos_token_id: 1,
  hidden_size: 512,
  intermediate_size: 1536,
  num_hidden_layers: 3,
  max_position_embeddings: 2048,
  tie_word_embeddings: false,
};
const MODELS = {
  'heads of 128, groups of 4': { ...base, num_attention_heads: 8, num_key_value_heads: 2, head_dim: 128 },
  'heads of 64, groups of 1': { ...base, num_attention_heads: 4, num_key_value_heads: 4, head_dim: 64 },
  'heads of 256, groups of 2': { ...base, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 256 },
};

async function load(device: Device, json: object, storage: 'bf16' | 'f16' | 'f32'): Promise<ModelRunner> {
  const files = randomModelFiles(json);
  const config = parseModelConfig(await readJson(files, 'config.json'));
  const sizes = chooseSizes(config, device.target, {
    storage,
    maxBatchTokens: 512,
    maxRequests: 48,
    maxModelLen: 900,
    kvMemoryBytes: 2 ** 28,
  });
  return ModelRunner.load(device, config, files, sizes);
}

async function withCuda<T>(options: CudaDeviceOptions, use: (device: Device) => Promise<T>): Promise<T> {
  const device = await createCudaDevice({ onLog: () => undefined, ...options });
  try {
    return await use(device);
  } finally {
    device.destroy();
  }
}

/** A greedy token, and by how much its logit is the largest. */
interface Chosen {
  token: number;
  margin: number;
}

/** Greedy tokens of prompts of several lengths, in one changing batch. */
async function text(runner: ModelRunner): Promise<Chosen[][]> {
  const engine = new Engine(runner, fakeText, {
    endTokens: [],
    maxQueuedRequests: 100,
    maxQueuedTokens: 10_000,
  });
  const lengths = [1, 7, 130, 300, 700, 64, 33, 500];
  lengths.forEach((length, id) => {
    const prompt = Array.from({ length }, (_, i) => (i * 7919 + id * 104729) % 1000);
    const request = ask(`${id}`, prompt, { maxTokens: 12, ignoreEos: true });
    request.sampling.logprobs = 2;
    expect(engine.submit(request).accepted).toBe(true);
  });
  const result: Chosen[][] = lengths.map(() => []);
  while (engine.hasWork) {
    for (const event of await engine.step()) {
      if (event.type === 'error') throw new Error(event.error.message);
      if (event.type !== 'tokens') continue;
      event.tokenIds.forEach((token, i) => {
        const [first, second] = event.logprobs![i].top;
        result[Number(event.id)].push({ token, margin: first.logprob - second.logprob });
      });
    }
  }
  return result;
}

/** Rounding of bf16 may turn a choice between logits that are closer than this, and with it the text that follows. */
const CLOSE = 0.05;

/**
 * The same text, but for what follows a close choice: another number of CTAs cuts products and KV ranges in other places,
 * so sums are rounded in another order.
 */
function expectSameText(got: Chosen[][], expected: Chosen[][], what: string): void {
  let compared = 0;
  expected.forEach((request, id) => {
    const differs = request.findIndex(({ token }, i) => token !== got[id][i].token);
    compared += differs < 0 ? request.length : differs;
    if (differs >= 0)
      expect(request[differs].margin, `${what}, request ${id}, token ${differs}`).toBeLessThan(CLOSE);
  });
  expect(compared, `${what}: tokens that are equal`).toBeGreaterThan(0.6 * expected.flat().length);
}

/** Logits of one step; the KV cache holds the same random numbers before it. */
async function logits(runner: ModelRunner, mix: BatchMix): Promise<Float32Array> {
  const batch = mixBatch(runner, mix);
  await (await runner.launch(batch, [])).collect();
  const bytes = batch.samples * runner.config.vocabSize * 4;
  return new Float32Array(await runner.device.read(runner.buffers.logits.buffer, 0, bytes));
}

function difference(got: Float32Array, expected: Float32Array): number {
  let [most, scale] = [0, 1e-9];
  expected.forEach((value, i) => {
    const off = Math.abs(got[i] - value);
    most = Math.max(most, Number.isNaN(off) ? Infinity : off);
    scale = Math.max(scale, Math.abs(value));
  });
  return most / scale;
}

describe.each(Object.entries(MODELS))('the engine on cuda, %s', (_, json) => {
  it('has the logits of the cpu device after a prompt in chunks', { timeout: 120_000 }, async (context) => {
    onlyOnCuda(context, 'fast attention kernels');
    const mix: BatchMix = { decode: 0, context: 1, prefill: 200 };
    const cpu = await createCpuDevice();
    const expected = await logits(await load(cpu, json, 'f32'), mix);
    cpu.destroy();
    for (const [storage, bound] of [
      ['bf16', 3e-2],
      ['f16', 5e-3],
    ] as const) {
      await withCuda({}, async (device) => {
        expect(difference(await logits(await load(device, json, storage), mix), expected)).toBeLessThan(
          bound,
        );
      });
    }
  });

  it(
    'writes the same text with and without graphs, and for any budget',
    { timeout: 120_000 },
    async (context) => {
      onlyOnCuda(context, 'CUDA graphs');
      const run = (options: CudaDeviceOptions) =>
        withCuda(options, async (device) => text(await load(device, json, 'bf16')));
      const expected = await run({});
      expect(await run({ graphs: false })).toEqual(expected);
      for (const multiprocessors of [1, 5, 37, 100]) {
        expectSameText(await run({ multiprocessors }), expected, `${multiprocessors} SMs`);
      }
    },
  );

  it(
    'has the same logits through overlapped and co-located pipelines',
    { timeout: 120_000 },
    async (context) => {
      onlyOnCuda(context, 'streams');
      await withCuda({}, async (device) => {
        const runner = await load(device, json, 'bf16');
        const mix: BatchMix = { decode: 40, context: 500, prefill: 200 };
        const rows = { tokens: 240, decodeTokens: 40 };
        randomizeKv(runner);
        const expected = await logits(runner, mix);
        const { defaultWorkgroups } = device.target;
        const choices: OverlapOptions[] = [
          { boundary: 40 },
          { boundary: 20, cut: 1 },
          { boundary: 120, attentionShare: 32 },
          { boundary: 40, colocated: true },
          { boundary: 20, colocated: true, cut: 1 },
          { arrangement: 'halves', attentionShare: 32, cut: 1, greenContexts: true },
          { arrangement: 'halves', attentionShare: 28, cut: 1, greenContexts: true, prefillBeside: true },
          { arrangement: 'halves', colocated: true, cut: 1 },
        ];
        for (const choice of choices) {
          const pipeline = overlap(runner.graph(), rows, defaultWorkgroups, choice);
          runner.usePipelines(() => pipeline);
          for (let round = 0; round < 5; round++) {
            randomizeKv(runner);
            expect(difference(await logits(runner, mix), expected), JSON.stringify(choice)).toBeLessThan(
              2e-2,
            );
          }
          runner.usePipelines(undefined);
        }
      });
    },
  );
});
