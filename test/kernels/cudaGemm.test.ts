import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TensorView } from '../../src/engine/device.ts';
import { hopper, gemmVariants, launchWith } from '../../src/engine/device/cuda/gemm/hopper.ts';
import { candidates, chooseHopper } from '../../src/engine/device/cuda/gemm/hopper/choose.ts';
import { MOST_UNITS, scheduleOf } from '../../src/engine/device/cuda/gemm/hopper/schedule.ts';
import {
  ALL_VARIANTS,
  clusterOf,
  GUEST_VARIANTS,
  sharedBytesOf,
  threadsOf,
  variantName,
  weightsOf,
} from '../../src/engine/device/cuda/gemm/hopper/variant.ts';
import type { CudaTarget } from '../../src/engine/device/cuda/launch.ts';
import type { GemmCall } from '../../src/engine/kernels/calls.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';

const target = {
  kind: 'cuda',
  cuda: {
    computeCapability: 90,
    family: 'hopper',
    multiprocessors: 132,
    sharedBytesPerCta: 232448,
    l2Bytes: 50e6,
  },
} as CudaTarget;
const layout = stepMetaLayout({
  tokens: 4096,
  requests: 64,
  pages: 64,
  items16: 8,
  items128: 8,
  mergeRows: 8,
  attentionWorkgroups: 8,
  adjustments: 8,
});
const view = (dtype: TensorView['dtype'], ...shape: number[]): TensorView => ({
  buffer: { label: 'test', bytes: 0 },
  offset: 0,
  dtype,
  shape,
});
const call = (rows: number, N: number, K: number, more: Partial<GemmCall> = {}): GemmCall => ({
  kernel: 'gemm',
  label: 'test',
  rows: 'tokens',
  meta: view('u32', layout.words),
  layout,
  maxRows: rows,
  a: view('bf16', rows, K),
  w: view('bf16', N, K),
  out: view('bf16', rows, more.epilogue === 'silu_mul' ? N / 2 : N),
  outColumn: 0,
  epilogue: 'none',
  ...more,
});
const shapes = fc.record({
  rows: fc.integer({ min: 1, max: 9000 }),
  N: fc.integer({ min: 1, max: 40000 }),
  K: fc.integer({ min: 1, max: 2000 }).map((eighth) => eighth * 8),
  multiprocessors: fc.integer({ min: 1, max: 148 }),
  workgroups: fc.option(fc.integer({ min: 1, max: 300 }), { nil: undefined }),
});

describe('variants of gemm_wgmma', () => {
  it('have names of their own and fit the GPU', () => {
    expect(new Set(ALL_VARIANTS.map(variantName)).size).toBe(ALL_VARIANTS.length);
    for (const variant of ALL_VARIANTS) {
      const shared = sharedBytesOf(variant, false);
      expect(shared * variant.resident + 1024 * variant.resident).toBeLessThanOrEqual(228 * 1024);
      expect(threadsOf(variant) * variant.resident).toBeLessThanOrEqual(1024);
      expect(variant.tokens % (8 * variant.clusterW)).toBe(0);
      expect(weightsOf(variant) % (16 * variant.clusterT)).toBe(0);
    }
  });

  it('leave room for a guest', () => {
    const room = GUEST_VARIANTS.map((variant) => 228 * 1024 - sharedBytesOf(variant, false) - 2048);
    expect(Math.max(...room)).toBeGreaterThanOrEqual(36 * 1024);
  });
});

describe('scheduleOf', () => {
  it('covers all tiles, within the units that scratch has room for, in no more steps than whole tiles', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 3000 }),
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 300 }),
        fc.boolean(),
        (tiles, clusters, steps, shares) => {
          const plan = scheduleOf(tiles, clusters, steps, shares);
          expect(plan.fair).toBe(plan.fair && shares);
          expect(plan.cut).toBeLessThanOrEqual(tiles);
          expect((tiles - plan.cut) % clusters === 0 || plan.parts === 1).toBe(true);
          expect(plan.cut * plan.parts).toBeLessThanOrEqual(MOST_UNITS * clusters);
          expect(plan.steps).toBeLessThanOrEqual(Math.ceil(tiles / clusters) * steps);
          expect(plan.steps * clusters).toBeGreaterThanOrEqual(tiles * steps);
        },
      ),
    );
  });

  it('stays near the share of the CTAs, whatever their number', () => {
    // Tiles of 256 x 256 in clusters of two: up + gate and down projections of Llama-3-8B, 2048 rows.
    for (const [tiles, steps] of [
      [112 * 8, 64],
      [16 * 8, 224],
    ]) {
      for (let ctas = 60; ctas <= 132; ctas += 2) {
        const plan = scheduleOf(tiles, ctas / 2, steps, true);
        expect((tiles * steps) / (ctas / 2) / plan.steps).toBeGreaterThan(0.95);
      }
    }
  });
});

describe('chooseHopper', () => {
  it('takes one of the candidates, with no cluster larger than the budget', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const variant = chooseHopper(shape);
        expect(candidates(shape)).toContain(variant);
        expect(clusterOf(variant)).toBeLessThanOrEqual(shape.workgroups ?? Infinity);
      }),
    );
  });

  it('takes small tiles for few rows, large ones in clusters for many', () => {
    const shape = { N: 28672, K: 4096, multiprocessors: 132 };
    expect(chooseHopper({ ...shape, rows: 1 }).tokens).toBe(8);
    expect(chooseHopper({ ...shape, rows: 16 }).tokens).toBe(16);
    const many = chooseHopper({ ...shape, rows: 2048 });
    expect(weightsOf(many) * many.tokens).toBe(256 * 128);
    expect(clusterOf(many)).toBe(2);
  });
});

describe('launches', () => {
  it('carry what the kernel takes, in its order', () => {
    const [launch] = hopper.launches(call(1024, 6144, 4096), target);
    expect(launch.source).toBe('gemm_wgmma');
    expect(launch.args.map((argument) => Object.keys(argument)[0])).toEqual([
      'map',
      'map',
      'pointer',
      'u32',
      'u32',
      'u32',
      'u32',
      'u32',
      'pointer',
      'u32',
      'u32',
      'pointer',
      'scratch',
      'counters',
    ]);
    expect(launch.ctas % (launch.cluster ?? 1)).toBe(0);
  });

  it('keep to any budget', () => {
    for (const workgroups of [1, 2, 3, 99, 132, 264]) {
      for (const variant of gemmVariants(call(500, 4096, 4096), target)) {
        const launch = launchWith(call(500, 4096, 4096, { workgroups }), variant, target);
        expect(launch.ctas).toBeLessThanOrEqual(workgroups);
        expect(launch.ctas).toBeGreaterThan(0);
        expect(launch.ctas % launch.cluster!).toBe(0);
      }
    }
  });

  it('read gate and up rows in turn', () => {
    const [launch] = hopper.launches(call(16, 28672, 4096, { epilogue: 'silu_mul' }), target);
    const [weights] = launch.args;
    expect(weights).toMatchObject({
      map: { sizes: [4096, 8, 2, 1792], strides: [8192, 14336 * 8192, 8 * 8192] },
    });
  });

  it('are refused with a reason where the kernel cannot', () => {
    const reason = (given: GemmCall): string | undefined => hopper.canImplement(given, target);
    expect(reason(call(4, 64, 64))).toBeUndefined();
    expect(reason(call(4, 64, 60))).toMatch('multiple of 8');
    expect(reason(call(4, 64, 64, { a: view('f32', 4, 64) }))).toMatch('operands');
    expect(reason(call(4, 64, 64, { add: true }))).toMatch('f32');
    expect(reason(call(4, 24, 64, { epilogue: 'silu_mul' }))).toMatch('multiple of 16');
    expect(reason(call(4, 64, 64, { parts: 2 }))).toMatch('ranges of K');
  });

  it('take a variant by its name', () => {
    const given = call(1024, 4096, 4096);
    for (const tactic of hopper.tactics(given, target)) {
      expect(hopper.launches(given, target, tactic)[0].variant).toContain(tactic);
    }
    expect(() => hopper.launches(given, target, 'none')).toThrow('no wgmma variant');
  });
});
