/** 200 random pipelines compute what the plain order computes, to f32 rounding, dense and with experts. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { KERNELS } from '../../src/engine/kernels/index.ts';
import type { ModelRunner } from '../../src/engine/model/runner.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { printPipeline } from '../../src/engine/pipeline/print.ts';
import { randomPipeline } from '../../src/engine/pipeline/random.ts';
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

describe.each(['llama3', 'mixtral'])('%s', (name) => {
  it(`${COUNT} random pipelines equal the plain order`, { timeout: 300_000 }, async () => {
    const golden = goldenCases().find((each) => each.name === name)!;
    const runner = await loadRunner(device, golden, 'f32');
    const plain = [];
    for (const mix of MIXES) plain.push(await resultsOf(runner, mix));
    for (let seed = 0; seed < COUNT; seed++) {
      const which = seed % MIXES.length;
      const { decode, prefill } = MIXES[which];
      const batch = { tokens: decode + prefill, decodeTokens: decode };
      const pipeline = randomPipeline(runner.graph(), batch, WORKGROUPS, seed);
      const off = difference(await resultsOf(runner, MIXES[which], pipeline), plain[which]);
      if (!(off <= 2e-5)) expect.fail(`off by ${off}:\n${printPipeline(pipeline)}`);
    }
    runner.destroy();
  });
});
