/**
 * `nanoflow bench throughput|latency --gpu ...`: a workload on a simulated system, through the engine's own scheduler and
 * page pool on virtual time, for each pipeline. Everything here is modelled.
 */
import { readFile } from 'node:fs/promises';
import {
  constantArrivals,
  meanLengths,
  parseTrace,
  sampledArrivals,
  type Arrival,
} from '../../src/engine/device/sim/arrivals.ts';
import type { Pricer } from '../../src/engine/device/sim/priceCache.ts';
import { simulateTrace, type SimulatedStep, type TraceReport } from '../../src/engine/device/sim/trace.ts';
import { steadyMix } from '../../src/engine/device/sim/mix.ts';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { formatTable } from '../../src/cli/table.ts';
import { BenchError, usage } from './benchError.ts';
import { readPipelines } from './presetPipelines.ts';
import { openSim, simHeader, type SimSetup } from './simSetup.ts';
import { saveTrace } from './traceFile.ts';

export interface SimulateOptions {
  what: 'throughput' | 'latency';
  gpu: string;
  model: string;
  /** "input:output" in tokens, or a CSV file with columns ContextTokens and GeneratedTokens. */
  workload: string;
  requests: number;
  /** Requests a second; 0 or left out: all wait at the start. */
  rate?: number;
  seed: number;
  maxBatchTokens?: number;
  maxRequests?: number;
  /** JSON files of further pipelines. */
  pipeline?: string[];
  trace?: string;
  print: (line: string) => void;
}

export interface SimulateRow extends Omit<TraceReport, 'hash'> {
  pipeline: string;
  tokensPerSecondPerGpu: number;
  steadyTokensPerSecondPerGpu: number;
}

const UNIT =
  'model: tokens (prompt and answer) per second of virtual time, all GPUs together; times in seconds';

/** Every batch through the pipeline that is fastest for it: small batches gain nothing from being split. */
const FASTEST = 'fastest by batch';

function fastestOf(models: readonly Pricer[]): Pricer {
  return {
    price: (mix) =>
      models
        .map((model) => model.price(mix))
        .reduce((best, price) => (price.seconds < best.seconds ? price : best)),
  };
}

/** Steps that a trace shows; a whole run would be millions. */
const TRACED_STEPS = 2000;

export async function runSimulateBench(options: SimulateOptions): Promise<{
  device: { kind: string; name: string };
  unit: string;
  workload: object;
  rows: SimulateRow[];
}> {
  const { print, requests, rate = 0, seed } = options;
  const setup = usage(() => openSim(options));
  const workload = await readWorkload(options.workload);
  const [input, output] = workload.mean;
  const tokens = options.maxBatchTokens ?? 2048;
  const pageSize = 16;
  const sizes = {
    pages: Math.floor(setup.kvTokens / pageSize),
    pageSize,
    maxBatchTokens: tokens,
    maxRequests: options.maxRequests ?? tokens,
  };
  const mix = steadyMix(input, output, tokens, setup.kvTokens);
  const pipelines = [
    ...setup.presets(mix),
    ...usage(() => readPipelines(options.pipeline ?? [], setup.graph)),
  ];
  const per = rate > 0 ? `${rate} a second` : 'all at the start';
  print(
    `model: ${setup.model.name} on ${setup.system.name}, ${requests} requests (${per}) of ${workload.name}: ` +
      `${input.toFixed(0)} tokens in, ${output.toFixed(0)} out on average; batches of up to ${tokens} tokens`,
  );
  const rows: SimulateRow[] = [];
  const steps = new Map<string, SimulatedStep[]>();
  const models = pipelines.map((pipeline) => setup.stepModel(() => pipeline));
  const candidates: { name: string; model: Pricer }[] = [
    ...models.map((one, i) => ({ name: pipelines[i].name, model: one })),
    { name: FASTEST, model: fastestOf(models) },
  ];
  for (const { name, model } of candidates) {
    const kept: SimulatedStep[] = [];
    const { hash: _, ...report } = usage(() =>
      simulateTrace({
        model,
        arrivals: workload.arrivals({ count: requests, rate, seed }),
        sizes,
        hostSeconds: setup.system.gpu.hostSeconds,
        onStep: (step) => void (kept.length < TRACED_STEPS && kept.push(step)),
      }),
    );
    steps.set(name, kept);
    const { count } = setup.system;
    rows.push({
      pipeline: name,
      tokensPerSecondPerGpu: report.tokensPerSecond / count,
      steadyTokensPerSecondPerGpu: report.steadyTokensPerSecond / count,
      ...report,
    });
  }
  print('');
  for (const line of (options.what === 'latency' ? latencyTable(rows) : throughputTable(rows)).split('\n')) {
    print(line);
  }
  if (options.trace !== undefined) await saveTrace(options.trace, stepTrace(setup, steps), print);
  return {
    device: { kind: 'sim', name: setup.system.name },
    unit: UNIT,
    workload: { name: workload.name, input, output, requests, rate, seed, maxBatchTokens: tokens },
    rows,
  };
}

interface Workload {
  name: string;
  mean: readonly [input: number, output: number];
  arrivals(options: { count: number; rate: number; seed: number }): Iterable<Arrival>;
}

/** @throws BenchError when it is neither input:output nor a readable trace */
async function readWorkload(text: string): Promise<Workload> {
  const [, input, output] = (/^(\d+):(\d+)$/.exec(text) ?? []).map(Number);
  if (input >= 1 && output >= 1) {
    return {
      name: `${input}:${output}`,
      mean: [input, output],
      arrivals: (options) => constantArrivals(input, output, options),
    };
  }
  const csv = await readFile(text, 'utf8').catch(() => {
    throw new BenchError(
      `--workload '${text}' is neither input:output in tokens (512:512) nor a file that can be read`,
    );
  });
  const lengths = usage(() => parseTrace(csv));
  return {
    name: text.replace(/^.*[\\/]/, ''),
    mean: meanLengths(lengths),
    arrivals: (options) => sampledArrivals(lengths, options),
  };
}

function throughputTable(rows: readonly SimulateRow[]): string {
  const lanes = ['compute', 'memory', 'network'];
  return formatTable(
    ['pipeline', 'tok/s', 'per GPU', 'steady per GPU', 'gain', 'batch', 'idle', ...lanes],
    rows.map((row) => [
      row.pipeline,
      Math.round(row.tokensPerSecond),
      Math.round(row.tokensPerSecondPerGpu),
      Math.round(row.steadyTokensPerSecondPerGpu),
      `${(row.steadyTokensPerSecond / rows[0].steadyTokensPerSecond).toFixed(3)}x`,
      Math.round(row.meanBatchTokens),
      percent(row.deviceIdle / row.seconds),
      ...lanes.map((lane) => percent(row.laneBusy[lane] / row.seconds)),
    ]),
  ).trimEnd();
}

function latencyTable(rows: readonly SimulateRow[]): string {
  const ms = (seconds: number): number => Number((seconds * 1000).toFixed(1));
  return formatTable(
    [
      'pipeline',
      'tok/s',
      'TTFT p50 ms',
      'p99',
      'per token p50 ms',
      'p99',
      'end to end per token p50 ms',
      'p99',
    ],
    rows.map((row) => [
      row.pipeline,
      Math.round(row.tokensPerSecond),
      ...[row.timeToFirstToken, row.timePerOutputToken, row.normalizedLatency].flatMap(({ p50, p99 }) => [
        ms(p50),
        ms(p99),
      ]),
    ]),
  ).trimEnd();
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** The first steps of each pipeline's run: the device, the host before it, the size of the batch. */
function stepTrace(
  setup: SimSetup,
  runs: ReadonlyMap<string, readonly SimulatedStep[]>,
): ReturnType<TraceBuilder['finish']> {
  const builder = new TraceBuilder(simHeader(setup, { workload: { model: setup.model.name } }));
  for (const [name, steps] of runs) {
    const device = builder.track('device', name);
    const stream = builder.track('stream', 'steps', device);
    const tokens = builder.track('counter', 'tokens of the batch', device);
    const decode = builder.track('counter', 'decode tokens of the batch', device);
    let before = -1;
    steps.forEach(({ mix, price, start, end }, iter) => {
      const longest = price.busy.indexOf(Math.max(...price.busy));
      const span = builder.span({
        track: stream,
        name: `step of ${mix.tokens}`,
        cls: (['C', 'M', 'N', 'copy'] as const)[longest] ?? 'C',
        iter,
        start: start * 1e9,
        end: end * 1e9,
      });
      if (before >= 0) builder.flow(before, span, 'token');
      before = span;
      builder.counter(tokens, start * 1e9, mix.tokens);
      builder.counter(decode, start * 1e9, mix.decodeTokens);
    });
  }
  return builder.finish();
}
