/** The small kernels (embed, rms_norm, rope_append, silu_mul), in the shapes of models' steps. */
import type { Device, DType, TensorView } from '../../src/engine/device.ts';
import { tensor, tensorBytes } from '../../src/engine/device.ts';
import { SAMPLED_WORDS, stepMetaLayout, writeCounts } from '../../src/engine/plan/stepMeta.ts';
import type { CaseGroup } from './index.ts';
import type { TimedCase } from './timing.ts';

export interface SmallShape {
  tokens: number;
  hidden: number;
  intermediate: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocabulary: number;
  /** Storage of weights, q and KV pages; activations of the residual stream are always f32. */
  dtype: 'f32' | 'f16';
}

/** The embedded model. */
export const EMBEDDED: Omit<SmallShape, 'tokens' | 'dtype'> = {
  hidden: 256,
  intermediate: 768,
  heads: 8,
  kvHeads: 4,
  headDim: 32,
  vocabulary: 4096,
};

export const LLAMA_1B: Omit<SmallShape, 'tokens' | 'dtype'> = {
  hidden: 2048,
  intermediate: 8192,
  heads: 32,
  kvHeads: 8,
  headDim: 64,
  vocabulary: 128256,
};

const PAGE_SIZE = 16;

/** One decoding stream, a full decode batch and a prefill chunk; software adapters get the embedded model. */
export function* groups(device: Device): Generator<CaseGroup> {
  const { software, kind } = device.target;
  const model = software ? EMBEDDED : LLAMA_1B;
  const dtype = kind === 'cpu' || software ? 'f32' : 'f16';
  for (const tokens of software ? [1, 16, 256] : [1, 64, 2048]) {
    yield smallCases(device, { ...model, tokens, dtype });
  }
}

/** The cases and the buffers behind them; `free` gives the memory back. */
export function smallCases(device: Device, shape: SmallShape): CaseGroup {
  const { tokens, hidden, intermediate, heads, kvHeads, headDim, vocabulary, dtype } = shape;
  const layout = stepMetaLayout({
    tokens,
    requests: tokens,
    pages: tokens,
    items16: 1,
    items128: 1,
    mergeRows: 1,
    attentionWorkgroups: 1,
    adjustments: 1,
  });
  const buffers: TensorView[] = [];
  const make = (label: string, kind: DType, dims: number[]): TensorView => {
    const view = tensor(device.createBuffer(label, tensorBytes(kind, dims)), kind, dims);
    buffers.push(view);
    return view;
  };
  const words = new Uint32Array(layout.words);
  writeCounts(layout, words, tokens, tokens);
  for (let t = 0; t < tokens; t++) {
    words[layout.tokenIds + t] = (t * 37) % vocabulary;
    words[layout.positions + t] = t;
    words[layout.kvSlots + t] = t;
    words[layout.logitRows + t] = t;
  }
  const meta = make('meta', 'u32', [layout.words]);
  device.write(meta.buffer, 0, words);

  const bytesOf = (...views: TensorView[]): number =>
    views.reduce((sum, view) => sum + tensorBytes(view.dtype, view.shape), 0);
  const base = { label: 'bench', meta, layout };
  const x = make('x', 'f32', [tokens, hidden]);
  const residual = make('residual', 'f32', [tokens, hidden]);
  const norm = make('norm', dtype, [tokens, hidden]);
  const weight = make('weight', 'f32', [hidden]);
  const table = make('table', dtype, [vocabulary, hidden]);
  const sampled = make('sampled', 'u32', [tokens, SAMPLED_WORDS]);
  const qkv = make('qkv', dtype, [tokens, (heads + 2 * kvHeads) * headDim]);
  const angles = make('angles', 'f32', [tokens, headDim / 2, 2]);
  const q = make('q', dtype, [tokens, heads, headDim]);
  const pages = Math.ceil(tokens / PAGE_SIZE);
  const kCache = make('k', dtype, [pages, kvHeads, PAGE_SIZE, headDim]);
  const vCache = make('v', dtype, [pages, kvHeads, PAGE_SIZE, headDim]);
  const gateUp = make('gateUp', dtype, [tokens, 2 * intermediate]);
  const activated = make('activated', dtype, [tokens, intermediate]);
  const headNorm = make('headNorm', 'f32', [headDim]);

  const rope = { ...base, kernel: 'rope_append' as const, qkv, table: angles, q, kCache, vCache };
  const ropeShape = { heads, kvHeads, headDim, pageSize: PAGE_SIZE, epsilon: 1e-5 };
  const cases: TimedCase[] = [
    {
      name: `embed [${tokens}, ${hidden}] ${dtype}`,
      calls: [{ ...base, kernel: 'embed', table, rowStart: 0, sampled, out: x }],
      bytes: tokens * hidden * 4 + tensorBytes(dtype, [tokens, hidden]),
    },
    {
      name: `rms_norm [${tokens}, ${hidden}] f32 -> ${dtype}`,
      calls: [{ ...base, kernel: 'rms_norm', rows: 'tokens', x, weight, out: norm, epsilon: 1e-5 }],
      bytes: bytesOf(x, norm, weight),
    },
    {
      name: `rms_norm + residual [${tokens}, ${hidden}] f32 -> ${dtype}`,
      calls: [{ ...base, kernel: 'rms_norm', rows: 'tokens', x, residual, weight, out: norm, epsilon: 1e-5 }],
      bytes: bytesOf(x, x, residual, norm, weight),
    },
    {
      name: `rope_append [${tokens}, ${heads}/${kvHeads} x ${headDim}] ${dtype}`,
      calls: [{ ...rope, ...ropeShape }],
      bytes: 2 * bytesOf(qkv),
    },
    {
      name: `rope_append + norm [${tokens}, ${heads}/${kvHeads} x ${headDim}] ${dtype}`,
      calls: [{ ...rope, ...ropeShape, qNorm: headNorm, kNorm: headNorm }],
      bytes: 2 * bytesOf(qkv),
    },
    {
      name: `silu_mul [${tokens}, ${intermediate}] ${dtype}`,
      calls: [{ ...base, kernel: 'silu_mul', gateUp, out: activated, rowsPerToken: 1 }],
      bytes: bytesOf(gateUp, activated),
    },
  ];
  return { cases, free: () => buffers.forEach((view) => device.destroyBuffer(view.buffer)) };
}
