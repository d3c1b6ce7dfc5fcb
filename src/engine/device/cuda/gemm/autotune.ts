/**
 * The GEMM autotuner: times every backend's tactics for the products of a model, for buckets of rows, on the device
 * itself. Candidates run over the weights of several layers, so that the cache does not flatter them, and take turns.
 *
 * What it finds goes into a table (table.ts); without one the analytic defaults serve, so it is never needed. Operations
 * that are not worth their time can be skipped (the reason that FlashInfer has skip_ops: PR 3396).
 */
import type { CompiledProgram, TensorView } from '../../../device.ts';
import type { GemmCall } from '../../../kernels/calls.ts';
import { writeCounts } from '../../../plan/stepMeta.ts';
import type { CudaDevice } from '../cudaDevice.ts';
import { splitTactic, type GemmBackend } from './registry.ts';
import { shapeKey, tunedKey, type TunedEntry } from './table.ts';

export interface TuneOptions {
  /** Rows that are tuned for; default powers of two up to `mostRows`. */
  rows?: readonly number[];
  /** Operations that are left alone: "lm_head", "qkv", ... */
  skipOps?: readonly string[];
  progress?: (done: number, all: number, what: string) => void;
}

/** Layers whose weights take turns. */
const LAYERS = 8;
const WARM_UP_MS = 30;
const ROUND_MS = 4;
const ROUNDS = 5;

/** "layers.3.qkv" is of operation "qkv". */
export function operationOf({ label }: Pick<GemmCall, 'label'>): string {
  return label.slice(label.lastIndexOf('.') + 1);
}

/**
 * @param callsFor the products of a program for so many rows
 * @returns entries by key, each with the time of the default beside it
 */
export async function tuneProducts(
  device: CudaDevice,
  backends: readonly GemmBackend[],
  callsFor: (rows: number) => readonly GemmCall[],
  { rows = [1, 16, 64, 256, 1024, 2048], skipOps = [], progress }: TuneOptions = {},
): Promise<Record<string, TunedEntry>> {
  const jobs = new Map<string, GemmCall[]>();
  for (const count of rows) {
    for (const call of callsFor(count)) {
      if (skipOps.includes(operationOf(call))) continue;
      const key = tunedKey(call);
      const list = jobs.get(key) ?? [];
      jobs.set(key, list);
      if (list.length < LAYERS) list.push(call);
    }
  }
  const entries: Record<string, TunedEntry> = {};
  let done = 0;
  for (const [key, calls] of jobs) {
    const entry = await tuneOne(device, backends, calls);
    if (entry) entries[key] = entry;
    progress?.(++done, jobs.size, `${shapeKey(calls[0])}, ${calls[0].maxRows} rows`);
  }
  return entries;
}

/** The fastest of all candidates; undefined where only the default can do it. */
async function tuneOne(
  device: CudaDevice,
  backends: readonly GemmBackend[],
  calls: readonly GemmCall[],
): Promise<TunedEntry | undefined> {
  const { target } = device;
  const [first] = calls;
  setRows(device, first, first.maxRows);
  const candidates = backends
    .filter((backend) => !backend.isSupported(target) && !backend.canImplement(first, target))
    .flatMap((backend) => backend.tactics(first, target).map((tactic) => `${backend.name}/${tactic}`));
  if (candidates.length < 2) return undefined;
  const programs: { name: string | undefined; program: CompiledProgram; repeats: number; times: number[] }[] =
    [];
  for (const name of [undefined, ...candidates]) {
    try {
      const program = await device.compile(
        'tune',
        calls.map((call) => ({ ...call, backend: name })),
      );
      programs.push({ name, program, repeats: 1, times: [] });
    } catch (error) {
      if (name === undefined) throw error;
      // A tactic that this GPU has no room for is no candidate.
    }
  }
  const run = async ({ program, repeats }: (typeof programs)[number]): Promise<number> => {
    const started = performance.now();
    for (let i = 0; i < repeats; i++) device.submit(program);
    await device.idle();
    return (performance.now() - started) / repeats;
  };
  for (const each of programs) {
    let fastest = Infinity;
    for (const end = performance.now() + WARM_UP_MS; performance.now() < end;) {
      fastest = Math.min(fastest, await run(each));
    }
    each.repeats = Math.max(2, Math.round(ROUND_MS / fastest));
  }
  for (let round = 0; round < ROUNDS; round++) for (const each of programs) each.times.push(await run(each));
  const timed = programs.map(({ name, times, program }) => {
    program.destroy();
    return { name, microseconds: (times.sort((a, b) => a - b)[times.length >> 1] * 1000) / calls.length };
  });
  const best = timed.slice(1).reduce((a, b) => (b.microseconds < a.microseconds ? b : a));
  const [backend, tactic] = splitTactic(best.name!);
  return { backend, tactic: tactic!, microseconds: best.microseconds, untuned: timed[0].microseconds };
}

/** Writes the counters of the step metadata, as a batch of so many rows would. */
function setRows(
  device: CudaDevice,
  { meta, layout }: { meta: TensorView } & Pick<GemmCall, 'layout'>,
  rows: number,
): void {
  const words = new Uint32Array(layout.words);
  const { tokens, requests } = layout.capacity;
  writeCounts(layout, words, Math.min(rows, tokens), Math.min(rows, requests));
  const end = layout.ranges + 4;
  device.write(meta.buffer, meta.offset, words.subarray(0, Math.ceil(end / 64) * 64));
}
