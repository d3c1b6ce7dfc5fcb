/**
 * The engine against Hugging Face transformers: last-token logits and 24 greedy tokens of every golden model, on the
 * cpu device, on webgpu with f32, and on webgpu with f16 storage (bounds: see each device below).
 *
 * Prompts go through the engine's own path: chunked prefill (prompts of 130 and 300 tokens are cut), paged KV with an
 * odd page size, all five prompts of a model in one batch for the tokens, each alone for the logits.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { findNodeAdapters } from '../../src/engine/device/webgpu/gpu.node.ts';
import { createWebgpuDevice } from '../../src/engine/device/webgpu/webgpuDevice.ts';
import { Engine } from '../../src/engine/engine.ts';
import { PagePool } from '../../src/engine/kv/pages.ts';
import { parseModelConfig } from '../../src/engine/model/config.ts';
import { readJson } from '../../src/engine/model/modelFiles.ts';
import { openModelDirectory } from '../../src/engine/model/modelFilesNode.ts';
import { ModelRunner } from '../../src/engine/model/runner.ts';
import { chooseSizes } from '../../src/engine/model/sizes.ts';
import { Request } from '../../src/engine/schedule/request.ts';
import { Scheduler } from '../../src/engine/schedule/scheduler.ts';
import { ask, fakeText } from '../engine/fakeRunner.ts';
import { goldenCases, type GoldenCase, type GoldenPrompt } from './goldens.ts';

const PAGE_SIZE = 7;
const BATCH = 96;

interface Setting {
  name: string;
  storage: 'f32' | 'f16';
  open: () => Promise<Device>;
  /** Largest logit error, as a share of the reference's largest logit. */
  bound: number;
  /** Greedy tokens must be equal as long as the reference's best two differ by more than this (same share). */
  margin: number;
}

async function openWebgpu(): Promise<Device> {
  const { candidates, rejected } = await findNodeAdapters();
  if (candidates.length === 0) throw new Error(rejected.map(({ reason }) => reason).join('; '));
  return createWebgpuDevice(candidates[0].adapter);
}

const settings: Setting[] = [
  { name: 'cpu f32', storage: 'f32', open: () => createCpuDevice(), bound: 1e-3, margin: 0 },
  { name: 'webgpu f32', storage: 'f32', open: openWebgpu, bound: 2e-3, margin: 0 },
  { name: 'webgpu f16', storage: 'f16', open: openWebgpu, bound: 3e-2, margin: 3e-2 },
];

async function loadRunner(device: Device, golden: GoldenCase, storage: 'f32' | 'f16'): Promise<ModelRunner> {
  const files = await openModelDirectory(golden.directory);
  const config = parseModelConfig(await readJson(files, 'config.json'));
  const options = {
    storage,
    pageSize: PAGE_SIZE,
    maxBatchTokens: BATCH,
    maxRequests: 5,
    maxModelLen: 400,
    kvMemoryBytes: 2 ** 24,
  };
  const runner = await ModelRunner.load(device, config, files, chooseSizes(config, device.target, options));
  await files.close();
  return runner;
}

/** Logits of the prompt's last token, the prompt alone in the engine. */
async function lastLogits(runner: ModelRunner, golden: GoldenPrompt): Promise<Float32Array> {
  const { sizes, config, device, buffers } = runner;
  const pool = new PagePool(sizes.pages, sizes.pageSize);
  const scheduler = new Scheduler(pool, { ...sizes, maxAdjustments: runner.maxAdjustments });
  scheduler.enqueue(new Request(ask('logits', [...golden.prompt]), [0, 0], 1, 0));
  for (;;) {
    const batch = scheduler.next()!;
    await runner.launch(batch, []);
    await runner.collect(batch.samples);
    for (const { request, count } of batch.segments) request.computed += count;
    if (batch.samples > 0) break;
  }
  return new Float32Array(await device.read(buffers.logits.buffer, 0, config.vocabSize * 4));
}

/** Greedy tokens of all prompts, computed in one changing batch. */
async function greedyTokens(runner: ModelRunner, prompts: readonly GoldenPrompt[]): Promise<number[][]> {
  const engine = new Engine(runner, fakeText, {
    endTokens: [],
    maxQueuedRequests: 100,
    maxQueuedTokens: 10_000,
    checkPages: true,
  });
  prompts.forEach(({ prompt, tokens }, i) => {
    const request = ask(`${i}`, [...prompt], { maxTokens: tokens.length, ignoreEos: true });
    expect(engine.submit(request)).toEqual({ accepted: true });
  });
  const result: number[][] = prompts.map(() => []);
  while (engine.hasWork) {
    for (const event of await engine.step()) {
      if (event.type === 'error') throw new Error(event.error.message);
      if (event.type === 'tokens') result[Number(event.id)].push(...event.tokenIds);
    }
  }
  return result;
}

describe.each(settings)('parity with transformers on $name', ({ storage, open, bound, margin }) => {
  let device: Device;
  beforeAll(async () => {
    device = await open();
  }, 60_000);
  afterAll(() => device?.destroy());

  it.each(goldenCases())(
    '$name',
    async (golden) => {
      const runner = await loadRunner(device, golden, storage);
      const largest = Math.max(...golden.prompts.flatMap(({ logits }) => [...logits].map(Math.abs)));
      for (const prompt of golden.prompts) {
        const logits = await lastLogits(runner, prompt);
        const scale = Math.max(...prompt.logits.map(Math.abs));
        const error = Math.max(...prompt.logits.map((value, i) => Math.abs(value - logits[i])));
        expect(error / scale, `logits after ${prompt.prompt.length} tokens`).toBeLessThan(bound);
      }
      const tokens = await greedyTokens(runner, golden.prompts);
      golden.prompts.forEach((prompt, i) => {
        // After the first token that could have gone either way, the texts are different texts.
        const close = prompt.margins.findIndex((value) => value <= margin * largest);
        const sure = close < 0 ? prompt.tokens.length : close;
        expect(tokens[i].slice(0, sure), `greedy tokens after ${prompt.prompt.length} tokens`).toEqual(
          prompt.tokens.slice(0, sure),
        );
      });
      runner.destroy();
    },
    120_000,
  );
});
