/**
 * A GEMM and paged decode attention side by side in one dispatch, against one after the other with the whole device
 * each: by workgroups given to attention, by layout, with tiles dealt out or drawn by ticket. Outputs are compared with
 * those of the plain order, so a race cannot pass as speed.
 */
import { tensor, type Device, type TensorView } from '../../src/engine/device.ts';
import { findNodeAdapters } from '../../src/engine/device/webgpu/gpu.node.ts';
import { createWebgpuDevice } from '../../src/engine/device/webgpu/webgpuDevice.ts';
import type { AttentionCall, GemmCall, KernelCall, ProgramCall } from '../../src/engine/kernels/calls.ts';
import { KERNELS } from '../../src/engine/kernels/index.ts';
import { attentionCase } from './attention.bench.ts';
import { gemmCases } from './gemm.bench.ts';
import { openDevice } from './index.ts';
import { timeCase } from './timing.ts';

export interface JoinPairsOptions {
  device: 'auto' | 'cuda' | 'webgpu' | 'cpu';
  print: (line: string) => void;
  /** Rows of the GEMM; requests and their KV tokens. */
  rows?: number;
  requests?: number;
  context?: number;
  /** Attention without subgroup operations: drivers have crashed on modules that hold those and subgroup matrices. */
  noSubgroups?: boolean;
}

export interface JoinPairRow {
  gemm: string;
  attention: string;
  how: string;
  microseconds: number;
  /** Each part alone in a dispatch of its share's workgroups, microseconds. */
  gemmShare: number;
  attentionShare: number;
  /** Plain order over this: above 1 the dispatch is faster. */
  gain: number;
  /** Largest difference of any output from the plain order, over the largest output. */
  difference: number;
}

const HEADS = { heads: 32, kvHeads: 8, headDim: 128 };

export async function runJoinPairs(options: JoinPairsOptions): Promise<{
  device: { kind: string; name: string };
  rows: JoinPairRow[];
}> {
  const device = options.noSubgroups ? await openWithoutSubgroups() : await openDevice(options.device);
  const { target } = device;
  const { software } = target;
  const {
    rows: m = software ? 32 : 512,
    requests = software ? 8 : 256,
    context = software ? 128 : 1024,
  } = options;
  const dtype = software ? 'f32' : 'f16';
  const heads = software ? { heads: 8, kvHeads: 4, headDim: 32 } : HEADS;
  const shapes = software
    ? [{ name: 'gate_up', n: 1536, k: 256, silu: true }]
    : [
        { name: 'gate_up', n: 28672, k: 4096, silu: true },
        { name: 'down', n: 4096, k: 14336 },
      ];
  const cores = software ? target.defaultWorkgroups : Math.round(target.defaultWorkgroups / 2);
  const found: JoinPairRow[] = [];
  const tickets = tensor(device.createBuffer('tickets', 256), 'u32', [1]);
  for (const shape of shapes) {
    const made = gemmCases(device, [shape], m, dtype);
    const [plain] = made.cases[0].calls as GemmCall[];
    const gemms: { name: string; call: GemmCall }[] = [{ name: shape.name, call: plain }];
    if (target.features.subgroupMatrix && shape.name === 'down') {
      const out = tensor(device.createBuffer('parts', 4 * m * shape.n * 4), 'f32', [4, m, shape.n]);
      gemms.push({ name: 'down in 4 parts', call: { ...plain, out, parts: 4 } });
    }
    for (const { name, call } of gemms) {
      const pair = new Pair(device, name, call, tickets, { requests, context, dtype, ...heads });
      const alone = await pair.alone(target.defaultWorkgroups);
      const text = `${requests} x ${context}`;
      options.print(
        `${name} ${m} rows: ${alone.gemm.toFixed(0)} us; attention ${text}: ${alone.attention.toFixed(0)} us; ` +
          `one after the other ${alone.both.toFixed(0)} us`,
      );
      for (const candidate of pair.candidates(cores)) {
        const { microseconds, difference, note } = await pair.joined(candidate, alone);
        const shares = await pair.shares(candidate);
        const row = {
          gemm: `${name} ${m}`,
          attention: text,
          how: candidate.how,
          microseconds,
          gemmShare: shares.gemm,
          attentionShare: shares.attention,
          gain: alone.both / microseconds,
          difference,
        };
        found.push(row);
        options.print(
          `  ${row.how.padEnd(52)} ${microseconds.toFixed(0).padStart(6)} us  ${row.gain.toFixed(2)}x  ` +
            `(alone ${shares.gemm.toFixed(0)}, ${shares.attention.toFixed(0)})  difference ${difference.toExponential(1)}${note}`,
        );
      }
    }
    made.free();
  }
  const device_ = { kind: target.kind, name: target.name };
  device.destroy();
  return { device: device_, rows: found };
}

/** The device, with attention kernels for a target that has no subgroups. */
async function openWithoutSubgroups(): Promise<Device> {
  const { candidates, rejected } = await findNodeAdapters();
  if (candidates.length === 0) throw new Error(rejected.map(({ reason }) => reason).join('; '));
  const { attention } = KERNELS;
  const launches: typeof attention.launches = (call, target) =>
    attention.launches(call, { ...target, features: { ...target.features, subgroups: false } });
  const registry = { ...KERNELS, attention: { ...attention, launches } };
  return createWebgpuDevice(candidates[0].adapter, { registry });
}

interface Candidate {
  how: string;
  lists: number; // workgroups of the attention plan
  gemm: Partial<GemmCall>;
  attention: Partial<AttentionCall>;
  layout: 'blocks' | 'spread';
}

interface Alone {
  gemm: number;
  attention: number;
  both: number;
  outputs: Float32Array[];
}

const OPTIONS = { warmUpMs: 300, roundMs: 10, rounds: 7 };

class Pair {
  readonly device: Device;
  readonly name: string;
  readonly call: GemmCall;
  readonly tickets: TensorView;
  readonly shape: { requests: number; context: number; dtype: 'f32' | 'f16' } & typeof HEADS;

  constructor(device: Device, name: string, call: GemmCall, tickets: TensorView, shape: Pair['shape']) {
    this.device = device;
    this.name = name;
    this.call = call;
    this.tickets = tickets;
    this.shape = shape;
  }

  candidates(cores: number): Candidate[] {
    const list: Candidate[] = [];
    const matrix = this.device.target.features.subgroupMatrix;
    for (const share of [0.12, 0.24, 0.36, 0.42, 0.5]) {
      const attention = Math.max(1, Math.round(cores * share));
      const tickets = matrix ? (share === 0.36 ? [true, false] : [true]) : [false];
      for (const ticket of tickets) {
        for (const layout of share === 0.36 ? (['blocks', 'spread'] as const) : (['blocks'] as const)) {
          list.push({
            how: `${cores - attention} + ${attention} workgroups, ${layout}${ticket ? ', tickets' : ''}`,
            lists: attention,
            gemm: { workgroups: cores - attention, ...(ticket ? { tickets: this.tickets } : {}) },
            attention: { workgroups: attention },
            layout,
          });
        }
      }
    }
    return list;
  }

  async alone(workgroups: number): Promise<Alone> {
    const { cases, free } = this.#attention(workgroups);
    const time = async (name: string, calls: ProgramCall[]): Promise<number> =>
      (await timeCase(this.device, { name, calls }, { ...OPTIONS, warmUpMs: 800 })).microseconds;
    const attention = await time('attention', cases);
    const gemm = await time('gemm', [this.call]);
    const both = await time('both', [this.call, ...cases]);
    const outputs = await this.#outputs(cases, [this.call, ...cases]);
    free();
    return { gemm, attention, both, outputs };
  }

  async joined(
    { how, lists, gemm, attention, layout }: Candidate,
    alone: Alone,
  ): Promise<{ microseconds: number; difference: number; note: string }> {
    const { cases, free } = this.#attention(lists);
    const [first, ...rest] = cases;
    const calls: ProgramCall[] = [
      this.#clear(),
      {
        kernel: 'joined',
        label: how,
        layout,
        parts: [
          { ...this.call, ...gemm },
          { ...(first as AttentionCall), ...attention },
        ],
      },
      ...rest,
    ];
    const program = await this.device.compile(how, calls);
    const { apart = [] } = program as unknown as { apart?: { reason: string }[] };
    const outputs = await this.#outputs(cases, calls);
    const { microseconds } = await timeCase(this.device, { name: how, calls }, OPTIONS);
    program.destroy();
    free();
    const difference = Math.max(...outputs.map((got, i) => relativeDifference(got, alone.outputs[i])));
    return { microseconds, difference, note: apart.length > 0 ? `  APART: ${apart[0].reason}` : '' };
  }

  /** Each part of a candidate in a dispatch of its own, with the workgroups of its share. */
  async shares({ lists, gemm, attention }: Candidate): Promise<{ gemm: number; attention: number }> {
    const { cases, free } = this.#attention(lists);
    const share = { ...(cases[0] as AttentionCall), ...attention };
    const time = async (name: string, calls: ProgramCall[]): Promise<number> =>
      (await timeCase(this.device, { name, calls }, OPTIONS)).microseconds;
    const times = {
      gemm: await time('gemm', [...(gemm.tickets ? [this.#clear()] : []), { ...this.call, ...gemm }]),
      attention: await time('attention', [share]),
    };
    free();
    return times;
  }

  #clear(): ProgramCall {
    const { meta, layout } = this.call;
    return { kernel: 'clear', label: 'tickets', meta, layout, out: this.tickets };
  }

  #attention(workgroups: number): { cases: KernelCall[]; free: () => void } {
    const { requests, context, dtype, heads, kvHeads, headDim } = this.shape;
    const { cases, free } = attentionCase(this.device, {
      requests,
      qLen: 1,
      kvLen: context,
      heads,
      kvHeads,
      headDim,
      dtype,
      workgroups,
      sequential: true,
      seed: 7,
    });
    return { cases: [...cases[0].calls] as KernelCall[], free };
  }

  /** Poisons and computes; the GEMM's output (its parts added up) and attention's. */
  async #outputs(attention: readonly KernelCall[], calls: readonly ProgramCall[]): Promise<Float32Array[]> {
    const out = (attention[0] as AttentionCall).out;
    const views = [this.call.out, out];
    for (const { buffer } of views) {
      const poison = new Uint32Array(Math.min(2 ** 20, buffer.bytes / 4)).fill(0x7fff7fff);
      for (let at = 0; at < buffer.bytes; at += poison.byteLength) {
        this.device.write(buffer, at, poison.subarray(0, Math.min(poison.length, (buffer.bytes - at) / 4)));
      }
    }
    const program = await this.device.compile('check', calls);
    this.device.submit(program);
    const results = await Promise.all(
      views.map(async (view) => values(view, await this.device.read(view.buffer, 0, view.buffer.bytes))),
    );
    program.destroy();
    const { parts = 1 } = this.call;
    if (parts === 1) return results;
    const one = results[0].length / parts;
    const sum = results[0].slice(0, one);
    for (let part = 1; part < parts; part++) {
      for (let i = 0; i < one; i++) sum[i] += results[0][part * one + i];
    }
    return [sum, results[1]];
  }
}

function values({ dtype, shape }: TensorView, bytes: ArrayBuffer): Float32Array {
  const count = shape.reduce((a, b) => a * b, 1);
  if (dtype === 'f32') return new Float32Array(bytes, 0, count);
  const half = new Uint16Array(bytes, 0, count);
  return Float32Array.from(half, (bits) => {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const sign = bits & 0x8000 ? -1 : 1;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
  });
}

function relativeDifference(got: Float32Array, expected: Float32Array): number {
  let largest = 1e-30;
  let worst = 0;
  for (let i = 0; i < got.length; i++) {
    if (Number.isFinite(expected[i])) largest = Math.max(largest, Math.abs(expected[i]));
    // Gates of random data may overflow in both.
    if (Object.is(got[i], expected[i])) continue;
    const difference = Math.abs(got[i] - expected[i]);
    if (!(difference <= worst)) worst = difference; // NaN stays
  }
  return worst / largest;
}
