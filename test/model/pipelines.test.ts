/**
 * Pipelines compute what the plain order computes: same logits, same keys and values, to f32 rounding, on tiny models
 * of several architectures, with prefill requests that boundaries cut.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { findNodeAdapters } from '../../src/engine/device/webgpu/gpu.node.ts';
import { createWebgpuDevice } from '../../src/engine/device/webgpu/webgpuDevice.ts';
import { KERNELS } from '../../src/engine/kernels/index.ts';
import type { ModelRunner } from '../../src/engine/model/runner.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { nanoBatchOnly, nonOverlap, overlap } from '../../src/engine/pipeline/presets.ts';
import { mixBatch, randomizeKv, type BatchMix } from '../../src/engine/search/measure.ts';
import { goldenCases } from './goldens.ts';
import { loadRunner } from './parityRun.ts';

const MODELS = ['llama3', 'qwen2-window', 'mixtral'];
const MIXES: BatchMix[] = [
  { decode: 4, context: 60, prefill: 40 },
  { decode: 4, context: 33, prefill: 0 },
  { decode: 0, context: 1, prefill: 50, prefillContext: 9 },
];

/** Everything a step leaves behind. */
async function resultsOf(
  runner: ModelRunner,
  mix: BatchMix,
  pipeline: Pipeline | undefined,
): Promise<Float32Array[]> {
  const { device, buffers, config } = runner;
  randomizeKv(runner);
  runner.usePipelines(pipeline && (() => pipeline));
  const batch = mixBatch(runner, mix);
  const tokens = await (await runner.launch(batch, [])).collect();
  expect(tokens).toHaveLength(batch.samples);
  const bytes = batch.samples * config.vocabSize * 4;
  const views = [buffers.logits, ...buffers.kv.flatMap(({ k, v }) => [k, v])];
  return Promise.all(
    views.map(
      async ({ buffer }, i) => new Float32Array(await device.read(buffer, 0, i === 0 ? bytes : buffer.bytes)),
    ),
  );
}

function expectClose(got: readonly Float32Array[], expected: readonly Float32Array[], what: string): void {
  got.forEach((values, at) => {
    const other = expected[at];
    let scale = 1e-6;
    for (const value of other) scale = Math.max(scale, Math.abs(value));
    const wrong = values.findIndex((value, i) => !(Math.abs(value - other[i]) <= 2e-5 * scale));
    if (wrong >= 0) expect.fail(`${what}, tensor ${at} [${wrong}]: ${values[wrong]}, not ${other[wrong]}`);
  });
}

function presets(runner: ModelRunner, mix: BatchMix, workgroups: number): Pipeline[] {
  const graph = runner.graph();
  const batch = { tokens: mix.decode + mix.prefill, decodeTokens: mix.decode };
  return [
    nonOverlap(graph, batch, workgroups),
    nanoBatchOnly(graph, batch, workgroups, { grid: 1 }),
    overlap(graph, batch, workgroups, { grid: 1 }),
    overlap(graph, batch, workgroups, { grid: 1, boundary: 3, cut: 1, attentionShare: 1 }),
    overlap(graph, batch, workgroups, { grid: 1, arrangement: 'halves' }),
  ];
}

const DEVICES: Record<string, () => Promise<Device>> = {
  cpu: () => createCpuDevice({ registry: KERNELS }),
  webgpu: async () => {
    const { candidates } = await findNodeAdapters();
    return createWebgpuDevice(candidates[0].adapter, { registry: KERNELS });
  },
};

describe.each(Object.keys(DEVICES))('%s', (kind) => {
  let device: Device;
  beforeAll(async () => {
    device = await DEVICES[kind]();
  });
  afterAll(() => device?.destroy());

  it.each(MODELS)(
    '%s: presets equal the plain order',
    async (name) => {
      const runner = await loadRunner(
        device,
        goldenCases().find((golden) => golden.name === name)!,
        'f32',
      );
      for (const mix of kind === 'cpu' ? MIXES : MIXES.slice(0, 1)) {
        const plain = await resultsOf(runner, mix, undefined);
        for (const pipeline of presets(runner, mix, Math.max(4, device.target.defaultWorkgroups))) {
          const got = await resultsOf(runner, mix, pipeline);
          expectClose(got, plain, `${pipeline.name} on ${JSON.stringify(mix)}`);
        }
      }
      runner.destroy();
    },
    120_000,
  );

  it('a pipeline serves batches of other make-ups', async () => {
    const runner = await loadRunner(
      device,
      goldenCases().find(({ name }) => name === 'llama3')!,
      'f32',
    );
    const made = presets(runner, { decode: 4, context: 9, prefill: 60 }, 4)[2];
    const mixes: BatchMix[] = [
      { decode: 2, context: 50, prefill: 33 },
      { decode: 4, context: 7, prefill: 0 },
      { decode: 0, context: 1, prefill: 17 },
      { decode: 1, context: 90, prefill: 1 },
    ];
    for (const mix of kind === 'cpu' ? mixes : mixes.slice(0, 2)) {
      expectClose(
        await resultsOf(runner, mix, made),
        await resultsOf(runner, mix, undefined),
        JSON.stringify(mix),
      );
    }
    runner.destroy();
  }, 120_000);
});
