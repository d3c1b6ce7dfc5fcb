/**
 * The engine: requests in, events out. One step is admit, plan and launch, deliver; the caller (worker/host.ts) runs
 * steps as long as there is work. No DOM, no threads, no HTTP.
 *
 * Promises: every request that was accepted ends exactly once ('end' or 'error'); abort is legal in every state; what
 * one request gets never depends on its batch-mates; KV pages are conserved.
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
import type { BatchRunner, SampledToken } from './model/runner.ts';
import { checkRequest, type RequestLimits } from './schedule/check.ts';
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
    this.pool = new PagePool(sizes.pages, sizes.pageSize);
    this.scheduler = new Scheduler(this.pool, {
      maxBatchTokens: sizes.maxBatchTokens,
      maxRequests: sizes.maxRequests,
      maxAdjustments: runner.maxAdjustments,
    });
    this.#limits = {
      vocabSize: config.vocabSize,
      maxModelLen: Math.min(sizes.maxModelLen, sizes.pages * sizes.pageSize),
      maxAdjustments: runner.maxAdjustments,
    };
  }

  get hasWork(): boolean {
    return this.scheduler.running.length > 0 || this.scheduler.waiting.length > 0 || this.#events.length > 0;
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

  /** Ends a request at once, or as soon as the step that holds it is over. Unknown and ended ids are fine. */
  abort(id: string): void {
    const live = this.#live.get(id);
    if (!live) return;
    if (live.request.inFlight) live.request.endWith ??= 'abort';
    else this.#finish(live.request, 'abort');
  }

  /** One iteration. Resolves with the events it caused; an empty list when there was nothing to do. */
  async step(): Promise<RequestEvent[]> {
    const batch = this.#lost === undefined ? this.scheduler.next() : undefined;
    if (batch) {
      try {
        this.#hold(batch, true);
        const step = await this.#runner.launch(batch, this.#options.endTokens);
        this.#deliver(batch, await step.collect());
      } catch (error) {
        this.#fail(batch, error);
      } finally {
        this.#hold(batch, false);
      }
      if (this.#options.checkPages) this.checkPages();
    }
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
    for (const { request } of this.#live.values()) {
      if (!request.inFlight) this.#finish(request, error);
      else request.endWith = error;
    }
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
    const { waiting } = this.scheduler;
    const queued = waiting.reduce((sum, request) => sum + request.tokens.length, 0);
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

  #hold(batch: DenseBatch, inFlight: boolean): void {
    for (const { request } of batch.segments) {
      request.inFlight = inFlight;
      if (!inFlight && request.endWith !== undefined && request.state !== 'ended') {
        this.#finish(request, request.endWith);
      }
    }
  }

  /** Hands out what a step computed: advances every request, appends and emits its new token, retires those that end. */
  #deliver(batch: DenseBatch, sampled: SampledToken[]): void {
    const now = this.#now();
    this.#stats.steps++;
    this.#stats.iterationTokens.push(batch.tokens);
    if (this.#stats.iterationTokens.length > 10_000) this.#stats.iterationTokens.shift();
    let row = 0;
    for (const { request, count, sample } of batch.segments) {
      request.clock.scheduled ??= now;
      request.computed += count;
      const token = sample ? sampled[row++] : undefined;
      if (!token || request.endWith !== undefined) continue;
      if (request.outputLength === 0) this.#stats.promptTokens += request.promptLength;
      this.#stats.generationTokens++;
      request.clock.firstToken ??= now;
      request.clock.lastToken = now;
      request.append(token.token);
      try {
        this.#emit(request, token);
      } catch (error) {
        this.#finish(request, { code: 'internal', message: messageOf(error) });
      }
    }
  }

  #emit(request: Request, token: SampledToken): void {
    const { output } = this.#live.get(request.id)!;
    const ended = endOf(request, token.token, this.#options.endTokens);
    const { event, stopString } = output.take(token, {
      hidden: ended?.reason === 'stop',
      last: ended !== undefined,
      stopStringsAllowed: request.outputLength >= request.ask.stop.minTokens,
    });
    this.#events.push(event);
    if (stopString !== undefined) this.#finish(request, 'stop', stopString);
    else if (ended) this.#finish(request, ended.reason, ended.stopReason);
  }

  #finish(request: Request, how: FinishReason | RequestError, stopReason?: string | number): void {
    this.scheduler.remove(request);
    request.state = 'ended';
    this.#live.delete(request.id);
    const id = request.id;
    if (typeof how === 'object') {
      this.#stats.requestsFinished.error++;
      this.#events.push({ type: 'error', id, error: how });
      return;
    }
    this.#stats.requestsFinished[how]++;
    const { submitted, scheduled, firstToken, lastToken } = request.clock;
    const end = this.#now();
    const seconds = (from: number | undefined, to: number | undefined): number =>
      from === undefined || to === undefined ? 0 : (to - from) / 1000;
    this.#events.push({
      type: 'end',
      id,
      finishReason: how,
      stopReason,
      usage: { promptTokens: request.promptLength, completionTokens: request.outputLength },
      timings: {
        queued: seconds(submitted, scheduled ?? end),
        prefill: seconds(scheduled, firstToken),
        decode: seconds(firstToken, lastToken),
        timeToFirstToken: seconds(submitted, firstToken),
        total: seconds(submitted, end),
      },
    });
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

/** Whether a request is over with this token, and why. */
function endOf(
  request: Request,
  token: number,
  endTokens: readonly number[],
): { reason: FinishReason; stopReason?: number } | undefined {
  const { stop } = request.ask;
  if (request.outputLength >= stop.minTokens) {
    if (!stop.ignoreEos && endTokens.includes(token)) return { reason: 'stop' };
    if (stop.stopTokenIds.includes(token)) return { reason: 'stop', stopReason: token };
  }
  if (request.outputLength >= request.maxTokens) return { reason: 'length' };
  return undefined;
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
