import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PagePool } from '../../src/engine/kv/pages.ts';
import { Scheduler } from '../../src/engine/schedule/scheduler.ts';
import { advanceKnown, newRequest } from './requests.ts';

const anyLengths = fc.array(fc.tuple(fc.integer({ min: 1, max: 90 }), fc.integer({ min: 1, max: 30 })), {
  minLength: 1,
  maxLength: 30,
});

describe('Scheduler', () => {
  it('fills every batch to B exactly while there is that much to do, decode tokens first', () => {
    fc.assert(
      fc.property(anyLengths, fc.integer({ min: 1, max: 64 }), (lengths, maxBatchTokens) => {
        const pool = new PagePool(10_000, 4);
        const scheduler = new Scheduler(pool, { maxBatchTokens, maxRequests: 1000, maxAdjustments: 1e6 });
        const requests = lengths.map(([prompt, output], id) => newRequest(`${id}`, prompt, output));
        for (const request of requests) scheduler.enqueue(request);
        for (;;) {
          const decoding = scheduler.running.filter(({ pending }) => pending === 1).length;
          const pending = [...scheduler.running, ...scheduler.waiting].reduce(
            (sum, each) => sum + each.pending,
            0,
          );
          const batch = scheduler.next();
          if (!batch) break;
          expect(batch.tokens).toBe(Math.min(maxBatchTokens, pending));
          expect(batch.segments.reduce((sum, { count }) => sum + count, 0)).toBe(batch.tokens);
          expect(batch.samples).toBe(batch.segments.filter(({ sample }) => sample).length);
          const first = batch.segments.slice(0, Math.min(decoding, maxBatchTokens));
          expect(first.every(({ count }) => count === 1)).toBe(true);
          advanceKnown(batch, scheduler);
        }
        expect(requests.every(({ state }) => state === 'ended')).toBe(true);
      }),
    );
  });

  it('ends every request that fits alone, whatever the pool, the order of leaving and the guess', () => {
    fc.assert(
      fc.property(
        anyLengths,
        fc.integer({ min: 1, max: 5 }),
        fc.nat(20),
        fc.constantFrom(1, 10, 256),
        fc.array(fc.nat(30), { maxLength: 10 }),
        (lengths, pageSize, spare, expectedOutput, leave) => {
          const longest = Math.max(
            ...lengths.map(([prompt, output]) => Math.ceil((prompt + output) / pageSize)),
          );
          const pool = new PagePool(longest + spare, pageSize);
          const limits = { maxBatchTokens: 16, maxRequests: 5, maxAdjustments: 1e6, expectedOutput };
          const scheduler = new Scheduler(pool, limits);
          const requests = lengths.map(([prompt, output], id) => newRequest(`${id}`, prompt, output));
          for (const request of requests) scheduler.enqueue(request);
          for (let step = 0; ; step++) {
            expect(step).toBeLessThan(20_000);
            const batch = scheduler.next();
            if (!batch) break;
            advanceKnown(batch, scheduler);
            const leaving = requests[leave[step]];
            if (leaving) {
              scheduler.remove(leaving);
              scheduler.remove(leaving); // once more is fine
            }
            pool.check(requests.map(({ pages }) => pages));
            const { running, waiting } = scheduler;
            expect(new Set([...running, ...waiting]).size).toBe(running.length + waiting.length);
            expect(running.every(({ state }) => state === 'running')).toBe(true);
            expect(waiting.every(({ state, pages }) => state === 'waiting' && pages.length === 0)).toBe(true);
            expect(scheduler.waitingTokens).toBe(waiting.reduce((sum, { tokens }) => sum + tokens.length, 0));
          }
          expect(requests.every(({ state }) => state === 'ended')).toBe(true);
          expect(pool.used).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('keeps a request back until its token is known when the device cannot take it from the last step', () => {
    const scheduler = new Scheduler(new PagePool(100, 4), {
      maxBatchTokens: 8,
      maxRequests: 4,
      maxAdjustments: 99,
    });
    const request = newRequest('0', 5, 9);
    scheduler.enqueue(request);
    expect(scheduler.next()).toMatchObject({ tokens: 5, samples: 1 });
    request.computed = 5;
    request.expect(3);
    expect(scheduler.next()?.segments).toMatchObject([{ start: 5, count: 1, fromSampled: 3, sample: true }]);
    request.computed = 0; // as after a preemption
    expect(scheduler.next()).toBeUndefined();
    request.reveal(7);
    const [segment] = scheduler.next()!.segments;
    expect(segment).toMatchObject({ start: 0, count: 6 });
    expect(segment.fromSampled).toBeUndefined();
  });
});
