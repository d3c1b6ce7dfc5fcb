import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RequestEvent } from '../../src/protocol.ts';
import { RequestStream } from '../../src/worker/requestStream.ts';

const tokens = (n: number): RequestEvent => ({ type: 'tokens', id: 'x', text: `${n}`, tokenIds: [n] });
const end: RequestEvent = {
  type: 'end',
  id: 'x',
  finishReason: 'length',
  usage: { promptTokens: 1, completionTokens: 1 },
  timings: { queued: 0, prefill: 0, decode: 0, timeToFirstToken: 0, total: 0 },
};
const failure: RequestEvent = { type: 'error', id: 'x', error: { code: 'internal', message: 'broken' } };

describe('RequestStream', () => {
  it('hands every event to one reader, in order, for any interleaving of pushes and reads', async () => {
    const last = fc.constantFrom(end, failure);
    const schedule = fc.array(fc.constantFrom('push', 'read'), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(schedule, last, async (actions, finale) => {
        const stream = new RequestStream();
        const reads: Promise<unknown>[] = [];
        const read = (): void =>
          void reads.push(
            stream.next().then(
              ({ value }) => value,
              (error: Error) => error.message,
            ),
          );
        let pushed = 0;
        for (const action of actions) {
          if (action === 'push') stream.push(tokens(pushed++));
          else read();
        }
        stream.push(finale);
        stream.push(tokens(999)); // nothing follows an end
        stream.push(end);
        while (reads.length < pushed + 3) read();
        const expected: unknown[] = Array.from({ length: pushed }, (_, i) => tokens(i));
        expected.push(finale === end ? end : 'broken');
        const got = await Promise.all(reads);
        expect(got.slice(0, pushed + 1)).toEqual(expected);
        expect(got.slice(pushed + 1).every((value) => value === undefined)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it('says once that its reader left, and only when the request had not ended', async () => {
    let left = 0;
    const early = new RequestStream(() => left++);
    await early.return();
    await early.return();
    expect(left).toBe(1);
    expect(await early.next()).toEqual({ done: true, value: undefined });

    const late = new RequestStream(() => left++);
    late.push(end);
    await late.return();
    expect(left).toBe(1);
  });

  it('lets a reader go that waits when another leaves', async () => {
    const stream = new RequestStream();
    const waiting = stream.next();
    await stream.return();
    expect(await waiting).toEqual({ done: true, value: undefined });
  });

  it('aborts when a loop is left by break or by a throw, not when it runs to the end', async () => {
    let left = 0;
    const open = (): RequestStream => {
      const stream = new RequestStream(() => left++);
      stream.push(tokens(1));
      return stream;
    };
    for await (const event of open()) if (event.type === 'tokens') break;
    expect(left).toBe(1);
    await expect(
      (async () => {
        for await (const event of open()) throw new Error(event.type);
      })(),
    ).rejects.toThrow('tokens');
    expect(left).toBe(2);
    const whole = open();
    whole.push(end);
    const seen: string[] = [];
    for await (const event of whole) seen.push(event.type);
    expect(seen).toEqual(['tokens', 'end']);
    expect(left).toBe(2);
  });
});
