/** Norms that the products beside them do (fuseNorms.ts), against the twins of product, norm and product. */
import { describe, expect, it } from 'vitest';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { createCudaDevice } from '../../src/engine/device/cuda/openCuda.ts';
import { tensor, tensorBytes, type Device, type DType, type TensorView } from '../../src/engine/device.ts';
import type { KernelCall } from '../../src/engine/kernels/calls.ts';
import { stepMetaLayout, writeCounts, writeRange } from '../../src/engine/plan/stepMeta.ts';
import { HALF } from './half.ts';
import { partOf, randomInt, seededRandom, type Random } from './harness.ts';
import { onlyOnCuda } from './testDevice.ts';

const { toBits, toFloat, poison } = HALF.bf16;
const EPSILON = 1e-5;
const PART_SLOT = 3;

interface Shape {
  rows: number;
  capacity: number;
  /** Columns of the stream; of the product before; of the two after. */
  hidden: number;
  before: number;
  after: number;
  gated: number;
  part?: readonly [start: number, end: number];
  bias: boolean;
}

interface Values {
  shape: number[];
  dtype: 'f32' | 'half';
  values: Float32Array;
}

function made(next: Random, dtype: Values['dtype'], shape: number[], scale = 1): Values {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < values.length; i++) {
    const value = (next() * 2 - 1) * scale;
    values[i] = dtype === 'half' ? toFloat(toBits(value)) : value;
  }
  return { shape, dtype, values };
}

const OUTPUTS = ['x', 'out', 'ffn'] as const;

/** What the calls leave in x and in both products, and how many launches they were. */
async function run(device: Device, shape: Shape, data: Record<string, Values>, workgroups?: number) {
  const half: DType = device.target.kind === 'cuda' ? 'bf16' : 'f32';
  const layout = stepMetaLayout({
    tokens: shape.capacity,
    requests: 4,
    pages: 4,
    ranges: 8,
    items16: 4,
    items128: 4,
    mergeRows: 4,
    attentionWorkgroups: 4,
    adjustments: 4,
  });
  const words = new Uint32Array(layout.words);
  writeCounts(layout, words, shape.rows, 1);
  if (shape.part) writeRange(layout, words, PART_SLOT, shape.part, [0, 0]);
  const views: Record<string, TensorView> = {};
  const put = (name: string, dtype: DType, dims: number[], bytes: ArrayBufferView): TensorView => {
    const buffer = device.createBuffer(name, Math.max(bytes.byteLength, tensorBytes(dtype, dims)));
    device.write(buffer, 0, bytes);
    return (views[name] = tensor(buffer, dtype, dims));
  };
  for (const [name, { shape: dims, dtype, values }] of Object.entries(data)) {
    if (dtype === 'half' && half === 'bf16') put(name, half, dims, Uint16Array.from(values, toBits));
    else put(name, 'f32', dims, values);
  }
  const poisoned = (name: string, dims: number[]): TensorView => {
    const count = dims[0] * dims[1];
    if (half === 'bf16') return put(name, half, dims, new Uint16Array(count).fill(poison));
    return put(name, 'f32', dims, new Float32Array(count).fill(NaN));
  };
  const normed = poisoned('normed', [shape.capacity, shape.hidden]);
  const out = poisoned('out', [shape.capacity, shape.after]);
  const ffn = poisoned('ffn', [shape.capacity, shape.gated]);
  const common = {
    meta: put('meta', 'u32', [layout.words], words),
    layout,
    rows: 'tokens' as const,
    maxRows: shape.capacity,
    range: shape.part && PART_SLOT,
    workgroups,
  };
  const product = { ...common, kernel: 'gemm' as const, outColumn: 0 };
  const { a, w, x, weight, next, bias, gateUp } = views;
  const calls: KernelCall[] = [
    { ...product, label: 'before', a, w, out: x, epilogue: 'none', add: true },
    { ...common, label: 'norm', kernel: 'rms_norm', x, weight, out: normed, epsilon: EPSILON },
    { ...product, label: 'after', a: normed, w: next, out, epilogue: 'none', ...(shape.bias && { bias }) },
    { ...product, label: 'gated', a: normed, w: gateUp, out: ffn, epilogue: 'silu_mul' },
  ];
  const program = await device.compile('norm between products', calls);
  device.submit(program);
  const results: Record<string, Float32Array> = {};
  for (const name of OUTPUTS) {
    const view = views[name];
    const bytes = await device.read(view.buffer, 0, tensorBytes(view.dtype, view.shape));
    results[name] =
      view.dtype === 'bf16'
        ? Float32Array.from(new Uint16Array(bytes), (bits) => toFloat(bits))
        : new Float32Array(bytes);
  }
  const launches = device.profile ? (await device.profile(program)).length : 0;
  program.destroy();
  for (const { buffer } of Object.values(views)) device.destroyBuffer(buffer);
  return { results, launches };
}

function dataOf(next: Random, { capacity, hidden, before, after, gated }: Shape): Record<string, Values> {
  const scale = (columns: number): number => Math.sqrt(3 / columns);
  return {
    a: made(next, 'half', [capacity, before]),
    w: made(next, 'half', [hidden, before], scale(before)),
    x: made(next, 'f32', [capacity, hidden], 3),
    weight: made(next, 'f32', [hidden], 2),
    next: made(next, 'half', [after, hidden], scale(hidden)),
    bias: made(next, 'f32', [after]),
    gateUp: made(next, 'half', [2 * gated, hidden], scale(hidden)),
  };
}

function compare(
  shape: Shape,
  what: string,
  got: Record<string, Float32Array>,
  expected: Record<string, Float32Array>,
): void {
  const [start, end] = shape.part ?? [0, shape.rows];
  for (const name of OUTPUTS) {
    const columns = expected[name].length / shape.capacity;
    for (let i = 0; i < expected[name].length; i++) {
      const row = Math.floor(i / columns);
      const inside = row >= start && row < end;
      // bf16 twice: of what the product reads and of what it writes.
      const allowed = name === 'x' ? 1e-4 : 0.03 + 0.015 * Math.abs(expected[name][i]);
      const same = Number.isNaN(got[name][i]) && Number.isNaN(expected[name][i]);
      if (same || (inside && Math.abs(got[name][i] - expected[name][i]) <= allowed)) continue;
      if (!inside && got[name][i] === expected[name][i]) continue;
      const place = `${name}[${row}, ${i % columns}]`;
      expect.fail(
        `${what}, ${JSON.stringify(shape)}: ${place} is ${got[name][i]}, expected ${expected[name][i]}`,
      );
    }
  }
}

describe('norms between products', () => {
  it.for([1, 2, 3, 4, 5, 6])(
    'are done by the products, any budget and rows: %i',
    { timeout: 120_000 },
    async (seed, context) => {
      onlyOnCuda(context, 'products that do norms');
      const next = seededRandom(seed);
      const cpu = await createCpuDevice();
      const rows = [randomInt(next, 1, 16), randomInt(next, 17, 130), randomInt(next, 131, 400)];
      for (const [at, count] of rows.entries()) {
        const part = (seed + at) % 2 === 0 && count > 3 ? partOf(next, count) : undefined;
        const shape: Shape = {
          rows: count,
          capacity: count + randomInt(next, 0, 40),
          hidden: 8 * randomInt(next, 2, 90),
          before: 8 * randomInt(next, 1, 60),
          after: 8 * randomInt(next, 1, 50),
          gated: 8 * randomInt(next, 1, 40),
          part,
          bias: next() < 0.5,
        };
        const data = dataOf(next, shape);
        const expected = await run(cpu, shape, data);
        await check(shape, data, expected.results);
      }
      cpu.destroy();
    },
  );

  async function check(
    shape: Shape,
    data: Record<string, Values>,
    expected: Record<string, Float32Array>,
  ): Promise<void> {
    const fused = await createCudaDevice();
    const apart = await createCudaDevice({ fusesNorms: false });
    const onHopper = fused.target.cuda.family === 'hopper';
    let first: Record<string, Float32Array> | undefined;
    for (const workgroups of [undefined, 132, 3, 40]) {
      const { results, launches } = await run(fused, shape, data, workgroups);
      expect(launches).toBe(onHopper ? 3 : 4);
      compare(shape, `fused, ${workgroups ?? 'default'} workgroups`, results, expected);
      const again = await run(fused, shape, data, workgroups);
      expect(again.results.out, 'a second run').toEqual(results.out);
      first ??= results;
    }
    const { results, launches } = await run(apart, shape, data);
    expect(launches).toBe(4);
    compare(shape, 'apart', results, expected);
    fused.destroy();
    apart.destroy();
  }
});
