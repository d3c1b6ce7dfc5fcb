/** When a request is over, and what is said of it then. */
import type { FinishReason, RequestEvent } from '../../protocol.ts';
import type { Request } from './request.ts';

/** Whether a request is over with `token`, its newest known one, and why. */
export function endOf(
  request: Request,
  token: number,
  endTokens: readonly number[],
): { reason: FinishReason; stopReason?: number } | undefined {
  const { stop } = request.ask;
  if (request.knownOutput >= stop.minTokens) {
    if (!stop.ignoreEos && endTokens.includes(token)) return { reason: 'stop' };
    if (stop.stopTokenIds.includes(token)) return { reason: 'stop', stopReason: token };
  }
  if (request.knownOutput >= request.maxTokens) return { reason: 'length' };
  return undefined;
}

/** The last event of a request that did not fail. `end`: now, on the engine's clock. */
export function endEvent(
  request: Request,
  finishReason: FinishReason,
  stopReason: string | number | undefined,
  end: number,
): RequestEvent {
  const { submitted, scheduled, firstToken, lastToken } = request.clock;
  const seconds = (from: number | undefined, to: number | undefined): number =>
    from === undefined || to === undefined ? 0 : (to - from) / 1000;
  return {
    type: 'end',
    id: request.id,
    finishReason,
    stopReason,
    usage: { promptTokens: request.promptLength, completionTokens: request.knownOutput },
    timings: {
      queued: seconds(submitted, scheduled ?? end),
      prefill: seconds(scheduled, firstToken),
      decode: seconds(firstToken, lastToken),
      timeToFirstToken: seconds(submitted, firstToken),
      total: seconds(submitted, end),
    },
  };
}
