/**
 * What the host does for one iteration, by batch size: the engine's own part (form the batch, take pages, advance the
 * requests, deliver their tokens) with a runner that does nothing, and beside it what a runner does on the host before
 * it submits: the step's metadata and its attention plan, for the shape of Llama-3-8B on 132 workgroups. In 'decode'
 * every request decodes all the time; in 'turnover' requests end after 1 to 400 tokens and new ones take their places.
 * The text is empty: what a tokenizer costs is not in it.
 */
import type { BatchRunner, LaunchedStep, SampledToken } from '../../src/engine/model/runner.ts';
import { attentionCapacity, planAttention } from '../../src/engine/plan/attention.ts';
import { writeBatch } from '../../src/engine/plan/batchMeta.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { GREEDY } from '../../src/engine/schedule/greedy.ts';
import { writeSampling } from '../../src/engine/schedule/sampling.ts';
import type { DenseBatch } from '../../src/engine/schedule/scheduler.ts';
import type { GenerateRequest } from '../../src/protocol.ts';
import { newEngine } from './engines.ts';

export interface HostTimeOptions {
  print: (line: string) => void;
  batches?: readonly number[]; // running requests
  steps?: number;
}

/** Milliseconds. */
interface HostTimeRow {
  load: 'decode' | 'turnover';
  requests: number;
  meanTokens: number; // of a batch
  engineMedian: number;
  engineP99: number;
  metadataMedian: number;
  planMedian: number;
}

const HEADS = { heads: 32, kvHeads: 8, headDim: 128 };
const WORKGROUPS = 132;
const PAGE = 16;
const PROMPT = 512;
/** Steps that are run before the clock counts, beside those that compute the prompts. */
const WARM_STEPS = 200;

export async function runHostTimeBench({
  print,
  batches = [64, 256, 512, 1024, 2048],
  steps = 1000,
}: HostTimeOptions): Promise<{
  device: { kind: string; name: string };
  unit: string;
  rows: HostTimeRow[];
}> {
  const rows: HostTimeRow[] = [];
  print('load      requests  tokens   engine      p99  metadata     plan');
  for (const load of ['decode', 'turnover'] as const) {
    for (const requests of batches) {
      const row = await measure(load, requests, steps);
      rows.push(row);
      const times = [row.engineMedian, row.engineP99, row.metadataMedian, row.planMedian];
      print(
        `${load.padEnd(8)}  ${String(requests).padStart(8)}  ${row.meanTokens.toFixed(0).padStart(6)}` +
          times.map((time) => `${time.toFixed(3).padStart(8)} `).join(''),
      );
    }
  }
  return { device: { kind: 'cpu', name: 'host' }, unit: 'milliseconds an iteration', rows };
}

async function measure(load: HostTimeRow['load'], requests: number, steps: number): Promise<HostTimeRow> {
  const runner = new HostRunner(requests, load === 'decode' ? steps : 0);
  const engine = newEngine(runner, { loop: 'overlapped' });
  let next = 0;
  const submit = (): void => {
    const maxTokens = load === 'decode' ? 1e6 : 1 + ((next * 7919) % 400);
    const result = engine.submit(request(`${next++}`, maxTokens));
    if (!result.accepted) throw new Error(result.error.message);
  };
  for (let i = 0; i < requests; i++) submit();
  // All prompts first.
  const prefill = Math.ceil((requests * PROMPT) / runner.sizes.maxBatchTokens) + 1;
  const times: number[] = [];
  for (let i = 0; i < prefill + WARM_STEPS + steps; i++) {
    if (i === prefill + WARM_STEPS) runner.startMeasuring();
    const begin = performance.now();
    const events = await engine.step();
    if (i >= prefill + WARM_STEPS) times.push(performance.now() - begin - runner.lastLaunch);
    for (const { type } of events) if (type === 'end') submit();
  }
  const { iterationTokens } = engine.stats();
  return {
    load,
    requests,
    meanTokens: iterationTokens.slice(-steps).reduce((a, b) => a + b, 0) / steps,
    engineMedian: quantile(times, 0.5),
    engineP99: quantile(times, 0.99),
    metadataMedian: quantile(runner.metadata, 0.5),
    planMedian: quantile(runner.plans, 0.5),
  };
}

/** Does on the host what ModelRunner does, and nothing else. */
class HostRunner implements BatchRunner {
  readonly config = { vocabSize: 128256 };
  readonly sizes: BatchRunner['sizes'];
  readonly maxAdjustments = 2 ** 18;
  /** Milliseconds of the last launch: the engine's own time is without it. */
  lastLaunch = 0;
  metadata: number[] = [];
  plans: number[] = [];
  readonly #layout;
  readonly #words;
  readonly #floats;
  readonly #sampled: SampledToken[];

  constructor(requests: number, output: number) {
    const maxModelLen = PROMPT + Math.max(output + WARM_STEPS + 1000, 1000);
    const pages = requests * Math.ceil(maxModelLen / PAGE);
    this.sizes = { pages, pageSize: PAGE, maxBatchTokens: 2048, maxRequests: requests, maxModelLen };
    const limits = { tokens: 2048, requests, workgroups: WORKGROUPS };
    this.#layout = stepMetaLayout({
      ...limits,
      pages,
      ...attentionCapacity({ ...limits, ...HEADS }),
      attentionWorkgroups: WORKGROUPS,
      adjustments: this.maxAdjustments,
    });
    this.#words = new Uint32Array(this.#layout.words);
    this.#floats = new Float32Array(this.#words.buffer);
    this.#sampled = Array.from({ length: requests }, (_, i) => ({ token: i, logprob: -1, rank: 0, top: [] }));
  }

  startMeasuring(): void {
    this.metadata = [];
    this.plans = [];
  }

  async launch(batch: DenseBatch, endTokens: readonly number[]): Promise<LaunchedStep> {
    const begin = performance.now();
    const words = this.#words;
    const requests = writeBatch(batch, PAGE, this.#layout, words, (_, position) => position);
    const sampled = batch.segments.filter(({ sample }) => sample).map((segment) => segment.request);
    writeSampling(sampled, endTokens, this.#layout, { u32: words, f32: this.#floats });
    const written = performance.now();
    planAttention(
      { requests, ...HEADS, pageSize: PAGE, workgroups: WORKGROUPS },
      this.#layout.attention[0],
      words,
    );
    const end = performance.now();
    this.metadata.push(written - begin);
    this.plans.push(end - written);
    this.lastLaunch = end - begin;
    return { collect: async () => this.#sampled };
  }
}

const prompt = Array.from({ length: PROMPT }, () => 1);

function request(id: string, maxTokens: number): GenerateRequest {
  return {
    id,
    promptTokenIds: prompt,
    sampling: { ...GREEDY, temperature: 1, seed: 1 },
    stop: { maxTokens, minTokens: 0, ignoreEos: false, stopStrings: [], stopTokenIds: [] },
  };
}

function quantile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
