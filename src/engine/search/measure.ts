/**
 * Measured time of one step on a device, for batch mixes and pipelines: what every candidate of a search is judged by.
 * Candidates take turns within one run, so that clocks and neighbours change for all of them alike (measureSteps). What
 * then looks faster has to be so again and again, at the clock that its own power leaves it (measureRepeated).
 */
import { BLOCK_BYTES, randomStorage } from './randomData.ts';
import type { Device } from '../device.ts';
import type { ModelRunner } from '../model/runner.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';
import { greedyRequest } from '../schedule/greedy.ts';
import { Request } from '../schedule/request.ts';
import type { DenseBatch } from '../schedule/scheduler.ts';

/** A dense batch by its make-up: what decides where its time goes. */
export interface BatchMix {
  decode: number; // requests that decode one token each
  context: number; // KV tokens of each of them, the new one included
  prefill: number; // tokens of one prompt chunk behind them
  prefillContext?: number; // tokens of that prompt before the chunk; default 0
}

export function mixName({ decode, context, prefill, prefillContext = 0 }: BatchMix): string {
  const chunk = prefillContext > 0 ? `${prefill} after ${prefillContext}` : `${prefill}`;
  return `${decode} x ${context}${prefill > 0 ? ` + ${chunk}` : ''}`;
}

/**
 * A batch of this make-up with pages in the order that a pool hands them out when requests grow together.
 * @throws Error when the runner's batch or KV cache is too small for it.
 */
export function mixBatch(runner: Pick<ModelRunner, 'sizes' | 'config'>, mix: BatchMix): DenseBatch {
  const { pageSize, pages, maxBatchTokens, maxRequests } = runner.sizes;
  const { decode, context, prefill, prefillContext = 0 } = mix;
  const tokens = decode + prefill;
  const requests = decode + (prefill > 0 ? 1 : 0);
  const each = Math.ceil(context / pageSize);
  const needed = decode * each + Math.ceil((prefill + prefillContext) / pageSize);
  if (tokens > maxBatchTokens || requests > maxRequests || needed > pages) {
    throw new Error(
      `mix ${mixName(mix)} needs ${tokens} tokens, ${requests} requests and ${needed} KV pages; the engine has ` +
        `${maxBatchTokens}, ${maxRequests} and ${pages}: raise --max-batch-tokens, --max-requests or --kv-memory`,
    );
  }
  const { vocabSize } = runner.config;
  const batch: DenseBatch = { segments: [], tokens, samples: requests, adjustments: 0 };
  for (let i = 0; i < decode; i++) {
    const request = madeUp(`decode ${i}`, context, vocabSize);
    request.computed = context - 1;
    for (let page = 0; page < each; page++) request.pages.push(page * decode + i);
    batch.segments.push({ request, start: context - 1, count: 1, sample: true });
  }
  if (prefill > 0) {
    const request = madeUp('prefill', prefillContext + prefill, vocabSize);
    request.computed = prefillContext;
    for (let page = decode * each; page < needed; page++) request.pages.push(page);
    batch.segments.push({ request, start: prefillContext, count: prefill, sample: true });
  }
  return batch;
}

function madeUp(id: string, tokens: number, vocabSize: number): Request {
  const prompt = Array.from({ length: tokens }, (_, i) => (i * 7919 + id.length * 104729) % vocabSize);
  return new Request(greedyRequest(id, prompt, 1), [1, 2], 1, 0);
}

/** Fills the KV cache with random numbers: zeros draw less power and make every score equal. */
export function randomizeKv(runner: Pick<ModelRunner, 'buffers' | 'device'>): void {
  for (const { k, v } of runner.buffers.kv) {
    for (const view of [k, v]) {
      const block = randomStorage(view.dtype, BLOCK_BYTES);
      for (let at = 0; at < view.buffer.bytes; at += block.byteLength) {
        const words = Math.min(block.length, (view.buffer.bytes - at) >> 2);
        runner.device.write(view.buffer, at, block.subarray(0, words));
      }
    }
  }
}

export interface MeasureOptions {
  /** Of each candidate: until nothing got faster for this long (GPUs raise their clocks slowly); 300 */
  warmUpMs?: number;
  roundMs?: number; // aimed length of one round of one candidate; 30
  rounds?: number; // every candidate once in each; 7
  /** Called after each round: [done, all]. */
  progress?: (done: number, all: number) => void;
}

const LONGEST_WARM_UP = 5000;

/** Milliseconds of one step: device time with nothing read back, as in a loop that never makes the device wait. */
export interface MeasuredStep {
  median: number;
  fastest: number;
  slowest: number;
}

/**
 * Times the same batch through each candidate (undefined: the plain order), in turns.
 * The batch's sampled tokens are not read, and its requests do not change.
 */
export async function measureSteps(
  runner: ModelRunner,
  batch: DenseBatch,
  candidates: readonly (Pipeline | undefined)[],
  { warmUpMs = 300, roundMs = 30, rounds = 7, progress }: MeasureOptions = {},
): Promise<MeasuredStep[]> {
  const { device } = runner;
  const repeats = candidates.map(() => 3);
  const times: number[][] = candidates.map(() => []);
  const run = async (index: number): Promise<number> => {
    runner.usePipelines(() => candidates[index]);
    await (await runner.launch(batch, [])).collect(); // its metadata, and the first dispatch of its programs
    const started = performance.now();
    for (let i = 0; i < repeats[index]; i++) runner.repeatLast();
    await device.idle();
    return (performance.now() - started) / repeats[index];
  };
  try {
    for (let index = 0; index < candidates.length; index++) {
      let fastest = Infinity;
      const started = performance.now();
      for (let end = started + warmUpMs; performance.now() < end;) {
        const time = await run(index);
        if (time < 0.98 * fastest) end = Math.min(performance.now() + warmUpMs, started + LONGEST_WARM_UP);
        fastest = Math.min(fastest, time);
        // At least a few: a single step after a pause is not what a busy loop takes.
        repeats[index] = Math.max(3, Math.min(50, Math.round(roundMs / fastest)));
      }
    }
    for (let round = 0; round < rounds; round++) {
      for (let index = 0; index < candidates.length; index++) times[index].push(await run(index));
      progress?.(round + 1, rounds);
    }
  } finally {
    runner.usePipelines(undefined);
  }
  return times.map((list) => {
    list.sort((a, b) => a - b);
    return { median: list[list.length >> 1], fastest: list[0], slowest: list[list.length - 1] };
  });
}

export interface RepeatOptions {
  /** How long a candidate runs before it is timed, and while; ms */
  settleMs?: number; // 300
  readMs?: number; // 600
  /** Called before a candidate settles; begin and end enclose what is timed. */
  watch?: (index: number) => { begin(): void; end(): void };
}

/** Runs between two looks at the clock. */
const AT_ONCE = 8;

/** Milliseconds of a run of what `submit` submits, repeated for so long without a pause. */
export async function repeatFor(device: Device, milliseconds: number, submit: () => void): Promise<number> {
  const began = performance.now();
  let runs = 0;
  for (; runs === 0 || performance.now() - began < milliseconds; runs += AT_ONCE) {
    for (let i = 0; i < AT_ONCE; i++) submit();
    await device.idle();
  }
  return (performance.now() - began) / runs;
}

/**
 * Milliseconds of a step that is repeated without a pause, as a server does it. In turns all candidates share one clock;
 * here a GPU at its limit of power clocks each as low as it must, and one that keeps more of the GPU busy lower: on an
 * H100 a gain of 1.15x in turns was one of 1.07x to 1.10x again and again. Each candidate runs twice, the second time in
 * reverse order.
 */
export async function measureRepeated(
  runner: ModelRunner,
  batch: DenseBatch,
  candidates: readonly (Pipeline | undefined)[],
  { settleMs = 300, readMs = 600, watch }: RepeatOptions = {},
): Promise<number[]> {
  const repeat = (milliseconds: number) => repeatFor(runner.device, milliseconds, () => runner.repeatLast());
  const sums = candidates.map(() => 0);
  const order = candidates.map((_, index) => index);
  try {
    for (const index of [...order, ...order.toReversed()]) {
      const watched = watch?.(index);
      runner.usePipelines(() => candidates[index]);
      await (await runner.launch(batch, [])).collect();
      await repeat(settleMs);
      watched?.begin();
      sums[index] += await repeat(readMs);
      watched?.end();
    }
  } finally {
    runner.usePipelines(undefined);
  }
  return sums.map((sum) => sum / 2);
}
