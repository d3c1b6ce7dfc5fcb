import { describe, expect, it } from 'vitest';
import type { DeviceTarget, TensorView } from '../../src/engine/device.ts';
import { elementCount, tensor } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { attention } from '../../src/engine/kernels/attention.ts';
import { merge } from '../../src/engine/kernels/merge.ts';
import type { KernelCall } from '../../src/engine/kernels/calls.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { makeBatch, type Batch, type BatchOptions } from './attentionBatch.ts';
import { compareWithTwin, randomInt, seededRandom, type Random } from './harness.ts';
import { ON_CUDA } from './testDevice.ts';

/** The batch's attention as a program: for each nano-batch both tile sizes, then the merge. */
function callsOf(
  batch: Batch,
  views: Record<string, TensorView>,
  common: Pick<KernelCall, 'meta' | 'layout'>,
): KernelCall[] {
  const { heads, kvHeads, headDim, pageSize, slidingWindow } = batch.options;
  const { q, kCache, vCache, out, partialOut, partialLse } = views;
  const tensors = { q, kCache, vCache, out, partialOut, partialLse };
  const shape = { heads, kvHeads, headDim, pageSize, slidingWindow, scale: batch.scale };
  return batch.parts.flatMap((_, slot): KernelCall[] => [
    { kernel: 'attention', label: 'attention16', tile: 16, slot, ...common, ...tensors, ...shape },
    { kernel: 'attention', label: 'attention128', tile: 128, slot, ...common, ...tensors, ...shape },
    { kernel: 'merge', label: 'merge', slot, partialOut, partialLse, out, headDim, ...common },
  ]);
}

/** Runs plan, twins and merge on the cpu device. */
async function runOnCpu(batch: Batch) {
  const device = await createCpuDevice({ registry: { attention, merge } });
  const layout = stepMetaLayout({
    requests: 1,
    adjustments: 0,
    ...batch.capacity,
  } as Parameters<typeof stepMetaLayout>[0]);
  const words = new Uint32Array(layout.words);
  const plans = batch.fillMeta(words, layout);
  const views: Record<string, TensorView> = {};
  const data: Record<string, Float32Array> = {};
  const next = seededRandom(5);
  for (const [name, spec] of Object.entries(batch.tensors)) {
    const values = new Float32Array(elementCount(spec.shape));
    for (let i = 0; i < values.length; i++) values[i] = spec.fill ? spec.fill(i, next) : NaN;
    data[name] = values;
    const buffer = device.createBuffer(name, values.byteLength);
    device.write(buffer, 0, values);
    views[name] = tensor(buffer, 'f32', spec.shape);
  }
  const metaBuffer = device.createBuffer('meta', words.byteLength);
  device.write(metaBuffer, 0, words);
  const meta = tensor(metaBuffer, 'u32', [layout.words]);
  device.submit(await device.compile('attention', callsOf(batch, views, { meta, layout })));
  return { plans, data, out: new Float32Array(await device.read(views.out.buffer, 0, data.out.byteLength)) };
}

/** Softmax over everything a query sees, straight from the definition; knows nothing of plans, tiles or pages sharing. */
function naive(batch: Batch, data: Record<string, Float32Array>): Float32Array {
  const { heads, kvHeads, headDim, pageSize, slidingWindow = Infinity } = batch.options;
  const out = new Float32Array(data.out.length);
  for (const { qStart, qLen, kvLen, pageStart } of batch.requests) {
    for (let i = 0; i < qLen; i++) {
      for (let head = 0; head < heads; head++) {
        const row = ((qStart + i) * heads + head) * headDim;
        const position = kvLen - qLen + i;
        const scores: { weight: number; at: number }[] = [];
        for (let token = 0; token <= position; token++) {
          if (token <= position - slidingWindow) continue;
          const page = batch.pageTable[pageStart + Math.floor(token / pageSize)];
          const kvHead = Math.floor(head / (heads / kvHeads));
          const at = ((page * kvHeads + kvHead) * pageSize + (token % pageSize)) * headDim;
          let score = 0;
          for (let d = 0; d < headDim; d++) score += data.q[row + d] * data.kCache[at + d];
          scores.push({ weight: Math.exp(score * batch.scale), at });
        }
        const sum = scores.reduce((total, { weight }) => total + weight, 0);
        for (const { weight, at } of scores) {
          for (let d = 0; d < headDim; d++) out[row + d] += (weight / sum) * data.vCache[at + d];
        }
      }
    }
  }
  return out;
}

/** Up to three borders of nano-batches, mostly within requests. */
function randomCuts(next: Random, lengths: BatchOptions['lengths']): number[] {
  const tokens = lengths.reduce((sum, [qLen]) => sum + qLen, 0);
  if (tokens < 2) return [];
  const cuts = Array.from({ length: randomInt(next, 1, 3) }, () => randomInt(next, 1, tokens - 1));
  return [...new Set(cuts)].sort((a, b) => a - b);
}

describe('plan, twin and merge together', () => {
  const next = seededRandom(23);
  for (let round = 0; round < 14; round++) {
    const options: BatchOptions = {
      lengths: Array.from({ length: randomInt(next, 1, 5) }, (_, i): [number, number] => {
        const qLen = i % 2 === 0 ? randomInt(next, 0, 2) : randomInt(next, 1, 60);
        return [qLen, Math.max(0, qLen + randomInt(next, -20, round % 3 === 0 ? 900 : 90))];
      }),
      kvHeads: randomInt(next, 1, 3),
      heads: 0,
      headDim: 2 * randomInt(next, 1, 20),
      pageSize: [1, 3, 16, 32][round % 4],
      slidingWindow: round % 3 === 1 ? randomInt(next, 1, 50) : undefined,
      planned: [1, 2, 5, 64, 300][round % 5],
      tiles: round % 4 === 3 ? [16] : undefined,
      seed: round,
    };
    options.heads = options.kvHeads * randomInt(next, 1, 5);
    if (round % 2 === 1) options.cuts = randomCuts(next, options.lengths);
    const where = `${JSON.stringify(options.lengths)}${options.cuts ? ` cut at ${options.cuts}` : ''}`;
    it(`equal full softmax, batch ${round}: ${where}`, async () => {
      const batch = makeBatch(options);
      const { data, out, plans } = await runOnCpu(batch);
      const expected = naive(batch, data);
      const wrong = out.findIndex((value, i) => !(Math.abs(value - expected[i]) <= 2e-6));
      // A batch without tokens has one untouched row.
      const tokens = batch.requests.reduce((sum, { qLen }) => sum + qLen, 0);
      if (tokens > 0) expect(wrong < 0 ? '' : `[${wrong}]: ${out[wrong]}, not ${expected[wrong]}`).toBe('');
      if (round === 3) expect(Math.max(...plans.map(({ mergeRows }) => mergeRows))).toBeGreaterThan(0);
    });
  }
});

/** Facts that make the choosers take each kernel on whatever adapter the test has. */
const FEATURES = { f16: false, subgroups: true, subgroupMatrix: false, timestamps: false };
const NO_SUBGROUPS = { ...FEATURES, subgroups: false };
// Little workgroup memory makes the staged tile small: software adapters compile a large one for a minute.
const LIMITS = {
  maxStorageBuffers: 8,
  maxBindingBytes: 2 ** 27,
  maxBufferBytes: 2 ** 28,
  maxWorkgroupBytes: 640,
  maxInvocations: 256,
  maxWorkgroups: 65535,
};
const KERNELS: { name: string; facts: Partial<DeviceTarget>; tiles: readonly number[]; quick?: boolean }[] = [
  { name: 'lanes on a software adapter', facts: { software: true, features: FEATURES }, tiles: [16, 128] },
  {
    name: 'software adapter without subgroups',
    facts: { software: true, features: NO_SUBGROUPS },
    tiles: [16, 128],
    quick: true,
  },
  {
    name: 'lanes on a GPU',
    facts: { software: false, features: FEATURES, limits: { ...LIMITS, maxWorkgroupBytes: 16384 } },
    tiles: [16],
    quick: true,
  },
  {
    name: 'tile with subgroups',
    facts: { software: false, features: FEATURES, limits: LIMITS },
    tiles: [128],
    quick: true,
  },
  {
    name: 'tile without subgroups',
    facts: { software: false, features: NO_SUBGROUPS, limits: LIMITS },
    tiles: [16, 128],
    quick: true,
  },
];

interface CompareOptions {
  slot?: number;
  invocations?: number;
  budgets?: readonly (number | undefined)[];
}

async function compareTile(
  options: BatchOptions,
  tile: 16 | 128,
  target: Partial<DeviceTarget>,
  { slot, invocations, budgets }: CompareOptions = {},
): Promise<void> {
  const batch = makeBatch(options);
  const { heads, kvHeads, headDim, pageSize, slidingWindow } = options;
  await compareWithTwin({
    definition: attention,
    tensors: batch.tensors,
    capacity: batch.capacity,
    meta: (words, layout) => void batch.fillMeta(words, layout),
    call: (views) => ({
      kernel: 'attention',
      tile,
      slot,
      ...views,
      heads,
      kvHeads,
      headDim,
      pageSize,
      slidingWindow,
      scale: batch.scale,
    }),
    target,
    invocations,
    budgets: budgets ?? [undefined, 1, 2, 5, 64],
  });
}

const DECODE: [number, number][] = [
  [1, 1],
  [1, 700],
  [1, 33],
  [2, 97],
  [1, 0],
  [3, 2],
  [1, 128],
];
const MIXED: [number, number][] = [
  [40, 40],
  [1, 300],
  [150, 333],
  [0, 10],
  [37, 5],
];

type Shape = Omit<BatchOptions, 'lengths'> & { tile: 16 | 128; slow?: boolean };

// Small head dimensions and groups where the software adapter's compiler would take long; `slow` ones only on its own
// variant.
const HALF = { q: 'f16', kv: 'f16', out: 'f16' } as const;
const SHAPES: Shape[] = [
  { tile: 16, heads: 4, kvHeads: 2, headDim: 16, pageSize: 16, planned: 4 },
  { tile: 16, heads: 8, kvHeads: 4, headDim: 32, pageSize: 16, planned: 4, slow: true },
  { tile: 16, heads: 3, kvHeads: 1, headDim: 64, pageSize: 16, planned: 64, ...HALF, slow: true },
  { tile: 16, heads: 2, kvHeads: 2, headDim: 24, pageSize: 1, planned: 5, ...HALF, slidingWindow: 40 },
  {
    tile: 16,
    heads: 6,
    kvHeads: 2,
    headDim: 20,
    pageSize: 1,
    planned: 5,
    kv: 'f16',
    slidingWindow: 40,
    slow: true,
  },
  { tile: 16, heads: 7, kvHeads: 1, headDim: 6, pageSize: 3, planned: 2, ...HALF, slow: true },
  { tile: 16, heads: 2, kvHeads: 1, headDim: 6, pageSize: 3, planned: 2, ...HALF },
  { tile: 16, heads: 3, kvHeads: 3, headDim: 24, pageSize: 32, planned: 30, slidingWindow: 7 },
  { tile: 128, heads: 4, kvHeads: 2, headDim: 32, pageSize: 16, planned: 4 },
  { tile: 128, heads: 4, kvHeads: 1, headDim: 32, pageSize: 16, planned: 7, ...HALF, slow: true },
  { tile: 128, heads: 5, kvHeads: 1, headDim: 14, pageSize: 3, planned: 2, kv: 'f16', slidingWindow: 50 },
  { tile: 128, heads: 2, kvHeads: 2, headDim: 40, pageSize: 1, planned: 20, out: 'f16' },
];

// On cuda there is one chooser, which sees the machine as it is.
for (const { name, facts, tiles, quick } of ON_CUDA ? KERNELS.slice(0, 1) : KERNELS) {
  describe(`attention, ${name}`, () => {
    SHAPES.forEach(({ tile, slow, ...shape }, index) => {
      if (!tiles.includes(tile) || (quick && slow)) return;
      const lengths = tile === 16 ? DECODE : MIXED;
      const { q = 'f32', kv = 'f32', out = 'f32' } = shape;
      const text = `${tile} rows, ${shape.heads}/${shape.kvHeads} heads of ${shape.headDim}, page ${shape.pageSize}`;
      it(`${text}, ${q} ${kv} ${out}, plan for ${shape.planned}, window ${shape.slidingWindow}`, async () => {
        await compareTile({ ...shape, lengths, tiles: [tile], seed: index }, tile, facts);
      });
    });
  });
}

describe('attention of one nano-batch, in workgroups of any size', () => {
  for (const [name, tile, invocations, slot] of [
    ['lanes on a software adapter', 16, 32, 1],
    ['lanes on a software adapter', 128, undefined, 2],
    ['lanes on a GPU', 16, 16, 1],
    ['lanes on a GPU', 16, 128, 2],
    ['tile with subgroups', 128, 32, 1],
  ] as const) {
    it(`${name}, ${tile} rows, ${invocations ?? 'its own'} invocations, slot ${slot}`, async () => {
      const { facts } = KERNELS.find((kernel) => kernel.name === name)!;
      const { tile: _, ...shape } = SHAPES[tile === 16 ? 0 : 8];
      const lengths = tile === 16 ? [...DECODE, ...DECODE] : MIXED;
      const cuts = tile === 16 ? [4, 11] : [17, 100];
      const options = { ...shape, lengths, cuts, tiles: [tile], seed: slot };
      await compareTile(options, tile, facts, { slot, invocations, budgets: [undefined, 1, 3, 1024] });
    });
  }
});
