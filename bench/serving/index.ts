/**
 * `nanoflow bench decode`: a model of a published shape with random weights through the engine (scheduler, plan, kernels,
 * sampling), without threads, HTTP and text: tokens per second for several numbers of streams, and where one decode
 * step spends its time.
 */
import { DeviceLostError, type Device } from '../../src/engine/device.ts';
import { parseModelConfig } from '../../src/engine/model/config.ts';
import { readJson } from '../../src/engine/model/modelFiles.ts';
import { ModelRunner, type BatchRunner } from '../../src/engine/model/runner.ts';
import { chooseSizes } from '../../src/engine/model/sizes.ts';
import { greedyRequest } from '../../src/engine/schedule/greedy.ts';
import type { GenerateRequest } from '../../src/protocol.ts';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import type { Engine } from '../../src/engine/engine.ts';
import type { StepInfo } from '../../src/engine/loop/flight.ts';
import { recordCalls } from '../../src/engine/trace/recordCalls.ts';
import { recordItems } from '../../src/engine/trace/recordItems.ts';
import { recordPages } from '../../src/engine/trace/recordPages.ts';
import { recordSteps } from '../../src/engine/trace/recordSteps.ts';
import { openDevice } from '../kernels/index.ts';
import { usage } from './benchError.ts';
import { newEngine } from './engines.ts';
import { randomModelFiles } from './randomModel.ts';
import { profileHeader, saveTrace } from './traceFile.ts';

export interface DecodeBenchOptions {
  device: 'auto' | 'cuda' | 'webgpu' | 'cpu';
  shape: string; // a key of SHAPES
  streams: number[];
  promptTokens: number;
  outputTokens: number;
  runs: number; // medians of these, after one that is not counted
  storage?: 'auto' | 'f32' | 'f16' | 'bf16';
  /** Where to save a trace: one decode step of one stream call by call, and the host's steps of the most streams. */
  trace?: string;
  print: (line: string) => void;
}

/** Answers of the run that a trace shows. */
const TRACED_TOKENS = 32;

export interface DecodeRow {
  streams: number;
  promptTokens: number;
  outputTokens: number;
  /** Output tokens of all streams over the time from the last first token to the end. */
  tokensPerSecond: number;
  stepMilliseconds: number; // median of decode steps
  slowStepMilliseconds: number; // 95th percentile
  hostMilliseconds: number; // median of planning, uploading and submitting a step
  prefillMilliseconds: number; // until every stream has its first token
  /** Weight bytes that a step reads, over its time. */
  gigabytesPerSecond: number;
}

export interface DecodeBench {
  device: { kind: string; name: string };
  rows: DecodeRow[];
  /** Microseconds of one decode step of one stream, by kernel and call, summed over layers; when the device can tell. */
  profile: { call: string; count: number; microseconds: number }[];
  /** The same step over and over without reading anything back: what is left when the host is never waited for. */
  deviceMilliseconds: number;
}

export async function runDecodeBench(options: DecodeBenchOptions): Promise<DecodeBench> {
  const { print, shape, streams, promptTokens, outputTokens } = options;
  const files = usage(() => randomModelFiles(shape));
  const device = await openDevice(options.device);
  try {
    const config = parseModelConfig(await readJson(files, 'config.json'));
    const maxModelLen = promptTokens + outputTokens + 16;
    const maxRequests = Math.max(...streams);
    const kvMemoryBytes = 2 ** 36; // as much as the requests can use
    const sizes = chooseSizes(config, device.target, {
      storage: options.storage,
      maxModelLen,
      maxRequests,
      kvMemoryBytes,
    });
    const begin = performance.now();
    const runner = await ModelRunner.load(device, config, files, sizes);
    await runner.compile();
    await runner.warmUp();
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    print(
      `${shape} on ${device.target.name}: ${(runner.weightBytes / 1e9).toFixed(2)} GB ${sizes.types.weights}, loaded in ${seconds} s`,
    );
    const rows: DecodeRow[] = [];
    for (const count of streams) {
      const runs: DecodeRow[] = [];
      for (let run = 0; run <= options.runs; run++) {
        const row = await measure(runner, count, promptTokens, outputTokens);
        if (run > 0) runs.push(row);
      }
      runs.sort((a, b) => a.tokensPerSecond - b.tokensPerSecond);
      const row = runs[Math.floor(runs.length / 2)];
      rows.push(row);
      print(
        `${String(count).padStart(4)} streams x ${promptTokens}/${outputTokens}: ${row.tokensPerSecond.toFixed(1)} tok/s, ` +
          `step ${row.stepMilliseconds.toFixed(3)} ms, p95 ${row.slowStepMilliseconds.toFixed(3)}, host ${row.hostMilliseconds.toFixed(3)} ` +
          `(${row.gigabytesPerSecond.toFixed(0)} GB/s of weights), prefill ${row.prefillMilliseconds.toFixed(1)} ms`,
      );
    }
    const { profile, deviceMilliseconds } = await profileStep(runner, device, promptTokens);
    print(`   1 stream, nothing read back: step ${deviceMilliseconds.toFixed(3)} ms`);
    for (const { call, count, microseconds } of profile) {
      print(
        `  ${call.padEnd(44)} ${String(count).padStart(4)} x ${(microseconds / count).toFixed(2).padStart(8)} us = ${microseconds.toFixed(1).padStart(9)} us`,
      );
    }
    if (options.trace !== undefined) {
      const builder = new TraceBuilder(
        profileHeader(device.target, { workload: { model: shape, streams: 1, promptTokens } }),
      );
      const timings = await runner.profileLast();
      const calls = runner.lastCalls;
      recordCalls(builder, { device: 'one decode step', calls, timings });
      await recordMultiprocessors(builder, runner, print);
      const steps: StepInfo[] = [];
      const tokens = Math.min(outputTokens, TRACED_TOKENS);
      const zero = performance.now();
      const now = (): number => (performance.now() - zero) * 1e6;
      await measure(runner, streams.at(-1)!, promptTokens, tokens, {
        onStep: (step) => steps.push(step),
        onEngine: ({ pool }) => recordPages(builder, pool, now),
      });
      recordSteps(builder, steps, zero);
      await saveTrace(options.trace, builder.finish(), print);
    }
    return {
      device: { kind: device.target.kind, name: device.target.name },
      rows,
      profile,
      deviceMilliseconds,
    };
  } finally {
    device.destroy();
  }
}

/** Lanes of the multiprocessors, where the device's kernels can tell; else a line that says why not. */
async function recordMultiprocessors(
  builder: TraceBuilder,
  runner: ModelRunner,
  print: (line: string) => void,
): Promise<void> {
  try {
    const items = await runner.profileLastItems();
    if (items) recordItems(builder, { device: 'the same step by multiprocessor', items });
  } catch (error) {
    if (error instanceof DeviceLostError) throw error;
    print(`no lanes of multiprocessors: ${(error as Error).message}`);
  }
}

async function measure(
  runner: ModelRunner,
  streams: number,
  promptTokens: number,
  outputTokens: number,
  watch: { onStep?: (step: StepInfo) => void; onEngine?: (engine: Engine) => void } = {},
): Promise<DecodeRow> {
  const host: number[] = [];
  const timed: BatchRunner = {
    config: runner.config,
    sizes: runner.sizes,
    maxAdjustments: runner.maxAdjustments,
    async launch(batch, endTokens) {
      const at = performance.now();
      const step = await runner.launch(batch, endTokens);
      host.push(performance.now() - at);
      return step;
    },
  };
  const engine = newEngine(timed, { onStep: watch.onStep });
  watch.onEngine?.(engine);
  for (let i = 0; i < streams; i++) engine.submit(request(`${i}`, runner, promptTokens, outputTokens));
  const begin = performance.now();
  let waiting = streams;
  let prefilled = 0;
  let generated = 0;
  const steps: number[] = [];
  const started = new Set<string>();
  while (engine.hasWork) {
    const at = performance.now();
    for (const event of await engine.step()) {
      if (event.type === 'error') throw new Error(event.error.message);
      if (event.type !== 'tokens') continue;
      if (waiting === 0) generated++;
      started.add(event.id);
    }
    const now = performance.now();
    if (waiting === 0) steps.push(now - at);
    waiting = streams - started.size;
    if (waiting === 0 && prefilled === 0) prefilled = now;
  }
  const seconds = (performance.now() - prefilled) / 1000;
  steps.sort((a, b) => a - b);
  host.sort((a, b) => a - b);
  const stepMilliseconds = steps[Math.floor(steps.length / 2)];
  return {
    streams,
    promptTokens,
    outputTokens,
    tokensPerSecond: generated / seconds,
    stepMilliseconds,
    slowStepMilliseconds: steps[Math.floor(steps.length * 0.95)],
    hostMilliseconds: host[Math.floor(host.length / 2)],
    prefillMilliseconds: prefilled - begin,
    gigabytesPerSecond: runner.weightBytes / stepMilliseconds / 1e6,
  };
}

/** Steps that are enqueued at once: enough for one round trip not to count. */
const REPEATS = 20;

/** Runs one decode step of one stream with timestamps around every call; the same calls of all layers are summed. */
async function profileStep(
  runner: ModelRunner,
  device: Device,
  promptTokens: number,
): Promise<Pick<DecodeBench, 'profile' | 'deviceMilliseconds'>> {
  const engine = newEngine(runner);
  engine.submit(request('profile', runner, promptTokens, 4));
  await engine.step(); // the prompt, or its first chunk
  while (engine.hasWork) await engine.step();
  const times: number[] = [];
  for (let round = 0; round < 5; round++) {
    const at = performance.now();
    for (let i = 0; i < REPEATS; i++) runner.repeatLast();
    await device.idle();
    times.push((performance.now() - at) / REPEATS);
  }
  const sums = new Map<string, { count: number; microseconds: number }>();
  for (const timing of await runner.profileLast()) {
    const call = `${timing.label.replace(/^layers\.\d+\./, 'layer.')} (${timing.kernel})`;
    const sum = sums.get(call) ?? { count: 0, microseconds: 0 };
    sums.set(call, { count: sum.count + 1, microseconds: sum.microseconds + timing.microseconds });
  }
  return {
    profile: [...sums].map(([call, sum]) => ({ call, ...sum })),
    deviceMilliseconds: Math.min(...times),
  };
}

function request(
  id: string,
  runner: ModelRunner,
  promptTokens: number,
  outputTokens: number,
): GenerateRequest {
  const { vocabSize } = runner.config;
  const prompt = Array.from(
    { length: promptTokens },
    (_, i) => (Number(id.length) * 31 + i * 7919) % vocabSize,
  );
  return greedyRequest(id, prompt, outputTokens);
}
