/** The engine's steps (EngineOptions.onStep) on the host's tracks: planning, waiting, delivering, and the batch's size. */
import type { StepInfo } from '../loop/flight.ts';
import type { TraceBuilder } from './builder.ts';

/** Times are milliseconds of one clock. `zeroMs`: what the trace calls 0; default: the first step's start. */
export function recordSteps(
  builder: TraceBuilder,
  steps: readonly StepInfo[],
  zeroMs: number = Math.min(...steps.map(({ startedAt }) => startedAt)),
): void {
  const host = builder.track('device', 'host');
  const launch = builder.track('cpu', 'plan and launch', host);
  const flight = builder.track('cpu', 'on the device', host); // steps in flight overlap in the overlapped loop
  const deliver = builder.track('cpu', 'deliver', host);
  const tokens = builder.track('counter', 'tokens of the batch', host);
  const decode = builder.track('counter', 'decode tokens of the batch', host);
  const at = (ms: number): number => (ms - zeroMs) * 1e6;
  for (const step of steps) {
    const iter = step.index;
    const planned = builder.span({
      track: launch,
      name: 'plan and launch',
      cls: 'host',
      iter,
      start: at(step.startedAt),
      end: at(step.launchedAt),
    });
    const ran = builder.span({
      track: flight,
      name: 'step',
      cls: 'wait',
      iter,
      start: at(step.launchedAt),
      end: at(step.collectedAt),
    });
    const delivered = builder.span({
      track: deliver,
      name: 'deliver',
      cls: 'host',
      iter,
      start: at(step.collectedAt),
      end: at(step.deliveredAt),
    });
    builder.flow(planned, ran, 'dep');
    builder.flow(ran, delivered, 'token');
    builder.counter(tokens, at(step.startedAt), step.tokens);
    builder.counter(decode, at(step.startedAt), step.decodeTokens);
  }
}
