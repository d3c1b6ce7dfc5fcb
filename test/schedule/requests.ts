/** Requests without an engine, for the scheduler's tests. */
import { Request } from '../../src/engine/schedule/request.ts';
import type { DenseBatch, Scheduler } from '../../src/engine/schedule/scheduler.ts';
import { ask } from '../engine/fakeRunner.ts';

export function newRequest(id: string, prompt: number, output: number): Request {
  return new Request(
    ask(
      id,
      Array.from({ length: prompt }, () => 1),
      { maxTokens: output },
    ),
    [0, 0],
    output,
    0,
  );
}

/** What the engine does with a batch, when every token is known at once and requests end at `lengths`. */
export function advanceKnown(
  { segments }: DenseBatch,
  scheduler: Scheduler,
  lengthOf: (request: Request) => number = ({ maxTokens }) => maxTokens,
): void {
  for (const { request, count, sample } of segments) {
    request.computed += count;
    if (!sample) continue;
    request.append(1);
    if (request.outputLength >= lengthOf(request)) scheduler.remove(request);
  }
}
