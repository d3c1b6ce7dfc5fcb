/**
 * Tries many GEMM variants on the machine's GPU and prints a table, so that the winners can be written into
 * src/engine/kernels/gemm/choose.ts. Each variant is checked against sums in double precision at random outputs
 * before it is timed. Arguments: names of sections (matrix, small, few, tile, odd, moe); all when left out.
 *
 * justify: one program of independent sections, each a table of configurations.
 *
 *   npx vite build --mode node --ssr bench/kernels/gemm.tune.ts --outDir /tmp/tune && node /tmp/tune/gemm.tune.js
 */
import { tensor, tensorBytes, type DType, type TensorView } from '../../src/engine/device.ts';
import { findNodeAdapters } from '../../src/engine/device/webgpu/gpu.node.ts';
import { createWebgpuDevice } from '../../src/engine/device/webgpu/webgpuDevice.ts';
import type { GemmCall, MoeGemmCall } from '../../src/engine/kernels/calls.ts';
import { gemm } from '../../src/engine/kernels/gemm.ts';
import { EVERY_VARIANT } from '../../src/engine/kernels/gemm/choose.ts';
import { gemmLaunch, moeGemmLaunch } from '../../src/engine/kernels/gemm/launch.ts';
import type { GemmVariant } from '../../src/engine/kernels/gemm/variant.ts';
import { moeGemm } from '../../src/engine/kernels/moe_gemm.ts';
import { stepMetaLayout, writeCounts } from '../../src/engine/plan/stepMeta.ts';
import { timeCase } from './timing.ts';

type Matrix = Extract<GemmVariant, { kind: 'matrix' }>;
type Few = Extract<GemmVariant, { kind: 'few' }>;

interface Problem {
  m: number;
  n: number;
  k: number;
  aType?: DType;
  wType?: DType;
  outType?: DType;
  epilogue?: GemmCall['epilogue'];
  bias?: boolean;
  outColumn?: number;
}

const POOL = 1 << 20;
let current: { variant: GemmVariant; workgroups: number | undefined };

const { candidates, rejected } = await findNodeAdapters();
if (candidates.length === 0) throw new Error(rejected.map(({ reason }) => reason).join('; '));
const device = await createWebgpuDevice(candidates[0].adapter, {
  registry: {
    gemm: {
      ...gemm,
      launches: (call, target) => [
        gemmLaunch({ ...call, workgroups: current.workgroups }, current.variant, target),
      ],
    },
    moe_gemm: {
      ...moeGemm,
      launches: (call, target) => [
        moeGemmLaunch({ ...call, workgroups: current.workgroups }, current.variant, target),
      ],
    },
  },
});
console.log(device.target.name, JSON.stringify({ ...device.target, name: undefined }));

/** Uniform in [-1, 1) in steps of 1/1024, exact in f16, so that only the products' sums are rounded. */
const values = Float32Array.from(
  { length: POOL + 8191 },
  () => Math.floor(Math.random() * 2048 - 1024) / 1024,
);
const halves = Uint16Array.from(values, toHalf);

/** Exact for the multiples of 1/1024 above. */
function toHalf(value: number): number {
  if (value === 0) return 0;
  const bits = new Uint32Array(new Float32Array([value]).buffer)[0];
  return ((bits >>> 16) & 0x8000) | ((((bits >>> 23) & 0xff) - 112) << 10) | ((bits >>> 13) & 0x3ff);
}
function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return exponent === 31 ? NaN : bits & 0x8000 ? -size : size;
}

/** A tensor whose element i is values[(i + shift) % POOL]. */
function make(label: string, dtype: DType, shape: number[], shift: number): TensorView {
  const view = tensor(device.createBuffer(label, tensorBytes(dtype, shape)), dtype, shape);
  const count = shape.reduce((product, size) => product * size, 1);
  for (let at = 0; at < count; at += POOL) {
    const part = Math.min(POOL, count - at + ((count - at) & 1));
    if (dtype === 'f16') device.write(view.buffer, at * 2, halves.slice(shift, shift + part));
    else device.write(view.buffer, at * 4, values.slice(shift, shift + Math.min(part, count - at)));
  }
  return view;
}

const setUpLayout = stepMetaLayout({
  tokens: 2 ** 16, // most rows of a problem
  requests: 1,
  pages: 1,
  items16: 1,
  items128: 1,
  mergeRows: 1,
  attentionWorkgroups: 1,
  adjustments: 1,
});

interface Bench {
  call: GemmCall;
  problem: Required<Problem>;
  free(): void;
}

function setUp(problem: Problem): Bench {
  const full = {
    aType: 'f16' as DType,
    wType: 'f16' as DType,
    outType: 'f16' as DType,
    epilogue: 'none' as const,
    bias: false,
    outColumn: 0,
    ...problem,
  };
  const { m, n, k, outColumn } = full;
  const columns = full.epilogue === 'silu_mul' ? n / 2 : n;
  const layout = setUpLayout;
  const words = new Uint32Array(layout.words);
  writeCounts(layout, words, m, 0);
  const meta = make('meta', 'u32', [layout.words], 0);
  device.write(meta.buffer, 0, words);
  const a = make('a', full.aType, [m, k], 11);
  const w = make('w', full.wType, [n, k], 5000);
  const bias = make('bias', 'f32', [n], 77);
  const out = make('out', full.outType, [m, outColumn + columns], 3);
  const call: GemmCall = {
    kernel: 'gemm',
    label: 'tune',
    meta,
    layout,
    rows: 'tokens',
    maxRows: m,
    a,
    w,
    ...(full.bias ? { bias } : {}),
    out,
    outColumn,
    epilogue: full.epilogue,
  };
  return {
    call,
    problem: full,
    free: () => [meta, a, w, bias, out].forEach((v) => device.destroyBuffer(v.buffer)),
  };
}

/** Largest relative error over some outputs, first and last ones included. */
async function check({ call, problem }: Bench, samples: number): Promise<number> {
  const { m, n, k, outColumn } = problem;
  const silu = problem.epilogue === 'silu_mul';
  const columns = silu ? n / 2 : n;
  const program = await device.compile('check', [call]);
  device.submit(program);
  const ldc = outColumn + columns;
  const bytes = await device.read(call.out.buffer, 0, tensorBytes(call.out.dtype, call.out.shape));
  program.destroy();
  const f16 = new Uint16Array(bytes);
  const f32 = new Float32Array(bytes);
  const at = (shift: number, index: number): number => values[shift + (index % POOL)];
  const dot = (row: number, weight: number): number => {
    let sum = 0;
    for (let i = 0; i < k; i++) sum += at(11, row * k + i) * at(5000, weight * k + i);
    return sum;
  };
  let worst = 0;
  const whole = m * columns <= samples;
  for (let s = 0; s < Math.min(samples, m * columns); s++) {
    const pick = whole
      ? s
      : s === 0
        ? 0
        : s === 1
          ? m * columns - 1
          : Math.floor(Math.random() * m * columns);
    const row = Math.floor(pick / columns);
    const column = pick % columns;
    const index = row * ldc + outColumn + column;
    const got = call.out.dtype === 'f16' ? fromHalf(f16[index]) : f32[index];
    const gate = dot(row, column);
    const want = silu
      ? (gate / (1 + Math.exp(-gate))) * dot(row, columns + column)
      : gate + (problem.bias ? at(77, column) : 0);
    const error = Math.abs(got - want) / (Math.sqrt(k) / 3 + Math.abs(want));
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

function text(variant: GemmVariant): string {
  const { kind, ...rest } = variant;
  return `${kind} ${Object.entries(rest)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ')}`;
}

async function tryAll(
  problem: Problem,
  variants: readonly GemmVariant[],
  budgets: readonly (number | undefined)[] = [undefined],
  keep = Infinity,
): Promise<void> {
  const bench = setUp(problem);
  const { m, n, k, wType } = bench.problem;
  const bytes = n * k * (wType === 'f16' ? 2 : 4);
  console.log(`== ${m} x ${n} x ${k} ${JSON.stringify(problem)}`);
  const lines: { microseconds: number; line: string }[] = [];
  for (const variant of variants) {
    for (const workgroups of budgets) {
      current = { variant, workgroups };
      const name = `${text(variant)} wg=${workgroups ?? 'default'}`;
      try {
        const started = performance.now();
        const error = await check(bench, 300);
        const compiled = performance.now() - started;
        const row = await timeCase(
          device,
          { name, calls: [bench.call], bytes, flops: 2 * m * n * k },
          { warmUpMs: 60, rounds: 5, roundMs: 6 },
        );
        const rate = `${row.teraflops?.toFixed(1)} TFLOP/s ${row.gigabytesPerSecond?.toFixed(0)} GB/s`;
        const wrong = error < 3e-3 ? '' : `  WRONG ${error}`;
        lines.push({
          microseconds: row.microseconds,
          line: `${row.microseconds.toFixed(1).padStart(9)} us ${rate.padStart(24)}  ${name}${wrong} (first ${compiled.toFixed(0)} ms)`,
        });
      } catch (error) {
        console.log(`FAILED ${name}: ${String(error).slice(0, 600)}`);
      }
    }
  }
  lines.sort((x, y) => x.microseconds - y.microseconds);
  for (const { line } of lines.slice(0, keep)) console.log(line);
  if (lines.length > keep)
    for (const { line } of lines.filter((l) => l.line.includes('WRONG'))) console.log(line);
  bench.free();
}

function matrix([bm, bn, bk]: number[], [sgM, sgN, sgK = 1]: number[], more: Partial<Matrix> = {}): Matrix {
  return { kind: 'matrix', bm, bn, bk, sgM, sgN, sgK, pad: 1, band: 8, ...more };
}
function few(rows: number, columns: number, unroll: number, split: number, teams: number): Few {
  return { kind: 'few', rows, columns, unroll, lanes: 32, split, teams, subgroups: true };
}

/** Variants of EVERY_VARIANT for this adapter's subgroups. */
function runsHere(variant: GemmVariant): boolean {
  if (variant.kind === 'matrix') return device.target.features.subgroupMatrix;
  if (variant.kind === 'broadcast') return variant.lanes === device.target.subgroupSize.min;
  return variant.kind !== 'few' || !variant.subgroups || variant.lanes === device.target.subgroupSize.min;
}
/** Has the columns that silu_mul needs side by side. */
function gates(variant: GemmVariant): boolean {
  if (variant.kind === 'few') return variant.columns % 4 === 0;
  return variant.kind !== 'matrix' || variant.bn / variant.sgN >= 32;
}

/** Llama-3.2-1B: qkv, attention output, gate and up, down. */
const LLAMA_1B: [number, number][] = [
  [3072, 2048],
  [2048, 2048],
  [16384, 2048],
  [2048, 8192],
];

const SECTIONS: Record<string, () => Promise<void>> = {
  async matrix() {
    const variants = [
      matrix([128, 128, 32], [2, 4]),
      matrix([128, 128, 32], [2, 4], { pad: 0 }),
      matrix([128, 128, 32], [2, 4]),
      matrix([128, 128, 32], [4, 2]),
      matrix([128, 128, 32], [2, 2]),
      matrix([128, 128, 32], [2, 2]),
      matrix([128, 128, 32], [4, 4]),
      matrix([128, 128, 64], [2, 4]),
      matrix([128, 128, 64], [4, 2]),
      matrix([128, 128, 64], [2, 2]),
      matrix([128, 128, 64], [4, 4]),
      matrix([128, 256, 32], [2, 4]),
      matrix([256, 128, 32], [4, 2]),
      matrix([256, 128, 32], [4, 4]),
      matrix([128, 256, 32], [4, 4]),
      matrix([256, 256, 32], [4, 4]),
      matrix([128, 128, 16], [2, 2]),
      matrix([128, 256, 16], [2, 4]),
      matrix([256, 128, 16], [4, 2]),
      matrix([128, 64, 64], [2, 2]),
      matrix([128, 64, 32], [2, 1]),
      matrix([64, 128, 64], [1, 2]),
      matrix([64, 256, 32], [1, 4]),
      matrix([64, 128, 32], [1, 4]),
      matrix([64, 64, 64], [2, 2]),
    ];
    const square = { m: 4096, n: 4096, k: 4096, outType: 'f32' as const };
    await tryAll(square, variants, [264, 528]);
    await tryAll(
      square,
      [1, 4, 16, 1000].flatMap((band) => [
        matrix([128, 128, 32], [2, 4], { band }),
        matrix([128, 128, 32], [2, 2], { band }),
      ]),
      [264],
    );
    await tryAll(
      { m: 4096, n: 4096, k: 4096, outType: 'f16' },
      [
        matrix([128, 128, 32], [2, 4]),
        matrix([128, 128, 64], [2, 4]),
        matrix([128, 128, 32], [2, 2]),
        matrix([128, 256, 32], [2, 4]),
      ],
      [132, 264, 396, 1024],
    );
  },
  async small() {
    for (const m of [16, 64]) {
      for (const [n, k] of LLAMA_1B) {
        const high = m <= 16 ? 16 : 64;
        await tryAll(
          { m, n, k },
          [
            matrix([high, 16, 256], [1, 1, 8]),
            matrix([high, 16, 256], [1, 1, 4]),
            matrix([high, 32, 128], [1, 1, 4]),
            matrix([high, 64, 128], [1, 2, 4]),
            matrix([high, 64, 64], [1, 4, 1]),
            ...(high === 16
              ? [
                  matrix([16, 32, 256], [1, 1, 8]),
                  matrix([16, 16, 512], [1, 1, 8]),
                  matrix([16, 32, 128], [1, 1, 8]),
                  matrix([16, 64, 128], [1, 1, 8]),
                  matrix([16, 64, 256], [1, 2, 4]),
                  matrix([16, 128, 128], [1, 4, 2]),
                ]
              : [
                  matrix([64, 64, 64], [2, 2]),
                  matrix([64, 64, 64], [2, 2]),
                  matrix([64, 64, 64], [2, 2, 2]),
                  matrix([64, 64, 128], [2, 2, 2]),
                  matrix([64, 32, 128], [2, 1, 4]),
                  matrix([64, 32, 128], [1, 1, 4]),
                  matrix([32, 32, 128], [1, 1, 4]),
                  matrix([32, 64, 128], [1, 2, 4]),
                  matrix([64, 128, 64], [2, 4]),
                ]),
          ],
          [264, 1056],
          4,
        );
      }
    }
  },
  async few() {
    for (const m of [1, 2]) {
      for (const [n, k] of LLAMA_1B) {
        const variants = [
          few(m, 4, 2, 1, 4),
          few(m, 4, 1, 1, 4),
          few(m, 2, 4, 1, 4),
          few(m, 2, 2, 1, 4),
          few(m, 8, 1, 1, 4),
          few(m, 4, 4, 1, 4),
          few(m, 4, 2, 1, 8),
          few(m, 4, 2, 1, 2),
          few(m, 4, 2, 1, 1),
          few(m, 4, 1, 4, 1),
          few(m, 4, 2, 2, 2),
          few(m, 2, 2, 4, 1),
        ];
        await tryAll({ m, n, k }, variants, [528, 2112], 5);
        if (n === 16384)
          await tryAll({ m, n, k, epilogue: 'silu_mul' }, variants.filter(gates), [528, 2112], 5);
      }
    }
  },
  async tile() {
    const variants: GemmVariant[] = [
      { kind: 'tile', side: 16, tm: 4, tn: 4, bk: 16 },
      { kind: 'tile', side: 16, tm: 8, tn: 8, bk: 8 },
      { kind: 'tile', side: 16, tm: 8, tn: 4, bk: 16 },
      { kind: 'tile', side: 8, tm: 8, tn: 8, bk: 16 },
      { kind: 'tile', side: 8, tm: 4, tn: 4, bk: 16 },
    ];
    await tryAll(
      { m: 1024, n: 4096, k: 4096, aType: 'f32', wType: 'f32', outType: 'f32' },
      variants,
      [264, 1056],
    );
    await tryAll({ m: 1024, n: 4096, k: 4096 }, variants, [528]);
  },
  /** Every variant that the chooser can give, at shapes that fill no tile. */
  async odd() {
    const variants = EVERY_VARIANT.filter(runsHere);
    const types = [
      { aType: 'f16', wType: 'f16', outType: 'f16' },
      { aType: 'f32', wType: 'f16', outType: 'f32' },
      { aType: 'f16', wType: 'f32', outType: 'f32' },
    ] as const;
    let wrong = 0;
    let checked = 0;
    for (const shape of [
      { m: 1, n: 1, k: 8 },
      { m: 3, n: 37, k: 24 },
      { m: 70, n: 131, k: 72, bias: true },
      { m: 131, n: 258, k: 200, epilogue: 'silu_mul' as const },
      { m: 17, n: 98, k: 136, epilogue: 'silu_mul' as const, outColumn: 3 },
      { m: 129, n: 65, k: 1032, outColumn: 7, bias: true },
      { m: 257, n: 514, k: 48, outColumn: 2 },
    ]) {
      for (const type of types) {
        const bench = setUp({ ...shape, ...type });
        for (const variant of variants) {
          if (shape.epilogue && !gates(variant)) continue;
          for (const workgroups of [undefined, 5]) {
            current = { variant, workgroups };
            const error = await check(bench, 4000).catch((e) => {
              console.log(String(e).slice(0, 500));
              return NaN;
            });
            checked++;
            // a and w of f32 are rounded to f16 by the matrices, which their values allow.
            if (!(error < 3e-3)) {
              wrong++;
              console.log(
                `WRONG ${error} ${JSON.stringify({ ...shape, ...type })} ${text(variant)} wg=${workgroups}`,
              );
            }
          }
        }
        bench.free();
      }
    }
    console.log(`odd shapes: ${checked} checked, ${wrong} wrong`);
  },
  /** The same for grouped rows, against the twin. */
  async moe() {
    const [tokens, topK, experts, n, k] = [83, 2, 5, 74, 136];
    const expertFirst = 1;
    const held = 3;
    const slots = Array.from({ length: tokens * topK }, (_, source) => ({
      source,
      expert: (Math.floor(source / topK) * 7 + (source % topK)) % experts,
    })).sort((x, y) => x.expert - y.expert || x.source - y.source);
    const words = {
      slotSource: Uint32Array.from(slots, ({ source }) => source),
      expertStart: Uint32Array.from(
        { length: experts + 1 },
        (_, e) => slots.filter((s) => s.expert < e).length,
      ),
    };
    let wrong = 0;
    let checked = 0;
    for (const gather of ['token', 'slot'] as const) {
      for (const dtype of ['f16', 'f32'] as const) {
        const a = make('a', dtype, [gather === 'token' ? tokens : tokens * topK, k], 21);
        const w = make('w', dtype, [held, n, k], 900);
        const out = make('out', dtype, [tokens * topK, n], 5);
        const slotSource = make('slotSource', 'u32', [tokens * topK], 0);
        const expertStart = make('expertStart', 'u32', [experts + 1], 0);
        device.write(slotSource.buffer, 0, words.slotSource);
        device.write(expertStart.buffer, 0, words.expertStart);
        const meta = slotSource;
        const layout = setUpLayout;
        const common = { kernel: 'moe_gemm', label: 'moe', meta, layout, gather, topK, expertFirst } as const;
        const call: MoeGemmCall = { ...common, maxRows: tokens * topK, a, w, slotSource, expertStart, out };
        const host = new Map<TensorView, Float32Array>([
          [a, values.slice(21, 21 + POOL)],
          [w, values.slice(900, 900 + POOL)],
          [out, Float32Array.from({ length: tokens * topK * n }, (_, i) => values[5 + i])],
        ]);
        moeGemm.twin(call, {
          f32: (view) => host.get(view)!,
          u32: (view) => (view === slotSource ? words.slotSource : words.expertStart),
        });
        const expected = host.get(out)!;
        for (const variant of EVERY_VARIANT.filter(runsHere)) {
          if (variant.kind === 'matrix' && dtype === 'f32') continue;
          for (const workgroups of [undefined, 3]) {
            current = { variant, workgroups };
            device.write(
              out.buffer,
              0,
              dtype === 'f16' ? halves.slice(5, 5 + expected.length) : values.slice(5, 5 + expected.length),
            );
            const program = await device.compile('moe', [call]);
            device.submit(program);
            const bytes = await device.read(out.buffer, 0, tensorBytes(dtype, out.shape));
            program.destroy();
            const got =
              dtype === 'f16' ? Float32Array.from(new Uint16Array(bytes), fromHalf) : new Float32Array(bytes);
            const bad = expected.findIndex(
              (value, i) => !(Math.abs(value - got[i]) <= 4e-3 + 1e-3 * Math.abs(value)),
            );
            checked++;
            if (bad >= 0) {
              wrong++;
              console.log(
                `WRONG ${gather} ${dtype} ${text(variant)} at ${bad}: ${got[bad]}, expected ${expected[bad]}`,
              );
            }
          }
        }
        for (const view of [a, w, out, slotSource, expertStart]) device.destroyBuffer(view.buffer);
      }
    }
    console.log(`grouped: ${checked} checked, ${wrong} wrong`);
  },
};

const wanted = process.argv.slice(2);
for (const [name, section] of Object.entries(SECTIONS)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const started = performance.now();
  await section();
  console.log(`-- ${name}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
}
process.exit(0);
