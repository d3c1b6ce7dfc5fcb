import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PagePool } from '../../src/engine/kv/pages.ts';
import { Forecast, OutputLength } from '../../src/engine/schedule/admission.ts';
import type { Request } from '../../src/engine/schedule/request.ts';
import { Scheduler } from '../../src/engine/schedule/scheduler.ts';
import { advanceKnown, newRequest } from './requests.ts';

/** A request that has produced `done` tokens. */
function grown([prompt, output, done]: [number, number, number]): Request {
  const request = newRequest('', prompt, output);
  for (let i = 0; i < Math.min(done, output); i++) request.append(1);
  return request;
}

describe('Forecast', () => {
  it('finds the largest sum of pages over all blocks of time, with everybody growing until the mean', () => {
    const request = fc.tuple(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 900 }), fc.nat(500));
    fc.assert(
      fc.property(
        fc.array(request, { maxLength: 30 }),
        request,
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 600 }),
        (others, one, pageSize, mean) => {
          const all = [...others, one].map(grown);
          const candidate = all.at(-1)!;
          const forecast = new Forecast(pageSize);
          forecast.reset(all, 1000); // what it held before does not matter
          forecast.reset(all.slice(0, -1), mean);
          let peak = 0;
          for (let time = 0; time <= 1000; time += pageSize) {
            let pages = 0;
            for (const each of all) {
              const left = Math.max(1, Math.min(mean, each.maxTokens) - each.outputLength);
              const grown = Math.min(left, time + pageSize);
              if (time < left) pages += Math.ceil((each.tokens.length + grown) / pageSize);
            }
            peak = Math.max(peak, pages);
          }
          expect(forecast.peakWith(candidate, mean)).toBe(peak);
          expect(forecast.peakWith(candidate, mean)).toBe(peak); // looking changes nothing
        },
      ),
    );
  });
});

describe('OutputLength', () => {
  it('comes close to the lengths of late, from wherever it began', () => {
    const length = new OutputLength(1000);
    for (let i = 0; i < 1000; i++) length.learn(i % 2 === 0 ? 40 : 60);
    expect(length.mean).toBeGreaterThan(45);
    expect(length.mean).toBeLessThan(70);
    for (let i = 0; i < 2000; i++) length.learn(300);
    expect(length.mean).toBeGreaterThan(290);
  });
});

describe('admission', () => {
  /** Serves `count` requests that all wait at the start. */
  function serve(expectedOutput: number, lengthOf: (id: number) => number, maxTokens: number) {
    const pool = new PagePool(400, 16);
    const limits = { maxBatchTokens: 256, maxRequests: 200, maxAdjustments: 1e6, expectedOutput };
    const scheduler = new Scheduler(pool, limits);
    for (let id = 0; id < 1500; id++) scheduler.enqueue(newRequest(`${id}`, 64, maxTokens));
    let ended = 0;
    let steps = 0;
    let used = 0;
    for (let batch = scheduler.next(); batch; batch = scheduler.next()) {
      used += pool.used;
      steps++;
      const before = scheduler.running.length;
      advanceKnown(batch, scheduler, ({ id }) => lengthOf(Number(id)));
      ended += before - scheduler.running.length;
    }
    expect(ended).toBe(1500);
    expect(pool.used).toBe(0);
    return { preemptions: scheduler.preemptions, use: used / steps / pool.total };
  }

  it('preempts next to nobody and still fills the pages, once it knows the outputs', () => {
    const constant = serve(256, () => 128, 2000);
    expect(constant.preemptions).toBeLessThan(30);
    // Requests that came together grow together: 5 to 13 pages each, 0.69 of the peak on average.
    expect(constant.use).toBeGreaterThan(0.62);
    const mixed = serve(256, (id) => 1 + ((id * 7919) % 255), 2000);
    expect(mixed.preemptions).toBeLessThan(75); // 5 % of the requests
    expect(mixed.use).toBeGreaterThan(0.7);
  });

  it('learns from a guess that is far too low', () => {
    const late = serve(1, () => 128, 2000);
    expect(late.preemptions).toBeLessThan(300);
  });
});
