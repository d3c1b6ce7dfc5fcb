/**
 * `nanoflow bench throughput` and `bench latency`: a model behind the same client as the server's, a published shape
 * with random weights through the engine alone, or either on a simulated GPU.
 */
import { existsSync } from 'node:fs';
import { Command } from 'commander';
import { line } from './benchKernels.ts';
import { addRecordOptions, type RecordFlags, saveRecord } from './benchRecord.ts';
import { type BenchResult, loadBench, runBench } from './benchSource.ts';
import { addGpuOption, resolveTarget, type TargetFlags } from './benchTarget.ts';
import { describeEngine } from './describe.ts';
import { addEngineOptions, type EngineFlags, loadModel } from './engineOptions.ts';
import { type Figures, type Load, measure, type MeasuredClient, type RequestTimes } from './measure.ts';
import { formatTable } from './table.ts';
import { CliError, decimal, integer, integers } from './values.ts';

interface ServingFlags extends Omit<EngineFlags, 'device'>, RecordFlags, TargetFlags {
  streams: number[];
  promptTokens: number[];
  outputTokens: number;
  runs: number;
  layers?: number;
  workload?: string;
  requests: number;
  rate?: number;
  seed: number;
}

/** What bench/serving/shapeClient.ts exports. */
interface ShapeClientModule {
  openShapeClient(options: {
    device: 'auto' | 'cuda' | 'webgpu' | 'cpu';
    shape: string;
    layers?: number;
    maxBatchTokens?: number;
    maxRequests?: number;
    kvMemoryBytes?: number;
    maxModelLen?: number;
    pageSize?: number;
    storage?: 'auto' | 'f32' | 'f16' | 'bf16';
  }): Promise<MeasuredClient & { dispose(): Promise<void> }>;
}

/** What bench/serving/requestTrace.ts exports. */
interface RequestTraceModule {
  saveRequestTrace(options: {
    file: string;
    device: { kind: string; name: string };
    command: string;
    requests: readonly RequestTimes[];
    print: (line: string) => void;
  }): Promise<void>;
}

/** What bench/serving/simulate.ts exports. */
interface SimulateModule {
  runSimulateBench(options: {
    what: 'throughput' | 'latency';
    gpu: string;
    model: string;
    workload: string;
    requests: number;
    rate?: number;
    seed: number;
    maxBatchTokens?: number;
    trace?: string;
    print: (line: string) => void;
  }): Promise<BenchResult & { unit: string }>;
}

export function throughputCommand(): Command {
  return serving('throughput', 'tokens per second of N streams at the same time', {
    streams: '1,4,16',
    prompt: '32',
    output: 128,
  });
}

export function latencyCommand(): Command {
  return serving('latency', 'time to first token and between tokens, by length of the prompt', {
    streams: '1',
    prompt: '16,128,512',
    output: 64,
  });
}

function serving(
  name: 'throughput' | 'latency',
  description: string,
  defaults: { streams: string; prompt: string; output: number },
): Command {
  const streams = integers(1, 4096);
  const lengths = integers(1);
  const command = new Command(name)
    .description(description)
    .option('--streams <list>', 'requests at the same time', streams, streams(defaults.streams))
    .option(
      '--prompt-tokens <list>',
      'lengths of the prompts (random tokens)',
      lengths,
      lengths(defaults.prompt),
    )
    .option('--output-tokens <n>', 'tokens of each answer', integer(2), defaults.output)
    .option('--runs <n>', 'measured runs; figures are medians', integer(1, 1000), 3)
    .option('--layers <n>', 'published shapes: as many layers as this', integer(1, 1000))
    .option('--workload <in:out|file>', 'lengths of prompts and answers; sim also takes a trace (CSV)')
    .option('--requests <n>', 'sim: requests of the workload', integer(1), 2000)
    .option(
      '--rate <n>',
      'sim: requests a second arrive at random (default: all wait at the start)',
      decimal(0, 1e6),
    )
    .option('--seed <n>', 'sim: of arrivals', integer(0), 1);
  addGpuOption(addEngineOptions(command, ['auto', 'cuda', 'webgpu', 'cpu', 'sim']));
  return addRecordOptions(command).action((flags: ServingFlags) => benchServing(name, flags));
}

async function benchServing(name: 'throughput' | 'latency', flags: ServingFlags): Promise<void> {
  const { device, gpu } = resolveTarget(flags);
  if (device === 'sim') return simulate(name, flags, gpu!);
  if (flags.workload !== undefined) flags = { ...flags, ...constantLengths(flags.workload) };
  // Models of the hub have a slash in their names, directories exist.
  const shape =
    flags.model !== undefined && !/[\\/]/.test(flags.model) && !existsSync(flags.model)
      ? flags.model
      : undefined;
  const client =
    shape === undefined ? (await loadModel({ ...flags, device })).client : await openShape(shape, flags);
  try {
    const { info } = client;
    for (const text of describeEngine(info)) line(text);
    const loads = flags.promptTokens.flatMap((promptTokens) =>
      flags.streams.map((streams): Load => ({ streams, promptTokens, outputTokens: flags.outputTokens })),
    );
    const longest = Math.max(...flags.promptTokens) + flags.outputTokens;
    if (longest > info.model.maxModelLen)
      throw new CliError(
        `prompt and answer of ${longest} tokens do not fit in the model's ${info.model.maxModelLen}: lower --prompt-tokens or --output-tokens`,
      );
    const rows: Figures[] = [];
    let requests: readonly RequestTimes[] = [];
    for (const load of loads) {
      process.stderr.write(`${load.streams} x ${load.promptTokens}/${load.outputTokens} tokens ...\n`);
      const figures = await measure(client, load, flags.runs);
      rows.push(figures.figures);
      requests = figures.requests;
    }
    process.stdout.write(`\n${formatFigures(rows)}`);
    const unit = 'rates in output tokens per second, times in ms, medians of the runs';
    if (flags.trace !== undefined) {
      const { saveRequestTrace } = await loadBench<RequestTraceModule>('serving/requestTrace.ts');
      const command = `nanoflow ${process.argv.slice(2).join(' ')}`;
      await saveRequestTrace({ file: flags.trace, device: info.device, command, requests, print: line });
    }
    await saveRecord(flags, name, info.device, { unit, engine: info, rows });
  } finally {
    await client.dispose();
  }
}

function constantLengths(workload: string): { promptTokens: number[]; outputTokens: number } {
  const [, prompt, output] = /^(\d+):(\d+)$/.exec(workload) ?? [];
  if (Number(prompt) >= 1 && Number(output) >= 2)
    return { promptTokens: [Number(prompt)], outputTokens: Number(output) };
  throw new CliError(
    `--workload ${workload} is not prompt:answer in tokens (512:512); traces are for the simulator: add --gpu`,
  );
}

async function openShape(
  shape: string,
  flags: ServingFlags,
): ReturnType<ShapeClientModule['openShapeClient']> {
  const { openShapeClient } = await loadBench<ShapeClientModule>('serving/shapeClient.ts');
  const device = flags.device as 'auto' | 'cuda' | 'webgpu' | 'cpu';
  return runBench(() =>
    openShapeClient({
      ...flags,
      device,
      shape,
      kvMemoryBytes: flags.kvMemory,
      // A shape's own context would ask for more KV memory than the load can use.
      maxModelLen: flags.maxModelLen ?? Math.max(...flags.promptTokens) + flags.outputTokens,
      maxRequests: flags.maxRequests ?? Math.max(...flags.streams),
    }),
  );
}

async function simulate(what: 'throughput' | 'latency', flags: ServingFlags, gpu: string): Promise<void> {
  const { runSimulateBench } = await loadBench<SimulateModule>('serving/simulate.ts');
  const model = flags.model ?? 'llama-2-70b';
  const { device, ...figures } = await runBench(() =>
    runSimulateBench({ ...flags, what, gpu, model, workload: flags.workload ?? '512:512', print: line }),
  );
  await saveRecord(flags, `${what}-${model}`, device, figures);
}

function formatFigures(rows: Figures[]): string {
  const head = [
    'streams',
    'prompt',
    'output',
    'total tok/s',
    'per stream',
    'TTFT p50 ms',
    'p99',
    'ITL p50 ms',
    'p99',
  ];
  const round = (value: number, digits: number) => Number(value.toFixed(digits));
  return formatTable(
    head,
    rows.map((row) => [
      row.streams,
      row.promptTokens,
      row.outputTokens,
      round(row.totalRate, 1),
      round(row.streamRate, 1),
      round(row.firstTokenP50, 1),
      round(row.firstTokenP99, 1),
      round(row.gapP50, 2),
      round(row.gapP99, 2),
    ]),
  );
}
