import { describe, expect, it } from 'vitest';
import { tensor, type DType } from '../../src/engine/device.ts';
import { attention, attentionLaunch, mixedLaunch } from '../../src/engine/device/cuda/kernels/attention.ts';
import {
  boxRows,
  chooseAttention,
  chooseMixed,
  type CudaAttentionShape,
} from '../../src/engine/device/cuda/kernels/attentionVariants.ts';
import { merge } from '../../src/engine/device/cuda/kernels/merge.ts';
import type { CudaTarget } from '../../src/engine/device/cuda/launch.ts';
import type { AttentionCall } from '../../src/engine/kernels/calls.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';

const HOPPER_BYTES = 232448;

function target(family: 'hopper' | 'portable', sharedBytesPerCta = HOPPER_BYTES): CudaTarget {
  const cuda = { computeCapability: 90, family, multiprocessors: 132, sharedBytesPerCta, l2Bytes: 5e7 };
  return { kind: 'cuda', cuda } as CudaTarget;
}

const LLAMA: CudaAttentionShape = {
  tile: 16,
  headDim: 128,
  group: 4,
  pageSize: 16,
  qType: 'bf16',
  kvType: 'bf16',
};

const layout = stepMetaLayout({
  tokens: 64,
  requests: 8,
  pages: 100,
  items16: 100,
  items128: 100,
  mergeRows: 200,
  attentionWorkgroups: 264,
  adjustments: 0,
});

function call(options: Partial<AttentionCall> = {}, type: DType = 'bf16'): AttentionCall {
  const view = (label: string, dtype: DType, shape: number[]) => tensor({ label, bytes: 0 }, dtype, shape);
  const cache = [50, 8, 16, 128];
  return {
    kernel: 'attention',
    label: 'attention',
    tile: 16,
    meta: view('meta', 'u32', [layout.words]),
    layout,
    q: view('q', type, [64, 32, 128]),
    kCache: view('kCache', type, cache),
    vCache: view('vCache', type, cache),
    out: view('out', type, [64, 32, 128]),
    partialOut: view('partialOut', 'f32', [700, 128]),
    partialLse: view('partialLse', 'f32', [700]),
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    pageSize: 16,
    scale: 0.5,
    ...options,
  };
}

describe('which CUDA kernel computes attention', () => {
  const source = (shape: Partial<CudaAttentionShape>, family: 'hopper' | 'portable' = 'hopper') => {
    const { source: name, defines } = chooseAttention({ ...LLAMA, ...shape }, target(family));
    return defines.TMA === undefined ? name : `${name} ${defines.TMA === 1 ? 'TMA' : 'cp.async'}`;
  };
  for (const [shape, hopper, portable] of [
    [{}, 'attention_decode TMA', 'attention_decode cp.async'],
    [{ tile: 128 }, 'attention_wgmma', 'attention_mma'],
    [{ tile: 128, headDim: 64, pageSize: 8 }, 'attention_wgmma', 'attention_mma'],
    [{ tile: 128, pageSize: 4 }, 'attention_mma', 'attention_mma'],
    [{ pageSize: 1 }, 'attention_decode cp.async', 'attention_decode cp.async'],
    [{ headDim: 96 }, 'attention_decode cp.async', 'attention_decode cp.async'],
    [{ tile: 128, headDim: 96 }, 'attention_mma', 'attention_mma'],
    [{ headDim: 20 }, 'attention_simple', 'attention_simple'],
    [{ qType: 'f32' }, 'attention_simple', 'attention_simple'],
    [{ tile: 128, qType: 'f32', kvType: 'f32' }, 'attention_simple', 'attention_simple'],
  ] as [Partial<CudaAttentionShape>, string, string][]) {
    it(`${JSON.stringify(shape)}: ${hopper}, ${portable}`, () => {
      expect(source(shape)).toBe(hopper);
      expect(source(shape, 'portable')).toBe(portable);
    });
  }

  it('fits shared memory, whatever the shape', () => {
    for (const bytes of [101376, 166912, HOPPER_BYTES]) {
      const family = bytes === HOPPER_BYTES ? 'hopper' : 'portable';
      for (const headDim of [8, 64, 80, 96, 128, 192, 256]) {
        for (const tile of [16, 128] as const) {
          for (const group of [1, 4, 12]) {
            const shape = { ...LLAMA, tile, headDim, group };
            expect(chooseAttention(shape, target(family, bytes)).sharedBytes).toBeLessThanOrEqual(bytes);
          }
        }
        const mixed = chooseMixed({ ...LLAMA, headDim }, target(family, bytes));
        expect(mixed?.sharedBytes ?? 0).toBeLessThanOrEqual(bytes);
      }
    }
  });

  it('a guest is small', () => {
    const guest = chooseAttention({ ...LLAMA, threads: 128 }, target('hopper'));
    expect(guest.threads).toBeLessThanOrEqual(128);
    expect(guest.sharedBytes).toBeLessThanOrEqual(70 * 1024);
  });

  it('a box lies within a page', () => {
    expect([1, 3, 8, 16, 48, 96, 128, 256].map((page) => boxRows(page, 16))).toEqual([
      1, 1, 8, 16, 16, 16, 16, 16,
    ]);
    expect([16, 48, 96, 256].map((page) => boxRows(page, 128))).toEqual([16, 16, 32, 128]);
  });
});

describe('launches of attention on CUDA', () => {
  it('take CTAs from the call, else one for each multiprocessor', () => {
    expect(attention.launches(call(), target('hopper'))[0].ctas).toBe(132);
    expect(attention.launches(call({ workgroups: 7 }), target('hopper'))[0].ctas).toBe(7);
  });

  it('describe the KV cache as blocks of 64 columns', () => {
    const [launch] = attention.launches(call(), target('hopper'));
    expect(launch.args.filter((arg) => 'map' in arg).map((arg) => arg.map)).toMatchObject(
      ['kCache', 'vCache'].map((label) => ({
        view: { buffer: { label } },
        sizes: [64, 50 * 8 * 16, 2],
        strides: [256, 128],
        box: [64, 16, 2],
        swizzle: 128,
      })),
    );
  });

  it('count arrivals only where they merge', () => {
    const counters = (merges: boolean) =>
      attentionLaunch(call(), target('hopper'), merges).args.filter((arg) => 'counters' in arg);
    expect(counters(false)).toEqual([]);
    expect(counters(true)).toEqual([{ counters: 4 * 700 }]);
  });

  it('have both tile sizes in one launch where wgmma is', () => {
    const mixed = mixedLaunch(call(), target('hopper'));
    expect(mixed?.source).toBe('attention_mixed');
    const section = layout.attention[0];
    const words = mixed!.args.filter((arg) => 'u32' in arg).map((arg) => arg.u32);
    expect(words.slice(0, 4)).toEqual([
      section.items128,
      section.workIndptr128,
      section.items16,
      section.workIndptr16,
    ]);
    expect(mixedLaunch(call(), target('portable'))).toBeUndefined();
  });

  it('refuse what no kernel computes, and say what to do', () => {
    const wrong = call({ vCache: call({}, 'f16').vCache });
    expect(() => attentionLaunch(wrong, target('hopper'))).toThrow('allocate both alike');
    expect(() => attentionLaunch(call({ headDim: 320 }), target('hopper'))).toThrow('got head_dim 320');
    expect(() => attentionLaunch(call({ kvHeads: 5 }), target('hopper'))).toThrow('check the model');
  });

  it('are prebuilt for the head dimensions of the model families', () => {
    for (const family of ['hopper', 'portable'] as const) {
      const [launch] = attention.launches(
        call(),
        target(family, family === 'hopper' ? HOPPER_BYTES : 166912),
      );
      expect(attention.prebuilt(family)).toContainEqual({ source: launch.source, defines: launch.defines });
    }
  });

  it('merge: one thread for two columns, at most two CTAs for each multiprocessor', () => {
    const { meta, partialOut, partialLse, out } = call();
    const one = {
      kernel: 'merge',
      label: 'merge',
      meta,
      layout,
      partialOut,
      partialLse,
      out,
      headDim: 128,
    } as const;
    expect(merge.launches({ ...one, maxRows: 1 }, target('hopper'))[0].ctas).toBe(8);
    expect(merge.launches(one, target('hopper'))[0].ctas).toBe(50);
    expect(merge.launches({ ...one, workgroups: 3 }, target('hopper'))[0].ctas).toBe(3);
  });
});
