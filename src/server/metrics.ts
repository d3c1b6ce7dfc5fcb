/**
 * GET /metrics in Prometheus' text format, with vLLM's metric names and meanings, so that its dashboards, load balancers
 * and benchmark clients work unchanged. Gauges and counters are the engine's own (EngineClient.stats()); histograms are
 * filled from the events of each request.
 */
import type { FastifyInstance } from 'fastify';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { EngineInfo, EngineStats, RequestErrorCode } from '../protocol.ts';
import type { EngineClient, GenerationEvent } from '../worker/types.ts';

const latencyBuckets = [
  0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
];
const firstTokenBuckets = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
];
const tokenBuckets = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20,
  40, 80,
];
const iterationBuckets = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

/** 1, 2, 5, 10, 20, 50... up to `max`. */
function steps125(max: number): number[] {
  const steps: number[] = [];
  for (let scale = 1; scale <= max; scale *= 10) steps.push(scale, 2 * scale, 5 * scale);
  return steps.filter((step) => step <= max);
}

/** Watches one engine request from its submission to its end. */
export interface RequestMeter {
  observe(event: GenerationEvent): void;
}

export class Metrics {
  readonly registry = new Registry();
  #client: EngineClient;
  #apply: (stats: EngineStats) => void;
  #rejections: Counter<'reason'>;
  #histograms: ReturnType<typeof makeHistograms>;

  constructor(client: EngineClient, options: { processMetrics?: boolean } = {}) {
    this.#client = client;
    this.registry.setDefaultLabels({ model_name: client.info.model.name, engine: '0' });
    this.#apply = makeEngineMetrics(this.registry, client.info);
    this.#histograms = makeHistograms(this.registry, client.info);
    this.#rejections = new Counter({
      name: 'vllm:admission_rejections_total',
      help: 'Requests that the engine refused to take, by reason.',
      labelNames: ['reason'],
      registers: [this.registry],
    });
    if (options.processMetrics) collectDefaultMetrics({ register: this.registry });
  }

  /**
   * The engine's state, for all who ask in this server: each answer also carries the steps since the last one, which
   * belong in a histogram whoever asked.
   */
  async stats(timeoutMs?: number): Promise<EngineStats> {
    const stats = await this.#client.stats(timeoutMs);
    for (const tokens of stats.iterationTokens) this.#histograms.iteration.observe(tokens);
    return stats;
  }

  async text(): Promise<string> {
    this.#apply(await this.stats());
    return this.registry.metrics();
  }

  rejected(reason: RequestErrorCode): void {
    this.#rejections.inc({ reason });
  }

  request(): RequestMeter {
    const { interToken, ...ofRequest } = this.#histograms;
    let lastTokens: number | undefined;
    return {
      observe(event) {
        if (event.type === 'end') return observeEnd(ofRequest, event);
        const now = performance.now();
        const count = event.tokenIds.length;
        if (count === 0) return;
        const gap = lastTokens === undefined ? 0 : (now - lastTokens) / 1000 / count;
        for (let i = lastTokens === undefined ? 1 : 0; i < count; i++) interToken.observe(gap);
        lastTokens = now;
      },
    };
  }
}

/** @returns sets the gauges and counters to what the engine says */
function makeEngineMetrics(registry: Registry, info: EngineInfo): (stats: EngineStats) => void {
  const registers = [registry];
  const gauge = (name: string, help: string) => new Gauge({ name: `vllm:${name}`, help, registers });
  const counter = (name: string, help: string) => new Counter({ name: `vllm:${name}`, help, registers });

  const running = gauge('num_requests_running', 'Requests in the dense batches.');
  const waiting = gauge('num_requests_waiting', 'Requests that wait for KV pages or a place in the batch.');
  const kvUsage = gauge('kv_cache_usage_perc', 'Used part of the KV cache; 1 means 100 percent.');
  const promptTokens = counter('prompt_tokens_total', 'Prefill tokens processed.');
  const generationTokens = counter('generation_tokens_total', 'Tokens generated.');
  const preemptions = counter('num_preemptions_total', 'Preemptions by the scheduler.');
  const finished = new Counter({
    name: 'vllm:request_success_total',
    help: 'Requests that ended, by reason.',
    labelNames: ['finished_reason'],
    registers,
  });
  new Gauge({
    name: 'vllm:cache_config_info',
    help: 'KV cache: tokens of a page (block) and number of pages.',
    labelNames: ['block_size', 'num_gpu_blocks'],
    registers,
  }).set({ block_size: info.kv.pageSize, num_gpu_blocks: info.kv.pages }, 1);

  const setCounter = (metric: Counter, value: number) => {
    metric.reset();
    metric.inc(value);
  };
  return (stats) => {
    running.set(stats.running);
    waiting.set(stats.waiting);
    kvUsage.set(stats.kvPagesTotal === 0 ? 0 : stats.kvPagesUsed / stats.kvPagesTotal);
    setCounter(promptTokens, stats.promptTokens);
    setCounter(generationTokens, stats.generationTokens);
    setCounter(preemptions, stats.preemptions);
    finished.reset();
    for (const [reason, count] of Object.entries(stats.requestsFinished))
      finished.inc({ finished_reason: reason }, count);
  };
}

function makeHistograms(registry: Registry, info: EngineInfo) {
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name: `vllm:${name}`, help, buckets, registers: [registry] });
  const lengths = steps125(info.model.maxModelLen);
  return {
    interToken: histogram(
      'inter_token_latency_seconds',
      'Time between tokens, as the server gets them.',
      tokenBuckets,
    ),
    firstToken: histogram('time_to_first_token_seconds', 'Submission to first token.', firstTokenBuckets),
    perToken: histogram(
      'request_time_per_output_token_seconds',
      'Decode time per token after the first.',
      tokenBuckets,
    ),
    total: histogram('e2e_request_latency_seconds', 'Submission to end.', latencyBuckets),
    queued: histogram('request_queue_time_seconds', 'Submission to first step.', latencyBuckets),
    prefill: histogram('request_prefill_time_seconds', 'First step to first token.', latencyBuckets),
    decode: histogram('request_decode_time_seconds', 'First token to end.', latencyBuckets),
    inference: histogram('request_inference_time_seconds', 'First step to end.', latencyBuckets),
    promptLength: histogram('request_prompt_tokens', 'Prompt tokens of a request.', lengths),
    outputLength: histogram('request_generation_tokens', 'Generated tokens of a request.', lengths),
    iteration: histogram('iteration_tokens_total', 'Tokens of an engine step.', iterationBuckets),
  };
}

type EndEvent = Extract<GenerationEvent, { type: 'end' }>;

/** Aborted requests are in the counters only: their times say when a client left, not how fast the engine is. */
function observeEnd(
  to: Omit<ReturnType<typeof makeHistograms>, 'interToken'>,
  { finishReason, usage, timings }: EndEvent,
): void {
  if (finishReason === 'abort') return;
  to.firstToken.observe(timings.timeToFirstToken);
  to.total.observe(timings.total);
  to.queued.observe(timings.queued);
  to.prefill.observe(timings.prefill);
  to.decode.observe(timings.decode);
  to.inference.observe(timings.prefill + timings.decode);
  to.promptLength.observe(usage.promptTokens);
  to.outputLength.observe(usage.completionTokens);
  if (usage.completionTokens > 1) to.perToken.observe(timings.decode / (usage.completionTokens - 1));
}

export function metricsRoutes(app: FastifyInstance, metrics: Metrics): void {
  app.get('/metrics', { config: { isOpenInDrain: true } }, async (_request, reply) => {
    const text = await metrics.text();
    return reply.type(metrics.registry.contentType).send(text);
  });
}
