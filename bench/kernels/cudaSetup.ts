/** What benches of the cuda device share: calls of products over weights that do not fit the cache, and fair timing. */
import type { CompiledProgram, TensorView } from '../../src/engine/device.ts';
import type { CudaDevice } from '../../src/engine/device/cuda/cudaDevice.ts';
import { createCudaDevice, findCudaDevices } from '../../src/engine/device/cuda/openCuda.ts';
import type { CudaLaunch } from '../../src/engine/device/cuda/launch.ts';
import type { GemmCall } from '../../src/engine/kernels/calls.ts';
import { stepMetaLayout, writeCounts } from '../../src/engine/plan/stepMeta.ts';
import { BenchError } from '../serving/benchError.ts';
import { Buffers } from './buffers.ts';

/** @throws BenchError where there is no NVIDIA GPU */
export async function openCuda(): Promise<CudaDevice> {
  const { devices, problem } = findCudaDevices();
  if (devices.length === 0)
    throw new BenchError(`this bench needs an NVIDIA GPU: ${problem ?? 'none is there'}`);
  return createCudaDevice();
}

export interface ProductShape {
  name: string;
  N: number;
  K: number;
  epilogue?: GemmCall['epilogue'];
  out?: 'bf16' | 'f32';
}

/** The products of a layer of Llama-3-8B. */
export const LLAMA_8B: readonly ProductShape[] = [
  { name: 'qkv', N: 6144, K: 4096 },
  { name: 'o', N: 4096, K: 4096 },
  { name: 'up+gate', N: 28672, K: 4096 },
  { name: 'down', N: 4096, K: 14336 },
];

/** Weights that take turns are at least this large together: several times the L2 cache. */
const ROTATED_BYTES = 200e6;

/** Calls of one product for `rows` rows, one for each of several weights. */
export class Products {
  readonly #buffers: Buffers;
  readonly #shape: ProductShape;
  readonly #weights: TensorView[];
  readonly #layout;
  readonly #meta: TensorView;
  readonly #a: TensorView;
  readonly #out: TensorView;
  readonly #device: CudaDevice;

  constructor(device: CudaDevice, shape: ProductShape, mostRows: number) {
    const { N, K, epilogue, out = 'bf16' } = shape;
    this.#device = device;
    this.#shape = shape;
    this.#buffers = new Buffers(device, 3);
    const count = Math.max(2, Math.ceil(ROTATED_BYTES / (2 * N * K)));
    this.#weights = Array.from({ length: count }, (_, i) => this.#buffers.random(`w${i}`, 'bf16', [N, K]));
    this.#layout = stepMetaLayout({
      tokens: mostRows,
      requests: 16,
      pages: 16,
      items16: 16,
      items128: 16,
      mergeRows: 16,
      attentionWorkgroups: 16,
      adjustments: 16,
    });
    this.#meta = this.#buffers.make('meta', 'u32', [this.#layout.words]);
    this.#a = this.#buffers.random('a', 'bf16', [mostRows, K]);
    this.#out = this.#buffers.make('out', out, [mostRows, epilogue === 'silu_mul' ? N / 2 : N]);
  }

  /** One call for each weight. */
  calls(rows: number, more: Partial<GemmCall> = {}): GemmCall[] {
    const words = new Uint32Array(this.#layout.words);
    writeCounts(this.#layout, words, rows, 0);
    this.#device.write(this.#meta.buffer, 0, words);
    return this.#weights.map((w) => ({
      kernel: 'gemm',
      label: this.#shape.name,
      meta: this.#meta,
      layout: this.#layout,
      rows: 'tokens',
      maxRows: rows,
      a: this.#a,
      w,
      out: this.#out,
      outColumn: 0,
      epilogue: this.#shape.epilogue ?? 'none',
      ...more,
    }));
  }

  free(): void {
    this.#buffers.free();
  }
}

export interface Contestant {
  name: string;
  program: CompiledProgram;
  /** Runs of the thing in one run of the program. */
  times: number;
}

/** Median microseconds of each, in turns, after a warm-up of all. */
export async function race(
  device: CudaDevice,
  contestants: readonly Contestant[],
  { warmUpMs = 150, roundMs = 8, rounds = 9 } = {},
): Promise<number[]> {
  const run = async ({ program, times }: Contestant, repeats: number): Promise<number> => {
    await device.idle();
    const started = performance.now();
    for (let i = 0; i < repeats; i++) device.submit(program);
    await device.idle();
    return ((performance.now() - started) * 1000) / repeats / times;
  };
  const repeats: number[] = [];
  for (const contestant of contestants) {
    let estimate = Infinity;
    for (const end = performance.now() + warmUpMs; performance.now() < end;) {
      estimate = Math.min(estimate, await run(contestant, 2));
    }
    repeats.push(Math.max(2, Math.round((roundMs * 1000) / (estimate * contestant.times))));
  }
  const all: number[][] = contestants.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, contestant] of contestants.entries()) all[i].push(await run(contestant, repeats[i]));
  }
  return all.map((list) => list.sort((a, b) => a - b)[list.length >> 1]);
}

/** Reads a buffer with `ctas` CTAs; 16-byte loads, `unroll` of a thread in flight. */
export function readLaunch(
  data: TensorView,
  out: TensorView,
  ctas: number,
  { threads = 256, unroll = 8 } = {},
): CudaLaunch {
  return {
    source: 'bench/stream_read',
    variant: `${threads}x${unroll}`,
    defines: { THREADS: threads, UNROLL: unroll },
    args: [{ pointer: data }, { u32: (data.shape[0] * 4) / 16 }, { pointer: out }],
    ctas,
    threads,
  };
}

export function copyLaunch(from: TensorView, to: TensorView, ctas: number): CudaLaunch {
  return {
    source: 'bench/stream_copy',
    variant: '256x8',
    defines: { THREADS: 256, UNROLL: 8 },
    args: [{ pointer: from }, { pointer: to }, { u32: (from.shape[0] * 4) / 16 }],
    ctas,
    threads: 256,
  };
}

/** GB/s of a read-only stream and of a copy (bytes read and written), with all SMs. */
export async function bandwidth(device: CudaDevice): Promise<{ read: number; copy: number }> {
  const buffers = new Buffers(device, 5);
  const words = 2 ** 28; // 1 GiB
  const from = buffers.random('from', 'f32', [words]);
  const to = buffers.make('to', 'f32', [words]);
  const ctas = device.target.cuda.multiprocessors * 8;
  const program = (launch: CudaLaunch) =>
    device.compileLaunches('stream', [[{ label: 'stream', launches: [launch] }]]);
  const [read, copy] = await race(device, [
    { name: 'read', program: await program(readLaunch(from, to, ctas)), times: 1 },
    { name: 'copy', program: await program(copyLaunch(from, to, ctas)), times: 1 },
  ]);
  buffers.free();
  return { read: (words * 4) / read / 1e3, copy: (words * 8) / copy / 1e3 };
}
