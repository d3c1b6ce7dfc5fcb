/**
 * The engine: requests in, events out. One step is admit and plan, launch, deliver, in the order of its loop
 * (loop/loop.ts); the caller (worker/host.ts) runs steps as long as there is work. No DOM, no threads, no HTTP.
 *
 * Promises: every request that was accepted ends exactly once ('end' or 'error'); abort is legal in every state; what
 * one request gets never depends on its batch-mates, nor on the loop; KV pages are conserved. A request that ends while
 * steps with it are in flight is let go at once: their rows for it are ignored, and its pages may be handed out again
 * because the device runs steps in order (schedule/scheduler.ts).
 */
import type {
  EngineStats,
  FinishReason,
  GenerateRequest,
  RequestError,
  RequestEvent,
  SubmitResult,
} from '../protocol.ts';
import { DeviceLostError } from './device.ts';
import { PagePool } from './kv/pages.ts';
import { advance, decodeTokens, type Flight, type StepInfo } from './loop/flight.ts';
import { createLoop, type Loop, type LoopKind, type StepParts } from './loop/loop.ts';
import type { BatchRunner, SampledToken } from './model/runner.ts';
import { checkRequest, type RequestLimits } from './schedule/check.ts';
import { endEvent, endOf } from './schedule/ends.ts';
import { Output, type TextOutput } from './schedule/output.ts';
import { Request } from './schedule/request.ts';
import { Scheduler, type DenseBatch } from './schedule/scheduler.ts';

export interface EngineOptions {
  endTokens: readonly number[];
  maxQueuedRequests: number;
  maxQueuedTokens: number;
  /** Check page conservation after every step (test builds). */
  checkPages?: boolean;
  now?: () => number; // milliseconds, monotonic
  /** Mean output length that admission expects before requests have ended (schedule/admission.ts). */
  expectedOutput?: number;
  /** Default: overlapped. Both give the same text. */
  loop?: LoopKind;
  /** Told about every step that ran, when it was delivered. */
  onStep?: (info: StepInfo) => void;
}

export class Engine {
  readonly pool: PagePool;
  readonly scheduler: Scheduler;
  readonly #runner: BatchRunner;
  readonly #text: TextOutput;
  readonly #options: EngineOptions;
  readonly #limits: RequestLimits;
  readonly #live = new Map<string, { request: Request; output: Output }>();
  readonly #now: () => number;
  readonly #loop: Loop;
  readonly #parts: StepParts;
  /** While a runner reads the requests of a batch (launch), ends that are asked for wait here. */
  #launching = false;
  readonly #endings = new Map<Request, FinishReason | RequestError>();
  #events: RequestEvent[] = [];
  #lost: string | undefined;
  #stats = {
    steps: 0,
    promptTokens: 0,
    generationTokens: 0,
    requestsAccepted: 0,
    requestsFinished: { stop: 0, length: 0, abort: 0, error: 0 },
    iterationTokens: [] as number[],
  };

  constructor(runner: BatchRunner, text: TextOutput, options: EngineOptions) {
    const { sizes, config } = runner;
    this.#runner = runner;
    this.#text = text;
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#loop = createLoop(options.loop ?? 'overlapped');
    this.#parts = {
      plan: () => this.scheduler.next(),
      launch: (batch, startedAt) => this.#launch(batch, startedAt),
      deliver: (flight) => this.#deliver(flight),
      now: this.#now,
    };
    this.pool = new PagePool(sizes.pages, sizes.pageSize);
    this.scheduler = new Scheduler(this.pool, {
      maxBatchTokens: sizes.maxBatchTokens,
      maxRequests: sizes.maxRequests,
      maxAdjustments: runner.maxAdjustments,
      expectedOutput: options.expectedOutput,
    });
    this.#limits = {
      vocabSize: config.vocabSize,
      maxModelLen: Math.min(sizes.maxModelLen, sizes.pages * sizes.pageSize),
      maxAdjustments: runner.maxAdjustments,
    };
  }

  get hasWork(): boolean {
    return this.#live.size > 0 || this.#loop.inFlight || this.#events.length > 0;
  }

  /** Takes a request in, or says why not. Nothing of a refused request stays behind. */
  submit(ask: GenerateRequest): SubmitResult {
    const error = this.#refuse(ask) ?? checkRequest(ask, this.#limits);
    if (error) return { accepted: false, error };
    const maxTokens = Math.min(ask.stop.maxTokens, this.#limits.maxModelLen - ask.promptTokenIds.length);
    const request = new Request(ask, seedWords(ask.sampling.seed), maxTokens, this.#now());
    this.#live.set(ask.id, { request, output: new Output(ask, this.#text) });
    this.scheduler.enqueue(request);
    this.#stats.requestsAccepted++;
    return { accepted: true };
  }

  /** Ends a request at once, or as soon as the launch that holds it is over. Unknown and ended ids are fine. */
  abort(id: string): void {
    const live = this.#live.get(id);
    if (live) this.#endSoon(live.request, 'abort');
  }

  /**
   * One iteration. Resolves with the events it caused; an empty list when there was nothing to do, or when the first
   * step of the overlapped loop is on its way.
   */
  async step(): Promise<RequestEvent[]> {
    if (this.#lost === undefined) await this.#loop.step(this.#parts);
    if (this.#lost !== undefined) this.#loop.drop();
    if (this.#options.checkPages) this.checkPages();
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** @throws Error when a KV page was lost or has two holders. */
  checkPages(): void {
    this.pool.check([...this.#live.values()].map(({ request }) => request.pages));
  }

  /** The device is gone: every live request fails with `device_lost`, later ones are refused. */
  deviceLost(reason: string): void {
    this.#lost = reason;
    const error: RequestError = { code: 'device_lost', message: `the device was lost: ${reason}` };
    for (const { request } of this.#live.values()) this.#endSoon(request, error);
  }

  stats(): Omit<EngineStats, 'heartbeatAge' | 'state'> {
    const { iterationTokens, ...counters } = this.#stats;
    this.#stats.iterationTokens = [];
    return {
      ...counters,
      requestsFinished: { ...counters.requestsFinished },
      iterationTokens,
      running: this.scheduler.running.length,
      waiting: this.scheduler.waiting.length,
      kvPagesUsed: this.pool.used,
      kvPagesTotal: this.pool.total,
      preemptions: this.scheduler.preemptions,
    };
  }

  #refuse(ask: GenerateRequest): RequestError | undefined {
    if (this.#lost !== undefined) {
      return { code: 'not_ready', message: `the device was lost: ${this.#lost}` };
    }
    if (this.#live.has(ask.id)) {
      return { code: 'invalid', param: 'id', message: `request id '${ask.id}' is in use` };
    }
    const { waiting, waitingTokens: queued } = this.scheduler;
    const { maxQueuedRequests, maxQueuedTokens } = this.#options;
    if (waiting.length >= maxQueuedRequests || (waiting.length > 0 && queued >= maxQueuedTokens)) {
      return {
        code: 'queue_full',
        message: `the queue holds ${waiting.length} requests with ${queued} tokens; the limits are ${maxQueuedRequests} and ${maxQueuedTokens}`,
        retryAfterSeconds: Math.max(1, Math.ceil(waiting.length / 16)),
      };
    }
    return undefined;
  }

  /** Enqueues a batch. Whoever has then sampled all that it asked for leaves the scheduler; its pages are free. */
  async #launch(batch: DenseBatch, startedAt: number): Promise<Flight> {
    const flight: Flight = { batch, startedAt, launchedAt: startedAt };
    try {
      this.#launching = true;
      flight.step = await this.#runner.launch(batch, this.#options.endTokens);
      advance(batch);
      for (const { request } of batch.segments) {
        if (request.outputLength >= request.maxTokens) this.scheduler.remove(request, 'finishing');
      }
    } catch (error) {
      flight.error = error;
    } finally {
      this.#launching = false;
    }
    flight.launchedAt = this.#now();
    for (const [request, how] of this.#endings) this.#finish(request, how);
    this.#endings.clear();
    return flight;
  }

  /** Hands out what a step computed: reveals and emits the token of every request that sampled, retires who ends. */
  async #deliver(flight: Flight): Promise<void> {
    const { batch, step, error, startedAt, launchedAt } = flight;
    let sampled: SampledToken[];
    try {
      if (!step) throw error;
      sampled = await step.collect();
    } catch (failure) {
      this.#fail(batch, failure);
      return;
    }
    const collectedAt = this.#now();
    const index = this.#count(batch);
    let row = 0;
    for (const { request, sample } of batch.segments) {
      request.clock.scheduled ??= startedAt;
      if (!sample) continue;
      const token = sampled[row++];
      if (request.state !== 'ended') this.#take(request, token, collectedAt);
    }
    if (!this.#options.onStep) return;
    const { tokens, samples } = batch;
    const deliveredAt = this.#now();
    const times = { startedAt, launchedAt, collectedAt, deliveredAt };
    this.#options.onStep({ index, tokens, decodeTokens: decodeTokens(batch), samples, ...times });
  }

  /** @returns the step's index */
  #count({ tokens }: DenseBatch): number {
    this.#stats.iterationTokens.push(tokens);
    if (this.#stats.iterationTokens.length > 10_000) this.#stats.iterationTokens.shift();
    return this.#stats.steps++;
  }

  #take(request: Request, token: SampledToken, now: number): void {
    if (request.knownOutput === 0) this.#stats.promptTokens += request.promptLength;
    this.#stats.generationTokens++;
    request.clock.firstToken ??= now;
    request.clock.lastToken = now;
    request.reveal(token.token);
    try {
      this.#emit(request, token);
    } catch (error) {
      this.#finish(request, { code: 'internal', message: messageOf(error) });
    }
  }

  #emit(request: Request, token: SampledToken): void {
    const { output } = this.#live.get(request.id)!;
    const ended = endOf(request, token.token, this.#options.endTokens);
    const { event, stopString } = output.take(token, {
      hidden: ended?.reason === 'stop',
      last: ended !== undefined,
      stopStringsAllowed: request.knownOutput >= request.ask.stop.minTokens,
    });
    this.#events.push(event);
    if (stopString !== undefined) this.#finish(request, 'stop', stopString);
    else if (ended) this.#finish(request, ended.reason, ended.stopReason);
  }

  #endSoon(request: Request, how: FinishReason | RequestError): void {
    if (!this.#launching) this.#finish(request, how);
    else if (!this.#endings.has(request)) this.#endings.set(request, how);
  }

  #finish(request: Request, how: FinishReason | RequestError, stopReason?: string | number): void {
    this.scheduler.remove(request);
    this.#live.delete(request.id);
    if (typeof how === 'object') {
      this.#stats.requestsFinished.error++;
      this.#events.push({ type: 'error', id: request.id, error: how });
    } else {
      this.#stats.requestsFinished[how]++;
      this.#events.push(endEvent(request, how, stopReason, this.#now()));
    }
  }

  /** A step failed as a whole. A lost device ends everything; anything else ends the requests of the batch. */
  #fail(batch: DenseBatch, error: unknown): void {
    if (error instanceof DeviceLostError) {
      this.deviceLost(error.message);
      return;
    }
    for (const { request } of batch.segments) {
      if (request.state !== 'ended') this.#finish(request, { code: 'internal', message: messageOf(error) });
    }
  }
}

/** The generator's key. Without a seed of its own a request gets a random one. */
function seedWords(seed: number | undefined): [number, number] {
  if (seed === undefined) {
    const words = crypto.getRandomValues(new Uint32Array(2));
    return [words[0], words[1]];
  }
  const big = BigInt.asUintN(64, BigInt(seed));
  return [Number(big & 0xffffffffn), Number(big >> 32n)];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
