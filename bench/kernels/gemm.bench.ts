/** gemm in the shapes of models' steps, and the square product that GPUs are compared by. */
import type { Device, DType, TensorView } from '../../src/engine/device.ts';
import { tensor, tensorBytes } from '../../src/engine/device.ts';
import type { GemmCall } from '../../src/engine/kernels/calls.ts';
import { stepMetaLayout, writeCounts } from '../../src/engine/plan/stepMeta.ts';
import type { CaseGroup } from './index.ts';

interface Shape {
  name: string;
  n: number;
  k: number;
  silu?: boolean;
}

/** The embedded model: hidden 256, 8/4 heads of 32, feed-forward 768, 4096 tokens. */
const EMBEDDED: Shape[] = [
  { name: 'qkv', n: 512, k: 256 },
  { name: 'o', n: 256, k: 256 },
  { name: 'gate_up', n: 1536, k: 256, silu: true },
  { name: 'down', n: 256, k: 768 },
  { name: 'logits', n: 4096, k: 256 },
];
const LLAMA_1B: Shape[] = [
  { name: 'qkv', n: 3072, k: 2048 },
  { name: 'o', n: 2048, k: 2048 },
  { name: 'gate_up', n: 16384, k: 2048, silu: true },
  { name: 'down', n: 2048, k: 8192 },
];
const LOGITS_1B: Shape = { name: 'logits', n: 128256, k: 2048 };
const SQUARE: Shape = { name: 'square', n: 4096, k: 4096 };

export function* groups(device: Device): Generator<CaseGroup> {
  const { software, kind } = device.target;
  if (kind === 'cpu') {
    for (const rows of [1, 16, 64]) yield gemmCases(device, EMBEDDED, rows, 'f32');
  } else if (software) {
    for (const dtype of ['f32', 'f16'] as const) {
      for (const rows of [1, 4, 16, 64, 256]) yield gemmCases(device, EMBEDDED, rows, dtype);
    }
  } else {
    for (const rows of [1, 8, 16, 64, 256, 2048]) {
      const shapes = rows <= 64 ? [...LLAMA_1B, LOGITS_1B] : LLAMA_1B;
      for (const shape of shapes) yield gemmCases(device, [shape], rows, 'f16');
    }
    yield gemmCases(device, [SQUARE], 4096, 'f16');
    yield gemmCases(device, [SQUARE], 1024, 'f32');
  }
}

/**
 * Cases with `rows` rows. Weights are `dtype`; so are activations, except on software adapters, where they stay f32.
 * Two sets of operands take turns on GPUs, so that small weights do not all stay in its cache.
 */
export function gemmCases(device: Device, shapes: readonly Shape[], rows: number, dtype: DType): CaseGroup {
  const { software } = device.target;
  const activations: DType = software ? 'f32' : dtype;
  const layout = stepMetaLayout({
    tokens: rows,
    requests: 1,
    pages: 1,
    items16: 1,
    items128: 1,
    mergeRows: 1,
    attentionWorkgroups: 1,
    adjustments: 1,
  });
  const made: TensorView[] = [];
  const make = (label: string, type: DType, shape: number[]): TensorView => {
    const view = tensor(device.createBuffer(label, tensorBytes(type, shape)), type, shape);
    made.push(view);
    return view;
  };
  const meta = make('meta', 'u32', [layout.words]);
  const words = new Uint32Array(layout.words);
  writeCounts(layout, words, rows, 0);
  device.write(meta.buffer, 0, words);
  const cases = shapes.map(({ name, n, k, silu }) => {
    const columns = silu ? n / 2 : n;
    const call = (set: number): GemmCall => ({
      kernel: 'gemm',
      label: name,
      meta,
      layout,
      rows: 'tokens',
      maxRows: rows,
      a: fill(device, make(`a${set}`, activations, [rows, k])),
      w: fill(device, make(`w${set}`, dtype, [n, k])),
      out: make(`out${set}`, activations, [rows, columns]),
      outColumn: 0,
      epilogue: silu ? 'silu_mul' : 'none',
    });
    const sets = software ? 1 : 2;
    return {
      name: `gemm ${name} ${rows} x ${n} x ${k} ${dtype}${silu ? ' silu_mul' : ''}${sets > 1 ? ' (two)' : ''}`,
      calls: Array.from({ length: sets }, (_, set) => call(set)),
      bytes:
        sets *
        (tensorBytes(activations, [rows, k]) +
          tensorBytes(dtype, [n, k]) +
          tensorBytes(activations, [rows, columns])),
      flops: sets * 2 * rows * n * k,
    };
  });
  return { cases, free: () => made.forEach((view) => device.destroyBuffer(view.buffer)) };
}

/** Random numbers: GPUs draw less power on zeros and clock higher. */
function fill(device: Device, view: TensorView): TensorView {
  const bytes = tensorBytes(view.dtype, view.shape);
  const words = new Uint32Array(Math.min(bytes / 4, 1 << 20));
  let state = 12345;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    // Signs and fractions are random, exponents those of 0.25 .. 0.5.
    words[i] = view.dtype === 'f16' ? (state & 0x83ff83ff) | 0x34003400 : (state & 0x807fffff) | 0x3e800000;
  }
  for (let at = 0; at < bytes; at += words.byteLength) {
    device.write(view.buffer, at, words.subarray(0, Math.min(words.length, (bytes - at) / 4)));
  }
  return view;
}
