/**
 * `nanoflow bench offline`: total throughput (prompt and output tokens) of a model of a published shape with random
 * weights, with as many requests as memory allows, in the steady state: a queue that is never empty.
 *
 * The first requests come at the pace of the steady state: as many in each step as end in one later. So when the first
 * of them ends, as many run as ever will, spread evenly over their answers, and nothing has to settle. (A queue that is
 * full from the start makes waves: many prompts, then many ends, for thousands of steps.) Tokens are counted from then
 * on, until as many requests have ended as run at a time: each place has then served one request, so that prompt and
 * output tokens stand in the ratio of the workload.
 */
import { parseModelConfig } from '../../src/engine/model/config.ts';
import { readJson } from '../../src/engine/model/modelFiles.ts';
import { weightElements } from '../../src/engine/model/weightsPlan.ts';
import { ModelRunner, type BatchRunner } from '../../src/engine/model/runner.ts';
import { chooseSizes, type SizeOptions } from '../../src/engine/model/sizes.ts';
import type { Device } from '../../src/engine/device.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { inSequence, overlap, type OverlapOptions } from '../../src/engine/pipeline/presets.ts';
import { greedyRequest } from '../../src/engine/schedule/greedy.ts';
import { Random } from '../../src/engine/device/sim/random.ts';
import { openDevice } from '../kernels/index.ts';
import { usage } from './benchError.ts';
import { newEngine } from './engines.ts';
import { peakRate } from './peakRate.ts';
import { PowerMeter, type PowerReading } from './powerMeter.ts';
import { randomModelFiles } from './randomModel.ts';

export interface OfflineOptions extends SizeOptions {
  device: 'auto' | 'cuda' | 'webgpu' | 'cpu';
  shape: string;
  layers?: number;
  promptTokens: number;
  outputTokens: number;
  /** Least length of the measured window, and of what runs before it. */
  seconds: number;
  warmSeconds: number;
  /** Overlapped pipelines with decode attention on so many SMs (halves, in green contexts). */
  attentionSms?: readonly number[];
  /** Other overlapped pipelines to compare, each in a window of its own after the plain order. */
  overlaps?: readonly OverlapOptions[];
  /** The batch that they are made for: decode tokens, and prompt tokens beside them. Default that of the steady state. */
  mix?: { decode: number; prefill: number };
  print: (line: string) => void;
}

export interface OfflineRow {
  order: string; // "plain", or the pipeline's name
  tokensPerSecond: number; // prompt + output
  outputTokensPerSecond: number;
  requestsPerSecond: number;
  steps: number;
  stepMilliseconds: number; // mean
  meanBatchTokens: number;
  meanDecodeTokens: number;
  meanRunning: number;
  pagesUsed: number; // share of the pool, mean
  preemptions: number;
  /** Prompt tokens computed for each output token: that of the workload in a steady state. */
  promptsPerOutput: number;
  /** Where nvidia-smi tells. */
  power?: PowerReading;
  joulesPerToken?: number;
  /** tokensPerSecond over peak / (2 P), P being the parameters: NanoFlow's definition of the optimum. */
  shareOfOptimum?: number;
}

export interface OfflineBench {
  device: { kind: string; name: string };
  model: string;
  promptTokens: number;
  outputTokens: number;
  parameters: number;
  kvTokens: number;
  maxBatchTokens: number;
  peakTeraflops?: number;
  rows: OfflineRow[];
}

/** Requests that wait at any time. */
const QUEUE = 16;

export async function runOfflineBench(options: OfflineOptions): Promise<OfflineBench> {
  const { print, shape, promptTokens, outputTokens } = options;
  const files = usage(() => randomModelFiles(shape, options.layers));
  const config = parseModelConfig(await readJson(files, 'config.json'));
  const device = await openDevice(options.device);
  try {
    const peak = await peakRate(device);
    const sizes = usage(() =>
      chooseSizes(
        config,
        device.target,
        { ...options, maxModelLen: options.maxModelLen ?? promptTokens + outputTokens + 16 },
        device.deviceMemory?.(),
      ),
    );
    const begin = performance.now();
    const runner = await ModelRunner.load(device, config, files, sizes);
    await runner.compile();
    await runner.warmUp();
    const kvTokens = sizes.pages * sizes.pageSize;
    const parameters = weightElements(config);
    print(
      `${shape} on ${device.target.name}: ${(runner.weightBytes / 1e9).toFixed(2)} GB ${sizes.types.weights}, ` +
        `KV for ${kvTokens} tokens, batches of up to ${sizes.maxBatchTokens}, ready in ${((performance.now() - begin) / 1000).toFixed(1)} s` +
        (peak ? `; peak ${(peak / 1e12).toFixed(0)} TFLOP/s` : ''),
    );
    const rows: OfflineRow[] = [];
    for (const order of [undefined, ...overlapped(runner, options)]) {
      // Few decoding requests have nothing to hide, and few prompt tokens nothing to hide it behind.
      runner.usePipelines(
        order &&
          (({ tokens, decodeTokens }) =>
            decodeTokens >= 64 && tokens >= 1.5 * decodeTokens ? order : undefined),
      );
      const row = await measure(runner, order?.name ?? 'plain', device, options);
      if (peak) row.shareOfOptimum = row.tokensPerSecond / (peak / (2 * parameters));
      rows.push(row);
      print(formatRow(row, promptTokens, outputTokens));
    }
    return {
      device: { kind: device.target.kind, name: device.target.name },
      model: shape,
      promptTokens,
      outputTokens,
      parameters,
      kvTokens,
      maxBatchTokens: sizes.maxBatchTokens,
      peakTeraflops: peak && peak / 1e12,
      rows,
    };
  } finally {
    device.destroy();
  }
}

function overlapped(
  runner: ModelRunner,
  { overlaps = [], attentionSms = [], mix, promptTokens, outputTokens }: OfflineOptions,
): Pipeline[] {
  const wanted: OverlapOptions[] = [
    ...attentionSms.map((attentionShare): OverlapOptions => ({
      arrangement: 'halves',
      attentionShare,
      cut: 1,
      greenContexts: true,
      name: `halves, ${attentionShare} SMs`,
    })),
    ...overlaps,
  ];
  if (wanted.length === 0) return [];
  const tokens = runner.sizes.maxBatchTokens;
  const decode = Math.round((tokens * outputTokens) / (promptTokens + outputTokens));
  const rows = mix
    ? { tokens: mix.decode + mix.prefill, decodeTokens: mix.decode }
    : { tokens, decodeTokens: decode };
  const { defaultWorkgroups } = runner.device.target;
  const pipelines = wanted.map((choice) => overlap(runner.graph(), rows, defaultWorkgroups, choice));
  // What splitting alone costs: the same nano-batches with nothing side by side.
  return [...pipelines, { ...inSequence(pipelines[0]), name: 'in sequence' }];
}

function formatRow(row: OfflineRow, promptTokens: number, outputTokens: number): string {
  const share =
    row.shareOfOptimum === undefined ? '' : ` = ${(100 * row.shareOfOptimum).toFixed(1)} % of peak/2P`;
  return (
    `${row.order.padEnd(12)} ${promptTokens} in / ${outputTokens} out: ${row.tokensPerSecond.toFixed(0)} tok/s${share}, ` +
    `${row.requestsPerSecond.toFixed(1)} requests/s, step ${row.stepMilliseconds.toFixed(2)} ms of ${row.meanBatchTokens.toFixed(0)} tokens ` +
    `(${row.meanDecodeTokens.toFixed(0)} decode), ${row.meanRunning.toFixed(0)} running, ${(100 * row.pagesUsed).toFixed(0)} % of pages, ` +
    `${row.preemptions} preempted, ${row.promptsPerOutput.toFixed(2)} prompt tokens an output token` +
    (row.power
      ? `; ${row.power.watts.toFixed(0)} of ${row.power.limitWatts.toFixed(0)} W, ${row.power.megahertz} MHz, ${(1000 * row.joulesPerToken!).toFixed(1)} mJ a token`
      : '')
  );
}

interface StepRecord {
  at: number; // when its tokens had arrived
  tokens: number;
  decode: number;
  running: number;
  pages: number;
}

async function measure(
  runner: ModelRunner,
  order: string,
  device: Device,
  { promptTokens, outputTokens, seconds, warmSeconds }: OfflineOptions,
): Promise<OfflineRow> {
  const steps: StepRecord[] = [];
  const timed: BatchRunner = {
    config: runner.config,
    sizes: runner.sizes,
    maxAdjustments: runner.maxAdjustments,
    async launch(batch, endTokens) {
      const decode = batch.segments.filter(({ count, sample }) => count === 1 && sample).length;
      const { tokens } = batch;
      const step = await runner.launch(batch, endTokens);
      return {
        collect: async () => {
          const sampled = await step.collect();
          const { pool, scheduler } = engine;
          steps.push({
            at: performance.now(),
            tokens,
            decode,
            running: scheduler.running.length,
            pages: 1 - pool.free / pool.total,
          });
          return sampled;
        },
      };
    },
  };
  const engine = newEngine(timed, { expectedOutput: outputTokens });
  const random = new Random(7);
  let next = 0;
  let ended = 0;
  const submit = (): void => {
    const { vocabSize } = runner.config;
    const prompt = Array.from({ length: promptTokens }, () => random.below(vocabSize));
    engine.submit(greedyRequest(`${order} ${next++}`, prompt, outputTokens));
  };
  // In the steady state a batch has prompt and output tokens in the ratio of the workload, or memory ends before that:
  // each request holds its prompt and half of its answer on average.
  const perRequest = (promptTokens + outputTokens / 2) / runner.sizes.pageSize;
  const inMemory = Math.floor((0.97 * runner.sizes.pages) / perRequest);
  const inBatch = Math.ceil((runner.sizes.maxBatchTokens * outputTokens) / (promptTokens + outputTokens));
  const places = Math.max(1, Math.min(runner.sizes.maxRequests, inMemory, inBatch));

  let windowStart: number | undefined;
  let warmFrom: number | undefined;
  let endedBefore = 0;
  let preemptedBefore = 0;
  const meter = new PowerMeter();
  let power: PowerReading | undefined;
  try {
    for (let step = 1; ; step++) {
      // A place takes a request, and so the engine a step, as often as it will when they end one after the other.
      const due = Math.ceil((step * places) / outputTokens);
      const wanted = due <= places ? due - next : QUEUE - engine.scheduler.waiting.length;
      for (let i = 0; i < wanted; i++) submit();
      for (const event of await engine.step()) {
        if (event.type === 'error') throw new Error(event.error.message);
        if (event.type === 'end') ended++;
      }
      const now = performance.now();
      if (warmFrom === undefined && ended > 0) warmFrom = now;
      if (windowStart === undefined && warmFrom !== undefined && now - warmFrom > warmSeconds * 1000) {
        windowStart = steps.at(-1)!.at;
        endedBefore = ended;
        meter.restart();
        preemptedBefore = engine.scheduler.preemptions;
      }
      if (windowStart !== undefined && now - windowStart > seconds * 1000 && ended - endedBefore >= places)
        break;
    }
    power = meter.read();
  } finally {
    meter.stop();
  }
  const measuredSteps = steps.length; // what is aborted below does not count
  const requestsEnded = ended - endedBefore;
  const preemptions = engine.scheduler.preemptions - preemptedBefore;
  for (const { id } of [...engine.scheduler.running, ...engine.scheduler.waiting]) engine.abort(id);
  while (engine.hasWork) await engine.step();
  await device.idle();

  const window = steps.slice(0, measuredSteps).filter(({ at }) => at > windowStart!);
  const span = (window.at(-1)!.at - windowStart) / 1000;
  const mean = (of: (step: StepRecord) => number): number =>
    window.reduce((sum, step) => sum + of(step), 0) / window.length;
  const tokens = mean((step) => step.tokens) * window.length;
  return {
    order,
    tokensPerSecond: tokens / span,
    outputTokensPerSecond: (mean((step) => step.decode) * window.length) / span,
    requestsPerSecond: requestsEnded / span,
    steps: window.length,
    stepMilliseconds: (span * 1000) / window.length,
    meanBatchTokens: mean((step) => step.tokens),
    meanDecodeTokens: mean((step) => step.decode),
    meanRunning: mean((step) => step.running),
    pagesUsed: mean((step) => step.pages),
    preemptions,
    ...(power && { power, joulesPerToken: (power.watts * span) / tokens }),
    promptsPerOutput: mean((step) => step.tokens - step.decode) / mean((step) => step.decode),
  };
}
