/** Random pipelines, with decode rows first and in halves, compute what the plain order computes, to f32 rounding, dense, with experts and windows. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { KERNELS } from '../../src/engine/kernels/index.ts';
import type { ModelRunner } from '../../src/engine/model/runner.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import type { BatchRows } from '../../src/engine/pipeline/arrangement.ts';
import { nanoBatchOnly, overlap, type OverlapOptions } from '../../src/engine/pipeline/presets.ts';
import { printPipeline } from '../../src/engine/pipeline/print.ts';
import { randomHalves, randomPipeline } from '../../src/engine/pipeline/random.ts';
import { pipelineProblems } from '../../src/engine/pipeline/validate.ts';
import { mixBatch, randomizeKv, type BatchMix } from '../../src/engine/search/measure.ts';
import { goldenCases } from '../model/goldens.ts';
import { loadRunner } from '../model/parityRun.ts';

const COUNT = 100;
const WORKGROUPS = 12;
const MIXES: BatchMix[] = [
  { decode: 4, context: 20, prefill: 14 },
  { decode: 5, context: 33, prefill: 0 },
  { decode: 0, context: 1, prefill: 18, prefillContext: 5 },
];

/** Prompts that lie on both sides of the cut, from their start and behind a context. */
const HALVES: BatchMix[] = [
  { decode: 4, context: 20, prefill: 14 },
  { decode: 3, context: 60, prefill: 40, prefillContext: 30 },
  { decode: 4, context: 33, prefill: 0 },
  { decode: 1, context: 50, prefill: 9, prefillContext: 2 },
];

let device: Device;
beforeAll(async () => {
  device = await createCpuDevice({ registry: KERNELS });
});
afterAll(() => device?.destroy());

/** Logits of one step, and the keys and values that it leaves, from the same cache each time. */
async function resultsOf(runner: ModelRunner, mix: BatchMix, pipeline?: Pipeline): Promise<Float32Array[]> {
  randomizeKv(runner);
  runner.usePipelines(pipeline && (() => pipeline));
  const batch = mixBatch(runner, mix);
  await (await runner.launch(batch, [])).collect();
  const bytes = batch.samples * runner.config.vocabSize * 4;
  const views = [runner.buffers.logits, ...runner.buffers.kv.flatMap(({ k, v }) => [k, v])];
  return Promise.all(
    views.map(
      async ({ buffer }, i) => new Float32Array(await device.read(buffer, 0, i === 0 ? bytes : buffer.bytes)),
    ),
  );
}

/** Largest difference in relation to the largest value, over all tensors; infinite where one is not a number. */
function difference(got: readonly Float32Array[], expected: readonly Float32Array[]): number {
  return Math.max(
    ...got.map((values, at) => {
      let [most, scale] = [0, 1e-6];
      values.forEach((value, i) => {
        const off = Math.abs(value - expected[at][i]);
        most = Math.max(most, Number.isNaN(off) ? Infinity : off);
        scale = Math.max(scale, Math.abs(expected[at][i]));
      });
      return most / scale;
    }),
  );
}

/** The largest difference to the plain order of pipelines that `make` makes for a batch, `count` of them. */
async function expectPlain(
  name: string,
  mixes: readonly BatchMix[],
  count: number,
  make: (runner: ModelRunner, batch: BatchRows, seed: number) => Pipeline,
): Promise<void> {
  const golden = goldenCases().find((each) => each.name === name)!;
  const runner = await loadRunner(device, golden, 'f32');
  const plain = [];
  for (const mix of mixes) plain.push(await resultsOf(runner, mix));
  for (let seed = 0; seed < count; seed++) {
    const which = seed % mixes.length;
    const { decode, prefill } = mixes[which];
    const pipeline = make(runner, { tokens: decode + prefill, decodeTokens: decode }, seed);
    expect(pipelineProblems(pipeline, runner.graph())).toEqual([]);
    const off = difference(await resultsOf(runner, mixes[which], pipeline), plain[which]);
    if (!(off <= 2e-5)) expect.fail(`off by ${off}:\n${printPipeline(pipeline)}`);
  }
  runner.destroy();
}

const random = (runner: ModelRunner, batch: BatchRows, seed: number): Pipeline =>
  randomPipeline(runner.graph(), batch, WORKGROUPS, seed);

describe.each(['llama3', 'mixtral'])('%s', (name) => {
  it(`${COUNT} random pipelines equal the plain order`, { timeout: 300_000 }, async () => {
    await expectPlain(name, MIXES, COUNT, random);
  });
});

describe.each(['llama3', 'mixtral', 'qwen2-window', 'mistral-window'])('%s in halves', (name) => {
  it('random pipelines equal the plain order', { timeout: 300_000 }, async () => {
    await expectPlain(name, HALVES, 60, (runner, batch, seed) =>
      random(runner, randomHalves(batch, seed), seed),
    );
  });

  it('presets equal the plain order, also when made for another batch', { timeout: 300_000 }, async () => {
    const options: OverlapOptions[] = [
      { cut: 1, attentionShare: 3 },
      { cut: 0.5, colocated: true, firstHalf: 0.3 },
      { cut: 0.5, boundary: 3 },
    ];
    const other = { tokens: 37, decodeTokens: 11 };
    const kinds = options.flatMap((each) =>
      [overlap, nanoBatchOnly].flatMap((preset) => [true, false].map((own) => ({ each, preset, own }))),
    );
    await expectPlain(name, HALVES, kinds.length * HALVES.length, (runner, batch, seed) => {
      const { each, preset, own } = kinds[Math.floor(seed / HALVES.length)];
      const more = { ...each, grid: 1, arrangement: 'halves' as const };
      return preset(runner.graph(), own ? batch : other, WORKGROUPS, more);
    });
  });
});
