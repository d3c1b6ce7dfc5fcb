/** GPU time of each call of a program: one compute pass for each call, with a timestamp at both ends. */
import type { CallTiming } from '../../device.ts';
import { encodeSteps, type WebgpuProgram } from './program.ts';
import { BUFFER_USAGE, type StagingPool } from './staging.ts';

/** Calls of one query set: WebGPU allows 4096 queries in it. */
const CALLS_PER_SET = 2048;

/**
 * Browsers round timestamps to 65.5 us unless they are told otherwise; in Node the adapter is made without that
 * (gpu.node.ts).
 */
export async function profileSteps(
  gpu: GPUDevice,
  staging: StagingPool,
  program: WebgpuProgram,
): Promise<CallTiming[]> {
  const { steps } = program;
  // Launches of one call follow each other: [first step, first step of the next call).
  const ranges: { from: number; to: number }[] = [];
  steps.forEach((step, index) => {
    if (index > 0 && steps[index - 1].callIndex === step.callIndex) ranges[ranges.length - 1].to++;
    else ranges.push({ from: index, to: index + 1 });
  });

  const timings: CallTiming[] = [];
  let zero: bigint | undefined;
  for (let first = 0; first < ranges.length; first += CALLS_PER_SET) {
    const part = ranges.slice(first, first + CALLS_PER_SET);
    const querySet = gpu.createQuerySet({ label: 'profile', type: 'timestamp', count: part.length * 2 });
    const resolved = gpu.createBuffer({
      label: 'profile timestamps',
      size: part.length * 16,
      usage: BUFFER_USAGE.QUERY_RESOLVE | BUFFER_USAGE.COPY_SRC,
    });
    const encoder = gpu.createCommandEncoder({ label: `profile ${program.label}` });
    part.forEach(({ from, to }, index) => {
      const pass = encoder.beginComputePass({
        timestampWrites: {
          querySet,
          beginningOfPassWriteIndex: index * 2,
          endOfPassWriteIndex: index * 2 + 1,
        },
      });
      encodeSteps(pass, steps, from, to);
      pass.end();
    });
    encoder.resolveQuerySet(querySet, 0, part.length * 2, resolved, 0);
    gpu.queue.submit([encoder.finish()]);
    const times = new BigUint64Array(await staging.read(resolved, 0, part.length * 16));
    zero ??= times[0];
    part.forEach(({ from }, index) => {
      const { kernel, callIndex } = steps[from];
      timings.push({
        kernel,
        label: program.calls[callIndex].label,
        microseconds: Number(times[index * 2 + 1] - times[index * 2]) / 1000,
        startNanoseconds: Number(times[index * 2] - zero!),
      });
    });
    querySet.destroy();
    resolved.destroy();
  }
  return timings;
}
