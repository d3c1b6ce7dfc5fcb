/**
 * Times kernel calls on a device: one row for each case, with GB/s and TFLOP/s where the case says what it moves and
 * computes.
 *
 * A round is one submit of the calls many times over, from submit to idle; the figure is the median of rounds divided
 * by the repeats, so it holds barriers and launch costs as a real step does. GPUs drop their clocks while pipelines
 * compile: without ~100 ms of the same work before measuring, kernels read 3-5 times slower, and while large buffers
 * are filled, so warming up goes on as long as it helps.
 */
import type { Device } from '../../src/engine/device.ts';
import type { ProgramCall } from '../../src/engine/kernels/calls.ts';

export interface TimedCase {
  name: string;
  calls: readonly ProgramCall[];
  /** Bytes that one run of the calls must move between memory and cores. */
  bytes?: number;
  /** Floating-point operations of one run of the calls (a multiply-add is two). */
  flops?: number;
}

export interface TimingRow {
  name: string;
  device: string;
  /** Median and smallest time of one run of the calls. */
  microseconds: number;
  fastest: number;
  gigabytesPerSecond?: number;
  teraflops?: number;
  repeats: number; // runs in one round
  rounds: number;
}

export interface TimingOptions {
  warmUpMs?: number; // 100
  roundMs?: number; // 10: aimed length of one round
  rounds?: number; // 9
}

const LONGEST_WARM_UP = 3000;

/** Most dispatches of one round, so that no submit takes seconds. */
const MOST_CALLS = 2000;

export async function timeCase(
  device: Device,
  { name, calls, bytes, flops }: TimedCase,
  { warmUpMs = 100, roundMs = 10, rounds = 9 }: TimingOptions = {},
): Promise<TimingRow> {
  const once = await device.compile(`${name} x1`, calls);
  const run = async (program: typeof once): Promise<number> => {
    const started = performance.now();
    device.submit(program);
    await device.idle();
    return performance.now() - started;
  };
  await run(once); // drivers finish compiling at the first dispatch
  let estimate = await run(once);
  for (const end = performance.now() + warmUpMs / 2; performance.now() < end;) {
    estimate = Math.min(estimate, await run(once));
  }
  // The estimate holds one round trip (10-200 us); a second one, from several runs, does not.
  const few = Math.max(1, Math.min(20, Math.floor(roundMs / estimate)));
  const repeat = (times: number): ProgramCall[] => Array.from({ length: times }, () => calls).flat();
  const probe = await device.compile(`${name} x${few}`, repeat(few));
  estimate = Math.max(1e-4, Math.min(await run(probe), await run(probe)) / few);
  probe.destroy();
  once.destroy();

  const repeats = Math.max(
    1,
    Math.min(Math.round(roundMs / estimate), Math.floor(MOST_CALLS / calls.length)),
  );
  const program = await device.compile(`${name} x${repeats}`, repeat(repeats));
  // On until nothing gets faster: after large buffers were filled, clocks take a second to come back.
  let fastest = Infinity;
  const began = performance.now();
  for (let end = began + warmUpMs; performance.now() < end;) {
    const time = await run(program);
    if (time < 0.98 * fastest) end = Math.min(performance.now() + warmUpMs, began + LONGEST_WARM_UP);
    fastest = Math.min(fastest, time);
  }
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) times.push(((await run(program)) / repeats) * 1000);
  program.destroy();
  times.sort((a, b) => a - b);
  const microseconds = times[Math.floor(times.length / 2)];
  return {
    name,
    device: device.target.name,
    microseconds,
    fastest: times[0],
    ...(bytes === undefined ? {} : { gigabytesPerSecond: bytes / microseconds / 1e3 }),
    ...(flops === undefined ? {} : { teraflops: flops / microseconds / 1e6 }),
    repeats,
    rounds,
  };
}

/** "gemm 4096^3 f16     981.2 us   140.0 TFLOP/s   102.6 GB/s": columns line up for names up to 44 characters. */
export function formatRow(row: TimingRow): string {
  const microseconds = `${row.microseconds.toFixed(row.microseconds < 100 ? 2 : 1)} us`;
  const teraflops = row.teraflops;
  const rate =
    teraflops === undefined
      ? ''
      : teraflops >= 1
        ? `${teraflops.toFixed(1)} TFLOP/s`
        : `${(teraflops * 1e3).toFixed(1)} GFLOP/s`;
  const stream = row.gigabytesPerSecond === undefined ? '' : `${row.gigabytesPerSecond.toFixed(1)} GB/s`;
  return `${row.name.padEnd(44)} ${microseconds.padStart(12)} ${rate.padStart(15)} ${stream.padStart(13)}`.trimEnd();
}
