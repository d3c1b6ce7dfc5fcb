/**
 * A long run without text, tokens and threads: the engine's own Scheduler and page pool, steps priced by the model, on
 * virtual time. The loop is the engine's (engine.ts): plain, or overlapped, where a batch is formed while the one
 * before runs. Every request answers with as many tokens as it was given.
 */
import { PagePool } from '../../kv/pages.ts';
import { greedyRequest } from '../../schedule/greedy.ts';
import { Request } from '../../schedule/request.ts';
import { Scheduler, type DenseBatch } from '../../schedule/scheduler.ts';
import type { Arrival } from './arrivals.ts';
import { SimClock } from './clock.ts';
import { mixOf, type BatchMix } from './mix.ts';
import { PriceCache, type Pricer } from './priceCache.ts';
import { mix32 } from './random.ts';
import type { StepPrice } from './step.ts';
import { SIM_LANES } from './timeline.ts';

export interface TraceSizes {
  pages: number;
  pageSize: number;
  maxBatchTokens: number; // B
  maxRequests: number;
}

export interface TraceOptions {
  model: Pricer;
  arrivals: Iterable<Arrival>; // in order of time
  sizes: TraceSizes;
  /** Host time for each step: forming the batch, metadata, delivering tokens. */
  hostSeconds: number;
  /** Hides the host behind the device. Default true. */
  overlapped?: boolean;
  /** Steps before the steady figure begins; default: the end of the first quarter of the requests. */
  skipSteps?: number;
  /** Steps after which the run stops; requests that have not ended do not count. Default: none. */
  maxSteps?: number;
  /** Told about every step; seconds of virtual time. */
  onStep?: (step: SimulatedStep) => void;
  /** Called now and then with the number of requests that have ended. */
  progress?: (ended: number, seconds: number) => void;
}

export interface SimulatedStep {
  mix: BatchMix;
  price: StepPrice;
  start: number;
  end: number;
}

export interface Distribution {
  mean: number;
  p50: number;
  p90: number;
  p99: number;
}

/** Seconds and tokens; everything modelled. */
export interface TraceReport {
  requests: number;
  seconds: number; // of virtual time, first arrival to last token
  steps: number;
  tokensPerSecond: number; // prompt and output
  /**
   * Without filling and draining. With `skipSteps`: tokens of the requests that ended after them, over the time since.
   * Without: tokens that went through the model between the end of the first and of the last quarter of the requests;
   * what preempted requests repeat is taken off evenly.
   */
  steadyTokensPerSecond: number;
  meanBatchTokens: number;
  timeToFirstToken: Distribution;
  timePerOutputToken: Distribution; // of requests with two tokens or more
  normalizedLatency: Distribution; // (end - arrival) / output tokens
  deviceBusy: number;
  deviceIdle: number; // waiting for the host although there was work
  /** Time in which each lane ran something. */
  laneBusy: Record<string, number>;
  preemptions: number;
  pricedBatches: number;
  /** Of every request's end and time: equal for equal seeds. */
  hash: string;
}

/** Requests that wait inside the scheduler; the rest wait outside, in order, so that its lists stay short. */
const QUEUE = 4096;
const PROGRESS_STEPS = 4096;

/** @throws Error when a request can never fit into the KV pages */
export function simulateTrace(options: TraceOptions): TraceReport {
  const { sizes, hostSeconds, overlapped = true, skipSteps, maxSteps = Infinity } = options;
  const pool = new PagePool(sizes.pages, sizes.pageSize);
  const scheduler = new Scheduler(pool, { ...sizes, maxAdjustments: Number.MAX_SAFE_INTEGER });
  const prices = new PriceCache(options.model);
  const clock = new SimClock();
  const ledger = new Ledger();
  const laneBusy = SIM_LANES.map(() => 0);
  const arrivals = options.arrivals[Symbol.iterator]();
  let next = arrivals.next();
  let inFlight = -1; // end of the step that runs while the next one is formed
  let batchTokens = 0;
  while (clock.steps < maxSteps) {
    while (!next.done && next.value.time <= clock.host && scheduler.waiting.length < QUEUE) {
      scheduler.enqueue(ledger.open(next.value, sizes));
      next = arrivals.next();
    }
    const batch = scheduler.next();
    if (!batch) {
      if (inFlight >= 0) {
        clock.waitUntil(inFlight);
        inFlight = -1;
      } else if (next.done) break;
      else clock.waitForWork(next.value.time);
      continue;
    }
    const mix = mixOf(batch);
    const price = prices.price(mix);
    const end = clock.launch(hostSeconds, price.seconds);
    options.onStep?.({ mix, price, start: end - price.seconds, end });
    batchTokens += batch.tokens;
    for (let lane = 0; lane < laneBusy.length; lane++) laneBusy[lane] += price.busy[lane];
    ledger.computed = batchTokens;
    advance(batch, end, scheduler, ledger);
    if (clock.steps === skipSteps) ledger.steadyFrom(end);
    // Overlapped: the host comes back when the step before has ended, and forms the next batch while this one runs.
    clock.waitUntil(overlapped ? inFlight : end);
    inFlight = overlapped ? end : -1;
    if (clock.steps % PROGRESS_STEPS === 0) options.progress?.(ledger.ended, clock.host);
  }
  return {
    ...ledger.report(clock.deviceFree),
    steps: clock.steps,
    meanBatchTokens: batchTokens / Math.max(1, clock.steps),
    deviceBusy: clock.deviceBusy,
    deviceIdle: clock.deviceIdle,
    laneBusy: Object.fromEntries(SIM_LANES.map((lane, i) => [lane, laneBusy[i]])),
    preemptions: scheduler.preemptions,
    pricedBatches: prices.size,
  };
}

/** Takes every request of a launched batch one step further: lengths are known, so nothing waits for its tokens. */
function advance(batch: DenseBatch, end: number, scheduler: Scheduler, ledger: Ledger): void {
  for (const { request, count, sample } of batch.segments) {
    request.computed += count;
    if (!sample) continue;
    request.append(0);
    request.clock.firstToken ??= end;
    if (request.outputLength < request.maxTokens) continue;
    scheduler.remove(request);
    ledger.close(request, end);
  }
}

/** Requests as they come and go, and what is measured of them. */
class Ledger {
  ended = 0;
  /** Rows of all batches so far. */
  computed = 0;
  #opened = 0;
  #hash = 0x811c9dc5;
  #firstArrival = 0;
  readonly #prompts = new Map<number, number[]>();
  #steady: { index: number; time: number } | undefined;
  readonly #ends: number[] = [];
  readonly #computed: number[] = []; // at each end
  readonly #tokens: number[] = [];
  readonly #firstToken: number[] = [];
  readonly #perToken: number[] = [];
  readonly #normalized: number[] = [];

  open({ time, input, output }: Arrival, { pages, pageSize, maxBatchTokens }: TraceSizes): Request {
    if (Math.ceil((input + output) / pageSize) > pages || maxBatchTokens < 1) {
      throw new Error(
        `a request of ${input} + ${output} tokens never fits into ${pages} KV pages of ${pageSize}; take more memory or leave it out`,
      );
    }
    if (this.#opened === 0) this.#firstArrival = time;
    let prompt = this.#prompts.get(input);
    if (!prompt) this.#prompts.set(input, (prompt = Array.from({ length: input }, () => 0)));
    return new Request(greedyRequest(String(this.#opened++), prompt, output), [0, 0], output, time);
  }

  close(request: Request, end: number): void {
    const { submitted, firstToken } = request.clock;
    const output = request.outputLength;
    this.#ends.push(end);
    this.#computed.push(this.computed);
    this.#tokens.push(request.tokens.length);
    this.#firstToken.push(firstToken! - submitted);
    if (output > 1) this.#perToken.push((end - firstToken!) / (output - 1));
    this.#normalized.push((end - submitted) / output);
    // Bits of the time in nanoseconds, low and high.
    const nanoseconds = Math.round(end * 1e9);
    this.#hash = mix32(this.#hash ^ Number(request.id));
    this.#hash = mix32(this.#hash ^ (nanoseconds % 2 ** 32));
    this.#hash = mix32(this.#hash ^ Math.floor(nanoseconds / 2 ** 32));
    this.ended++;
  }

  steadyFrom(time: number): void {
    this.#steady = { index: this.ended, time };
  }

  report(end: number) {
    const count = this.ended;
    const sum = (from: number): number => this.#tokens.slice(from).reduce((total, each) => total + each, 0);
    const seconds = (this.#ends.at(-1) ?? 0) - this.#firstArrival;
    return {
      requests: count,
      seconds,
      tokensPerSecond: sum(0) / seconds,
      steadyTokensPerSecond: this.#steady
        ? sum(this.#steady.index) / (end - this.#steady.time)
        : this.#betweenQuarters(sum(0)),
      timeToFirstToken: distribution(this.#firstToken),
      timePerOutputToken: distribution(this.#perToken),
      normalizedLatency: distribution(this.#normalized),
      hash: this.#hash.toString(16).padStart(8, '0'),
    };
  }

  #betweenQuarters(tokens: number): number {
    const low = Math.floor(this.ended / 4);
    const high = Math.floor((3 * this.ended) / 4);
    // The last token of a request never goes through the model.
    const useful = (tokens - this.ended) / this.computed;
    return (useful * (this.#computed[high] - this.#computed[low])) / (this.#ends[high] - this.#ends[low]);
  }
}

function distribution(values: readonly number[]): Distribution {
  const sorted = Float64Array.from(values).sort();
  const at = (quantile: number): number =>
    sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.floor(quantile * sorted.length))];
  const mean = sorted.reduce((total, value) => total + value, 0) / Math.max(1, sorted.length);
  return { mean, p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}
