/**
 * Which tokens run in the next step. Continuous batching: a dense batch of up to B tokens, decode tokens first (one a
 * request), prefill chunks fill the rest; requests join and leave at any step (NanoFlow, section 4.2; Sarathi-Serve).
 *
 * KV pages are taken as they are needed. When they run out, the request that came last is preempted: its pages are
 * freed and it waits at the head of the queue until it can be computed again. Knows nothing of devices and text.
 */
import type { PagePool } from '../kv/pages.ts';
import type { Request } from './request.ts';

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
}

export class Scheduler {
  readonly waiting: Request[] = [];
  readonly running: Request[] = []; // in order of admission
  preemptions = 0;
  readonly #pool: PagePool;
  readonly #limits: SchedulerLimits;

  constructor(pool: PagePool, limits: SchedulerLimits) {
    this.#pool = pool;
    this.#limits = limits;
  }

  enqueue(request: Request): void {
    this.waiting.push(request);
  }

  /** Forms the next dense batch; undefined when there is nothing to run. */
  next(): DenseBatch | undefined {
    const batch: DenseBatch = { segments: [], tokens: 0, samples: 0, adjustments: 0 };
    // Decode first: nobody who already streams waits for somebody else's prompt. Preemption removes requests from the
    // tail of `running` while the loop walks it, so it goes by index.
    for (let i = 0; i < this.running.length; i++) {
      if (this.running[i].pending === 1) this.#take(batch, this.running[i], 1);
    }
    for (let i = 0; i < this.running.length; i++) {
      if (this.running[i].pending > 1) this.#take(batch, this.running[i], this.#room(batch));
    }
    while (
      this.waiting.length > 0 &&
      this.running.length < this.#limits.maxRequests &&
      this.#room(batch) > 0
    ) {
      const request = this.waiting[0];
      const count = Math.min(request.pending, this.#room(batch));
      // Leave a page for each running request, or admission would preempt at the very next step.
      if (this.#pool.missing(request.pages, count) + this.running.length > this.#pool.free) break;
      this.waiting.shift();
      this.running.push(request);
      request.state = 'running';
      this.#take(batch, request, count);
    }
    if (batch.tokens === 0 && this.waiting.length > 0 && this.running.length === 0) this.#admitAlone(batch);
    return batch.tokens > 0 ? batch : undefined;
  }

  /** Takes a request out of every list and frees its pages. */
  remove(request: Request): void {
    for (const list of [this.waiting, this.running]) {
      const at = list.indexOf(request);
      if (at >= 0) list.splice(at, 1);
    }
    this.#pool.release(request.pages);
    request.computed = 0;
  }

  #room(batch: DenseBatch): number {
    return this.#limits.maxBatchTokens - batch.tokens;
  }

  /** Adds up to `most` tokens of a running request; preempts later ones when pages are short. */
  #take(batch: DenseBatch, request: Request, most: number): void {
    const count = Math.min(most, request.pending, this.#room(batch));
    if (count <= 0) return;
    const end = request.computed + count;
    const sample = end === request.tokens.length;
    const adjustments = sample ? request.adjustments : 0;
    if (batch.adjustments + adjustments > this.#limits.maxAdjustments) return;
    while (this.#pool.missing(request.pages, end) > this.#pool.free) {
      const victim = this.running.at(-1)!;
      this.#preempt(victim, batch);
      if (victim === request) return;
    }
    this.#pool.grow(request.pages, end);
    batch.segments.push({ request, start: request.computed, count, sample });
    batch.tokens += count;
    batch.adjustments += adjustments;
    if (sample) batch.samples++;
  }

  #preempt(victim: Request, batch: DenseBatch): void {
    this.preemptions++;
    this.running.pop();
    const at = batch.segments.findIndex((segment) => segment.request === victim);
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
    this.waiting.unshift(victim);
  }

  /** The pool is empty of others: the first waiting request gets what there is, without the reserve of next(). */
  #admitAlone(batch: DenseBatch): void {
    const request = this.waiting.shift()!;
    this.running.push(request);
    request.state = 'running';
    this.#take(batch, request, this.#room(batch));
  }
}
