/** A golden model through the engine on a device: what parity.test.ts compares with transformers. */
import type { Device } from '../../src/engine/device.ts';
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
import type { GoldenCase, GoldenPrompt } from './goldens.ts';

const PAGE_SIZE = 7;
const BATCH = 96;

export async function loadRunner(
  device: Device,
  golden: GoldenCase,
  storage: 'f32' | 'f16' | 'bf16',
): Promise<ModelRunner> {
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
export async function lastLogits(runner: ModelRunner, golden: GoldenPrompt): Promise<Float32Array> {
  const { sizes, config, device, buffers } = runner;
  const pool = new PagePool(sizes.pages, sizes.pageSize);
  const scheduler = new Scheduler(pool, { ...sizes, maxAdjustments: runner.maxAdjustments });
  scheduler.enqueue(new Request(ask('logits', [...golden.prompt]), [0, 0], 1, 0));
  for (;;) {
    const batch = scheduler.next()!;
    const step = await runner.launch(batch, []);
    await step.collect();
    for (const { request, count } of batch.segments) request.computed += count;
    if (batch.samples > 0) break;
  }
  return new Float32Array(await device.read(buffers.logits.buffer, 0, config.vocabSize * 4));
}

/** Greedy tokens of all prompts, computed in one changing batch. */
export async function greedyTokens(
  runner: ModelRunner,
  prompts: readonly GoldenPrompt[],
): Promise<number[][]> {
  const engine = new Engine(runner, fakeText, {
    endTokens: [],
    maxQueuedRequests: 100,
    maxQueuedTokens: 10_000,
    checkPages: true,
  });
  prompts.forEach(({ prompt, tokens }, i) => {
    const request = ask(`${i}`, [...prompt], { maxTokens: tokens.length, ignoreEos: true });
    const result = engine.submit(request);
    if (!result.accepted) throw new Error(result.error.message);
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

export interface ParityResult {
  /** Largest logit error for each prompt, as a share of the reference's largest logit. */
  logitErrors: number[];
  /** For each prompt: whether all greedy tokens before the first one with a margin of at most `margin` are equal. */
  tokensEqual: boolean[];
}

/** @param margin as a share of the largest logit of the model: closer calls may go either way */
export async function runParity(
  device: Device,
  golden: GoldenCase,
  storage: 'f32' | 'f16' | 'bf16',
  margin: number,
): Promise<ParityResult> {
  const runner = await loadRunner(device, golden, storage);
  const largest = Math.max(...golden.prompts.flatMap(({ logits }) => [...logits].map(Math.abs)));
  const logitErrors: number[] = [];
  for (const prompt of golden.prompts) {
    const logits = await lastLogits(runner, prompt);
    const scale = Math.max(...prompt.logits.map(Math.abs));
    const errors = prompt.logits.map((value, i) => Math.abs(value - logits[i]));
    logitErrors.push(errors.some(Number.isNaN) ? Infinity : Math.max(...errors) / scale);
  }
  const tokens = await greedyTokens(runner, golden.prompts);
  const tokensEqual = golden.prompts.map((prompt, i) => {
    // After the first token that could have gone either way, the texts are different texts.
    const close = prompt.margins.findIndex((value) => value <= margin * largest);
    const sure = close < 0 ? prompt.tokens.length : close;
    return tokens[i].slice(0, sure).join() === prompt.tokens.slice(0, sure).join();
  });
  runner.destroy();
  return { logitErrors, tokensEqual };
}
