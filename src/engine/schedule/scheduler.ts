/**
 * Which tokens run in the next step. Continuous batching: a dense batch of up to B tokens, decode tokens first (one a
 * request), prefill chunks fill the rest; requests join and leave at any step (NanoFlow, section 4.2; Sarathi-Serve).
 *
 * A step may be planned while the one before runs: a request whose newest token is still on the device is scheduled
 * with the row that samples it (Request.ready says when that is possible).
 *
 * KV pages are taken as they are needed; a request is admitted when the predicted peak of page use leaves room for it
 * (admission.ts). When pages run out anyway, the request that came last is preempted: its pages are freed and it waits
 * at the head of the queue until it can be computed again. Freed pages may be handed out while a step that writes them
 * is in flight: steps run in order on the device, so whoever gets a page writes it after that, and reads only what it
 * has written itself. Knows nothing of devices and text.
 */
import type { PagePool } from '../kv/pages.ts';
import { Forecast, OutputLength } from './admission.ts';
import type { Request, RequestState } from './request.ts';

/** A run of consecutive tokens of one request in the dense batch. */
export interface Segment {
  request: Request;
  start: number; // first token, counted in the request
  count: number;
  /** The last token's logits are wanted: it is the newest token of the request. */
  sample: boolean;
  /**
   * The newest token is still on the device: it is row `fromSampled` of the step before (the overlapped loop). It is
   * then the only token of the segment.
   */
  fromSampled?: number;
}

export interface DenseBatch {
  segments: Segment[]; // in order of rows
  tokens: number;
  samples: number;
  adjustments: number; // upper bound of the logit adjustments of its samples
}

export interface SchedulerLimits {
  maxBatchTokens: number;
  maxRequests: number;
  /** Room for logit adjustments in the step metadata; a request that does not fit waits for a later step. */
  maxAdjustments: number;
  /** Mean output length that admission expects before requests have ended (admission.ts). */
  expectedOutput?: number;
}

export class Scheduler {
  preemptions = 0;
  /** Tokens of the requests that wait. */
  waitingTokens = 0;
  readonly #pool: PagePool;
  readonly #limits: SchedulerLimits;
  // Requests that left stay in the lists until somebody looks: removing many costs one pass.
  #waiting: Request[] = [];
  #running: Request[] = [];
  #leftWaiting = 0;
  #leftRunning = 0;
  readonly #outputLength: OutputLength;
  readonly #forecast: Forecast;

  constructor(pool: PagePool, limits: SchedulerLimits) {
    this.#pool = pool;
    this.#limits = limits;
    this.#outputLength = new OutputLength(limits.expectedOutput);
    this.#forecast = new Forecast(pool.pageSize);
  }

  get waiting(): readonly Request[] {
    return this.#waitingList();
  }

  /** In order of admission. */
  get running(): readonly Request[] {
    return this.#runningList();
  }

  enqueue(request: Request): void {
    this.#waiting.push(request);
    this.waitingTokens += request.tokens.length;
  }

  /** Forms the next dense batch; undefined when there is nothing to run (now: requests may wait for their token). */
  next(): DenseBatch | undefined {
    const batch: DenseBatch = { segments: [], tokens: 0, samples: 0, adjustments: 0 };
    const running = this.#runningList();
    // Decode first: nobody who already streams waits for somebody else's prompt. Preemption removes requests from the
    // tail of the list while the loop walks it, so it goes by index.
    for (let i = 0; i < running.length; i++) {
      if (running[i].pending === 1) this.#take(batch, running[i], 1);
    }
    for (let i = 0; i < running.length; i++) {
      if (running[i].pending > 1) this.#take(batch, running[i], this.#room(batch));
    }
    this.#admit(batch);
    return batch.tokens > 0 ? batch : undefined;
  }

  /**
   * Takes a request out of every list and frees its pages. 'finishing': its last step is launched, the end follows.
   * No effect on one that has left before, but for its state.
   */
  remove(request: Request, state: Extract<RequestState, 'finishing' | 'ended'> = 'ended'): void {
    if (request.state === 'waiting') {
      this.#leftWaiting++;
      this.waitingTokens -= request.tokens.length;
    } else if (request.state === 'running') {
      this.#leftRunning++;
      if (request.outputLength > 0) this.#outputLength.learn(request.outputLength);
    }
    request.state = state;
    this.#pool.release(request.pages);
    request.computed = 0;
  }

  #waitingList(): Request[] {
    if (this.#leftWaiting > 0) {
      this.#waiting = this.#waiting.filter(({ state }) => state === 'waiting');
      this.#leftWaiting = 0;
    }
    return this.#waiting;
  }

  #runningList(): Request[] {
    if (this.#leftRunning > 0) {
      this.#running = this.#running.filter(({ state }) => state === 'running');
      this.#leftRunning = 0;
    }
    return this.#running;
  }

  #room(batch: DenseBatch): number {
    return this.#limits.maxBatchTokens - batch.tokens;
  }

  /** Lets requests in, first come first served, as long as tokens, pages and the forecast leave room. */
  #admit(batch: DenseBatch): void {
    const waiting = this.#waitingList();
    const running = this.#running;
    let forecast: Forecast | undefined;
    while (waiting.length > 0 && running.length < this.#limits.maxRequests && this.#room(batch) > 0) {
      const request = waiting[0];
      if (!request.ready) return;
      // Who is alone gets all pages: every accepted request fits into the pool.
      if (running.length > 0) {
        const count = Math.min(request.pending, this.#room(batch));
        if (this.#pool.missing(request.pages, count) > this.#pool.free) return;
        const { mean } = this.#outputLength;
        if (!forecast) {
          forecast = this.#forecast;
          forecast.reset(running, mean);
        }
        if (forecast.peakWith(request, mean) > this.#pool.total) return;
        forecast.add(request, mean);
      }
      waiting.shift();
      this.waitingTokens -= request.tokens.length;
      running.push(request);
      request.state = 'running';
      this.#take(batch, request, this.#room(batch));
    }
  }

  /** Adds up to `most` tokens of a running request; preempts later ones when pages are short. */
  #take(batch: DenseBatch, request: Request, most: number): void {
    const count = Math.min(most, request.pending, this.#room(batch));
    if (count <= 0 || !request.ready) return;
    const end = request.computed + count;
    const sample = end === request.tokens.length;
    const adjustments = sample ? request.adjustments : 0;
    if (batch.adjustments + adjustments > this.#limits.maxAdjustments) return;
    while (this.#pool.missing(request.pages, end) > this.#pool.free) {
      const victim = this.#running.at(-1)!;
      this.#preempt(victim, batch);
      if (victim === request) return;
    }
    this.#pool.grow(request.pages, end);
    const segment: Segment = { request, start: request.computed, count, sample };
    if (request.known < end) segment.fromSampled = request.sampledRow;
    batch.segments.push(segment);
    batch.tokens += count;
    batch.adjustments += adjustments;
    if (sample) batch.samples++;
  }

  #preempt(victim: Request, batch: DenseBatch): void {
    this.preemptions++;
    this.#running.pop();
    const at = batch.segments.findLastIndex((segment) => segment.request === victim);
    if (at >= 0) {
      const [segment] = batch.segments.splice(at, 1);
      batch.tokens -= segment.count;
      if (segment.sample) {
        batch.samples--;
        batch.adjustments -= victim.adjustments;
      }
    }
    this.#pool.release(victim.pages);
    victim.computed = 0;
    victim.state = 'waiting';
    this.#waitingList().unshift(victim);
    this.waitingTokens += victim.tokens.length;
  }
}
