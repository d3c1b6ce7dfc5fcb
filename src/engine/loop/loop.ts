/**
 * The two orders in which a step is made of its parts. Plain: plan, launch, wait, deliver. Overlapped (NanoFlow,
 * section 4.2; reference: its serve.py): the next step is planned and launched while the one before runs, without its
 * tokens, which stay on the device; then the one before is delivered. What its tokens end (end-of-sequence, stop
 * strings) is seen while the next step runs, so such a request computes one token too many, which nobody gets.
 */
import type { DenseBatch } from '../schedule/scheduler.ts';
import type { Flight } from './flight.ts';

export type LoopKind = 'plain' | 'overlapped';

/** What a loop is made of; the engine has them. None of them throws for a step that fails. */
export interface StepParts {
  /** Admits requests and forms the next batch; undefined when nothing can run now. */
  plan(): DenseBatch | undefined;
  /** Enqueues the batch; resolves with the step on its way, or with the error that kept it back. */
  launch(batch: DenseBatch, startedAt: number): Promise<Flight>;
  /** Waits for the step and hands out its tokens; or ends its requests, when it has failed. */
  deliver(flight: Flight): Promise<void>;
  now(): number;
}

export interface Loop {
  /** A step is on its way, and another call of step() is needed to deliver it. */
  readonly inFlight: boolean;
  step(parts: StepParts): Promise<void>;
  /** Forgets the step on its way: the device is gone. */
  drop(): void;
}

export class PlainLoop implements Loop {
  readonly inFlight = false;

  async step(parts: StepParts): Promise<void> {
    const startedAt = parts.now();
    const batch = parts.plan();
    if (batch) await parts.deliver(await parts.launch(batch, startedAt));
  }

  drop(): void {}
}

export class OverlappedLoop implements Loop {
  #flight: Flight | undefined;

  get inFlight(): boolean {
    return this.#flight !== undefined;
  }

  async step(parts: StepParts): Promise<void> {
    const startedAt = parts.now();
    const batch = parts.plan();
    const next = batch && (await parts.launch(batch, startedAt));
    const before = this.#flight;
    this.#flight = next?.step && next;
    if (before) await parts.deliver(before);
    // One that never started: its requests get the token of the step before, then they end.
    if (next && !next.step) await parts.deliver(next);
  }

  drop(): void {
    this.#flight = undefined;
  }
}

export function createLoop(kind: LoopKind): Loop {
  return kind === 'plain' ? new PlainLoop() : new OverlappedLoop();
}
