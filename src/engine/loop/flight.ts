/** A step on its way: what the engine has to know of its batch when the tokens come. */
import type { LaunchedStep } from '../model/runner.ts';
import type { DenseBatch } from '../schedule/scheduler.ts';

export interface Flight {
  batch: DenseBatch;
  /** Missing when the launch failed with `error`. */
  step?: LaunchedStep;
  error?: unknown;
  startedAt: number; // milliseconds of the engine's clock
  launchedAt: number;
}

/** One step as EngineOptions.onStep gets it, after it was delivered. Times in milliseconds of the engine's clock. */
export interface StepInfo {
  index: number;
  tokens: number;
  /** Rows of one-token segments that sample: requests that already stream. */
  decodeTokens: number;
  samples: number;
  startedAt: number; // planning begins
  launchedAt: number; // it is enqueued
  collectedAt: number; // its tokens are here
  deliveredAt: number;
}

/**
 * Takes the requests of a launched batch one step further, before anything is known of its results: the next token of
 * each that samples is expected in its row.
 */
export function advance({ segments }: DenseBatch): void {
  let row = 0;
  for (const { request, count, sample } of segments) {
    request.computed += count;
    if (sample) request.expect(row++);
  }
}

export function decodeTokens({ segments }: DenseBatch): number {
  let count = 0;
  for (const segment of segments) {
    if (segment.count === 1 && segment.sample && segment.start >= segment.request.promptLength) count++;
  }
  return count;
}
