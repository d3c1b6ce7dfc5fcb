/**
 * Attention on subgroup matrices against the vector kernels: first against the twin on odd random batches (poisoned
 * outputs, KV slots outside every request NaN), then timed, decode by workgroups and prefill.
 *
 * justify: check and timing share their batches' layout; the check runs where no test framework is.
 */
import type { Device, TensorView } from '../../src/engine/device.ts';
import { tensor, tensorBytes } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { findNodeAdapters } from '../../src/engine/device/webgpu/gpu.node.ts';
import { createWebgpuDevice } from '../../src/engine/device/webgpu/webgpuDevice.ts';
import { attention } from '../../src/engine/kernels/attention.ts';
import type { AttentionCall, KernelCall } from '../../src/engine/kernels/calls.ts';
import { KERNELS } from '../../src/engine/kernels/index.ts';
import { attentionCapacity, planAttention } from '../../src/engine/plan/attention.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { copyCase } from './attention.bench.ts';
import { Buffers } from './buffers.ts';
import { timeCase } from './timing.ts';

/** Which kernels the chooser may take: no subgroup matrices, or no other subgroup operations. */
let mode: 'vector' | 'matrix' = 'matrix';
const registry = {
  ...KERNELS,
  attention: {
    ...attention,
    launches: (call: AttentionCall, target: Device['target']) =>
      attention.launches(call, {
        ...target,
        features: {
          ...target.features,
          ...(mode === 'matrix' ? { subgroups: false } : { subgroupMatrix: false }),
        },
      }),
  },
};

export async function runAttentionMatrix({
  print,
  only,
}: {
  print: (line: string) => void;
  only?: string; // 'check' or 'time'
}): Promise<{ rows: object[] }> {
  const { candidates, rejected } = await findNodeAdapters();
  if (candidates.length === 0) throw new Error(`no WebGPU adapter: ${rejected.map(({ reason }) => reason)}`);
  const device = await createWebgpuDevice(candidates[0].adapter, { registry });
  const cpu = await createCpuDevice({ registry: KERNELS });
  const rows: object[] = [];
  if (only !== 'time') for (const options of checks()) rows.push(await check(device, cpu, options, print));
  if (only !== 'check') rows.push(...(await timeAll(device, print)));
  device.destroy();
  return { rows };
}

interface Check {
  lengths: [number, number][];
  heads: number;
  kvHeads: number;
  headDim: 64 | 128;
  pageSize: number;
  planned: number;
  workgroups: number;
  window?: number;
  tiles?: (16 | 128)[];
  steep?: boolean; // queries so large that running maxima jump
  out: 'f32' | 'f16';
}

const DECODE: [number, number][] = [
  [1, 1],
  [1, 700],
  [1, 33],
  [2, 97],
  [1, 0],
  [3, 2],
  [1, 128],
  [1, 2050],
];
const MIXED: [number, number][] = [
  [40, 40],
  [1, 300],
  [150, 333],
  [0, 10],
  [37, 5],
  [300, 1300],
];

function* checks(): Generator<Check> {
  let round = 0;
  for (const headDim of [128, 64] as const) {
    for (const [heads, kvHeads] of [
      [8, 2],
      [3, 3],
      [8, 1],
    ]) {
      for (const lengths of [DECODE, MIXED]) {
        for (const tiles of [undefined, [16], [128]] as ((16 | 128)[] | undefined)[]) {
          round++;
          yield {
            lengths,
            heads,
            kvHeads,
            headDim,
            tiles,
            pageSize: round % 3 === 0 ? 1 : 16,
            planned: [4, 64, 1][round % 3],
            workgroups: [7, 64, 3][(round + (round >> 2)) % 3],
            window: round % 4 === 1 ? 50 : undefined,
            steep: round % 2 === 0,
            out: round % 5 < 2 ? 'f32' : 'f16',
          };
        }
      }
    }
  }
}

/** Largest errors of both sizes of workgroups. */
async function check(
  device: Device,
  cpu: Device,
  options: Check,
  print: (line: string) => void,
): Promise<object> {
  const { lengths, heads, kvHeads, headDim, pageSize, planned, workgroups, window, tiles, steep, out } =
    options;
  let tokens = 0;
  let pages = 0;
  const requests = lengths.map(([qLen, kvLen]) => {
    const request = { qStart: tokens, qLen, kvLen, pageStart: pages };
    tokens += qLen;
    pages += Math.ceil(kvLen / pageSize);
    return request;
  });
  const random = seeded(heads * 1000 + headDim + pageSize);
  const pool = Array.from({ length: pages + 3 }, (_, page) => page);
  for (let i = pool.length - 1; i > 0; i--) {
    const j = random() % (i + 1);
    [pool[i], pool[j]] = [pool[j], pool[i]];
  }
  const { partialRows, ...capacity } = attentionCapacity({
    tokens,
    requests: requests.length,
    heads,
    kvHeads,
    workgroups: planned,
    tiles,
  });
  const layout = stepMetaLayout({
    ...capacity,
    tokens,
    requests: requests.length,
    pages: pages + 1,
    attentionWorkgroups: planned,
    adjustments: 1,
  });
  const words = new Uint32Array(layout.words);
  words.set(pool.slice(0, pages), layout.pages);
  planAttention(
    { requests, heads, kvHeads, headDim, pageSize, workgroups: planned, tiles, slidingWindow: window },
    layout.attention[0],
    words,
  );
  const used = new Set<number>();
  for (const { kvLen, pageStart } of requests) {
    for (let t = 0; t < kvLen; t++)
      used.add(pool[pageStart + Math.floor(t / pageSize)] * pageSize + (t % pageSize));
  }
  // Halves with exponents in a range: sizes of 2^-4 to 1, queries up to 2, or 64 when steep.
  const halves = (count: number, top: number): Uint16Array =>
    Uint16Array.from({ length: count }, () => {
      const bits = random();
      return (bits & 0x83ff) | ((top - ((bits >>> 16) & 3)) << 10);
    });
  const kvShape = [pool.length, kvHeads, pageSize, headDim];
  const kvCount = kvShape.reduce((a, b) => a * b);
  const poison = (values: Uint16Array): Uint16Array => {
    for (let i = 0; i < kvCount; i++) {
      const row = Math.floor(i / headDim);
      const at = Math.floor(row / pageSize / kvHeads) * pageSize + (row % pageSize);
      if (!used.has(at)) values[i] = 0x7e5a;
    }
    return values;
  };
  const qShape = [tokens, heads, headDim];
  const input: Record<string, [Uint16Array, number[]]> = {
    q: [halves(tokens * heads * headDim, steep ? 20 : 15), qShape],
    kCache: [poison(halves(kvCount, 14)), kvShape],
    vCache: [poison(halves(kvCount, 14)), kvShape],
  };
  const outputs: Record<string, ['f32' | 'f16', number[]]> = {
    out: [out, qShape],
    partialOut: ['f32', [Math.max(1, partialRows), headDim]],
    partialLse: ['f32', [Math.max(1, partialRows)]],
  };

  const runOn = async (
    on: Device,
    asFloats: boolean,
    invocations?: number,
  ): Promise<Record<string, Uint8Array>> => {
    const views: Record<string, TensorView> = {};
    for (const [name, [bits, shape]] of Object.entries(input)) {
      const data = asFloats ? Float32Array.from(bits, halfToFloat) : bits;
      const buffer = on.createBuffer(name, Math.ceil(data.byteLength / 4) * 4);
      on.write(buffer, 0, data);
      views[name] = tensor(buffer, asFloats ? 'f32' : 'f16', shape);
    }
    for (const [name, [type, shape]] of Object.entries(outputs)) {
      const stored = asFloats ? 'f32' : type;
      const size = Math.ceil(tensorBytes(stored, shape) / 4);
      const buffer = on.createBuffer(name, size * 4);
      on.write(buffer, 0, new Uint32Array(size).fill(stored === 'f32' ? 0x7fc0dead : 0x7e5a7e5a));
      views[name] = tensor(buffer, stored, shape);
    }
    const metaBuffer = on.createBuffer('meta', words.byteLength);
    on.write(metaBuffer, 0, words);
    const common = {
      meta: tensor(metaBuffer, 'u32', [layout.words]),
      layout,
      ...(views as Record<'q' | 'kCache' | 'vCache' | 'out' | 'partialOut' | 'partialLse', TensorView>),
      ...{ heads, kvHeads, headDim, pageSize, slidingWindow: window, scale: 1 / Math.sqrt(headDim) },
      ...{ workgroups, invocations, kernel: 'attention' as const },
    };
    const program = await on.compile('check', [
      { ...common, label: 'attention16', tile: 16 as const },
      { ...common, label: 'attention128', tile: 128 as const },
    ]);
    on.submit(program);
    const result: Record<string, Uint8Array> = {};
    for (const name of Object.keys(outputs)) {
      result[name] = new Uint8Array(
        await on.read(
          views[name].buffer,
          0,
          Math.ceil(tensorBytes(views[name].dtype, views[name].shape) / 4) * 4,
        ),
      );
    }
    program.destroy();
    for (const view of [...Object.values(views), common.meta]) on.destroyBuffer(view.buffer);
    return result;
  };

  const expected = await runOn(cpu, true);
  const errors: Record<string, number> = {};
  let wrong = '';
  for (const invocations of [256, 128]) {
    mode = 'matrix';
    const got = await runOn(device, false, invocations);
    for (const [name, [type, shape]] of Object.entries(outputs)) {
      const want = new Float32Array(expected[name].buffer);
      const bits = type === 'f16' ? new Uint16Array(got[name].buffer) : new Uint32Array(got[name].buffer, 0);
      const floats = new Float32Array(got[name].buffer);
      const count = shape.reduce((a, b) => a * b);
      let worst = 0;
      for (let i = 0; i < count; i++) {
        const value = type === 'f16' ? halfToFloat(bits[i]) : floats[i];
        const untouched = Number.isNaN(want[i]);
        const error = untouched
          ? bits[i] === (type === 'f16' ? 0x7e5a : 0x7fc0dead)
            ? 0
            : Infinity
          : Math.abs(value - want[i]) / Math.max(1, Math.abs(want[i]));
        if (!(error <= 4e-3) && wrong === '')
          wrong = `${invocations}: ${name}[${i}] of ${count}: got ${value}, expected ${want[i]}`;
        worst = Math.max(worst, Number.isNaN(error) ? Infinity : error);
      }
      errors[`${name}${invocations}`] = worst;
    }
  }
  const text = `${heads}/${kvHeads}x${headDim} page ${pageSize} plan ${planned}/${workgroups} window ${window ?? '-'} tiles ${tiles ?? 'both'} ${steep ? 'steep ' : ''}${lengths === DECODE ? 'decode' : 'mixed'} ${out}`;
  print(
    `${wrong ? 'WRONG' : 'ok   '} ${text.padEnd(66)} ${Object.values(errors)
      .map((e) => e.toExponential(1))
      .join(' ')} ${wrong}`,
  );
  return { text, errors, wrong };
}

const HEADS = { heads: 32, kvHeads: 8, headDim: 128 };
const PAGE = 16;

async function timeAll(device: Device, print: (line: string) => void): Promise<object[]> {
  const rows: object[] = [];
  const copy = copyCase(device, 512);
  const copied = await timeCase(device, copy.cases[0], { warmUpMs: 1500 });
  copy.free();
  print(`copy ${copied.gigabytesPerSecond!.toFixed(0)} GB/s`);
  const buffers = new Buffers(device, 1);
  const tokens = 512 * 1024;
  const kvShape = [tokens / PAGE, HEADS.kvHeads, PAGE, HEADS.headDim];
  const kv = {
    kCache: buffers.random('k', 'f16', kvShape),
    vCache: buffers.random('v', 'f16', kvShape),
  };
  const kinds = [
    { name: 'vector', mode: 'vector', invocations: undefined },
    { name: 'matrix256', mode: 'matrix', invocations: 256 },
    { name: 'matrix128', mode: 'matrix', invocations: 128 },
  ] as const;
  const options = { warmUpMs: 60, roundMs: 6, rounds: 7 };
  for (const [requests, qLen, kvLen, budgets] of [
    [64, 1, 2048, [8, 16, 32, 48, 64, 96, 132, 264, 528]],
    [256, 1, 1024, [32, 64, 132, 264, 528]],
    [512, 1, 1024, [8, 16, 32, 48, 64, 96, 132, 264, 528]],
    [4, 2048, 2048, [132, 264, 396, 528]],
    [1, 8192, 8192, [264]],
  ] as const) {
    print(`${requests} x ${qLen} of ${kvLen}: workgroups, then ${kinds.map(({ name }) => name).join(', ')}`);
    for (const workgroups of budgets) {
      const { calls, free, bytes, flops } = timed(device, kv, requests, qLen, kvLen, workgroups);
      const cells: string[] = [];
      for (const kind of kinds) {
        if (qLen > 1 && kind.mode === 'vector' && workgroups !== 264) continue;
        mode = kind.mode;
        const list = calls.map((call) =>
          call.kernel === 'attention' ? { ...call, invocations: kind.invocations } : call,
        );
        const row = await timeCase(device, { name: kind.name, calls: list, bytes, flops }, options);
        rows.push({ ...row, requests, qLen, kvLen, workgroups });
        cells.push(
          qLen === 1
            ? `${row.gigabytesPerSecond!.toFixed(0)} GB/s (${((row.gigabytesPerSecond! / copied.gigabytesPerSecond!) * 100).toFixed(0)} %, ${(row.gigabytesPerSecond! / workgroups).toFixed(1)} each)`
            : `${row.teraflops!.toFixed(1)} TFLOP/s`,
        );
      }
      print(`${String(workgroups).padStart(5)}  ${cells.map((cell) => cell.padStart(28)).join('  ')}`);
      free();
    }
  }
  buffers.free();
  return rows;
}

function timed(
  device: Device,
  kv: { kCache: TensorView; vCache: TensorView },
  requests: number,
  qLen: number,
  kvLen: number,
  workgroups: number,
): { calls: KernelCall[]; bytes: number; flops: number; free(): void } {
  const { heads, kvHeads, headDim } = HEADS;
  const tokens = requests * qLen;
  const pagesEach = kvLen / PAGE;
  const pages = requests * pagesEach;
  const { partialRows, ...capacity } = attentionCapacity({ tokens, requests, heads, kvHeads, workgroups });
  const layout = stepMetaLayout({
    ...capacity,
    tokens,
    requests,
    pages,
    attentionWorkgroups: workgroups,
    adjustments: 1,
  });
  const words = new Uint32Array(layout.words);
  const random = seeded(3);
  for (let page = 0; page < pages; page++) words[layout.pages + page] = page;
  for (let i = pages - 1; i > 0; i--) {
    const j = random() % (i + 1);
    const page = words[layout.pages + i];
    words[layout.pages + i] = words[layout.pages + j];
    words[layout.pages + j] = page;
  }
  const list = Array.from({ length: requests }, (_, i) => ({
    qStart: i * qLen,
    qLen,
    kvLen,
    pageStart: i * pagesEach,
  }));
  const plan = planAttention(
    { requests: list, heads, kvHeads, headDim, pageSize: PAGE, workgroups },
    layout.attention[0],
    words,
  );
  const buffers = new Buffers(device, 2);
  const meta = buffers.make('meta', 'u32', [layout.words]);
  device.write(meta.buffer, 0, words);
  const q = buffers.random('q', 'f16', [tokens, heads, headDim]);
  const out = buffers.make('out', 'f16', [tokens, heads, headDim]);
  const partialOut = buffers.make('partialOut', 'f32', [Math.max(partialRows, 1), headDim]);
  const partialLse = buffers.make('partialLse', 'f32', [Math.max(partialRows, 1)]);
  const base = { label: 'bench', meta, layout };
  const calls: KernelCall[] = [
    {
      ...base,
      ...kv,
      ...{ kernel: 'attention', tile: qLen === 1 ? 16 : 128, q, out, partialOut, partialLse, workgroups },
      ...{ heads, kvHeads, headDim, pageSize: PAGE, scale: 1 / Math.sqrt(headDim) },
    },
  ];
  if (plan.mergeRows > 0) calls.push({ ...base, kernel: 'merge', partialOut, partialLse, out, headDim });
  const seen = qLen * kvLen - (qLen * (qLen - 1)) / 2;
  return {
    calls,
    bytes: 2 * requests * tensorBytes('f16', [kvLen, kvHeads, headDim]) + 2 * tensorBytes('f16', q.shape),
    flops: 4 * requests * seen * heads * headDim,
    free: () => buffers.free(),
  };
}

function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** Random 32-bit words (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}
