/** Groups of independent kernel calls on small random tensors, to be run in one dispatch or one after the other. */
import type { TensorView } from '../../src/engine/device.ts';
import type { KernelCall } from '../../src/engine/kernels/calls.ts';
import { stepMetaLayout, writeCounts, type StepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { makeBatch } from './attentionBatch.ts';
import { poisoned, random, seededRandom, type TensorSpec } from './harness.ts';

export interface JoinedCase {
  tensors: Record<string, TensorSpec>;
  layout: StepMetaLayout;
  words: Uint32Array;
  calls(views: Record<string, TensorView>, meta: TensorView): KernelCall[];
}

export const TOKENS = 16;
const HIDDEN = 48;
const HEADS = { heads: 4, kvHeads: 2, headDim: 16, pageSize: 4 };

/** Decode requests and one longer prompt, cut into two nano-batches with a plan each. */
const batch = makeBatch({
  ...HEADS,
  lengths: [
    [1, 300],
    [1, 17],
    [1, 64],
    [1, 5],
    [12, 40],
  ],
  planned: 6,
  cuts: [2],
  seed: 11,
});
const layout = stepMetaLayout({
  adjustments: 0,
  ...batch.capacity,
} as Parameters<typeof stepMetaLayout>[0]);

type Calls = (views: Record<string, TensorView>) => object;

/** Tensors of one call (their names get a prefix) and the call. */
interface Part {
  tensors: Record<string, TensorSpec>;
  call: Calls;
}

interface GemmOptions {
  dtype?: 'f32' | 'f16';
  gated?: boolean;
  biased?: boolean;
}

const gemm = (
  n: number,
  k: number,
  { dtype = 'f32', gated = false, biased = false }: GemmOptions = {},
): Part => ({
  tensors: {
    a: random(dtype, [TOKENS, k]),
    w: random(dtype, [n, k]),
    ...(biased ? { bias: random('f32', [n]) } : {}),
    out: poisoned('f32', [TOKENS, gated ? n / 2 : n]),
  },
  call: ({ a, w, bias, out }) => ({
    ...{ kernel: 'gemm', rows: 'tokens', maxRows: TOKENS, a, w, out, outColumn: 0 },
    ...(gated ? { epilogue: 'silu_mul' } : { epilogue: 'none' }),
    ...(biased ? { bias } : {}),
  }),
});
const attention = (slot: number, tile: 16 | 128): Part => ({
  tensors: batch.tensors,
  call: (views) => ({ kernel: 'attention', slot, tile, ...HEADS, ...views, scale: batch.scale }),
});
const merge = (slot: number): Part => ({
  tensors: {
    partialOut: random('f32', batch.tensors.partialOut.shape),
    partialLse: random('f32', batch.tensors.partialLse.shape, 9),
    out: batch.tensors.out,
  },
  call: (views) => ({ kernel: 'merge', slot, ...views, headDim: HEADS.headDim }),
});
const norm: Part = {
  tensors: {
    x: random('f32', [TOKENS, HIDDEN]),
    residual: random('f32', [TOKENS, HIDDEN]),
    weight: random('f32', [HIDDEN]),
    out: poisoned('f16', [TOKENS, HIDDEN]),
  },
  call: (views) => ({ kernel: 'rms_norm', rows: 'tokens', ...views, epsilon: 1e-5 }),
};
const silu: Part = {
  tensors: { gateUp: random('f16', [TOKENS, 2 * HIDDEN], 4), out: poisoned('f16', [TOKENS, HIDDEN]) },
  call: (views) => ({ kernel: 'silu_mul', ...views, rowsPerToken: 1 }),
};
const cache = poisoned('f32', [4, HEADS.kvHeads, HEADS.pageSize, HEADS.headDim]);
const rope: Part = {
  tensors: {
    qkv: random('f32', [TOKENS, (HEADS.heads + 2 * HEADS.kvHeads) * HEADS.headDim]),
    table: random('f32', [TOKENS, HEADS.headDim / 2, 2]),
    q: poisoned('f32', [TOKENS, HEADS.heads, HEADS.headDim]),
    kCache: cache,
    vCache: cache,
  },
  call: (views) => ({ kernel: 'rope_append', ...HEADS, ...views, epsilon: 1e-5 }),
};

function made(...parts: Part[]): JoinedCase {
  const words = new Uint32Array(layout.words);
  writeCounts(layout, words, TOKENS, 0);
  batch.fillMeta(words, layout);
  const next = seededRandom(4);
  for (let token = 0; token < TOKENS; token++) {
    words[layout.positions + token] = Math.floor(next() * TOKENS);
    words[layout.kvSlots + token] = (token * 5 + 2) % 16; // distinct
  }
  const named = (part: number, name: string): string => `${part}.${name}`;
  return {
    layout,
    words,
    tensors: Object.fromEntries(
      parts.flatMap(({ tensors }, part) =>
        Object.entries(tensors).map(([name, spec]) => [named(part, name), spec]),
      ),
    ),
    calls: (views, meta) =>
      parts.map(({ tensors, call }, part) => {
        const own = Object.keys(tensors).map((name) => [name, views[named(part, name)]]);
        const fields = { meta, layout, label: `part ${part}` };
        return { ...fields, ...call(Object.fromEntries(own)) } as unknown as KernelCall;
      }),
  };
}

export const CASES: Record<string, JoinedCase> = {
  'GEMM, decode attention': made(gemm(40, 64, { biased: true }), attention(0, 16)),
  'gated GEMM, prefill attention': made(gemm(64, 48, { dtype: 'f16', gated: true }), attention(1, 128)),
  'GEMM, decode and prefill attention': made(gemm(40, 64), attention(0, 16), attention(1, 128)),
  'two GEMMs': made(gemm(24, 32), gemm(72, 40, { dtype: 'f16' })),
  'norm, merge': made(norm, merge(0)),
  'rope, norm': made(rope, norm),
  'GEMM, silu, norm, merge': made(gemm(40, 64), silu, norm, merge(0)),
};
