import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  constantArrivals,
  meanLengths,
  parseTrace,
  sampledArrivals,
} from '../../src/engine/device/sim/arrivals.ts';
import { emptyMix, mixOf, pairs, steadyMix, workOfRange } from '../../src/engine/device/sim/mix.ts';
import { PriceCache, type Pricer } from '../../src/engine/device/sim/priceCache.ts';
import { simulateTrace, type TraceOptions } from '../../src/engine/device/sim/trace.ts';
import type { Work } from '../../src/engine/model/graph.ts';

/** 10 ms a step and 10 us a token. */
const pricer: Pricer = {
  price: ({ tokens }) => ({ seconds: 0.01 + 1e-5 * tokens, outside: 0, period: 0, busy: [0, 0, 0, 0] }),
};
const sizes = { pages: 512, pageSize: 16, maxBatchTokens: 256, maxRequests: 64 };

const run = (changes: Partial<TraceOptions> = {}): ReturnType<typeof simulateTrace> =>
  simulateTrace({
    model: pricer,
    arrivals: constantArrivals(100, 50, { count: 300, rate: 40, seed: 3 }),
    sizes,
    hostSeconds: 0.002,
    ...changes,
  });

describe('simulateTrace', () => {
  it('ends every request and computes every token', () => {
    const lengths = fc.tuple(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 100 }));
    fc.assert(
      fc.property(
        fc.array(lengths, { minLength: 1, maxLength: 60 }),
        fc.constantFrom(0, 5, 100),
        fc.boolean(),
        (list, rate, overlapped) => {
          const arrivals = [...sampledArrivals(list, { count: 60, rate, seed: list.length })];
          const report = run({ arrivals, overlapped });
          expect(report.requests).toBe(60);
          // The last token of a request is never computed; preempted requests are computed again.
          const tokens = arrivals.reduce((sum, { input, output }) => sum + input + output - 1, 0);
          const computed = Math.round(report.meanBatchTokens * report.steps);
          if (report.preemptions === 0) expect(computed).toBe(tokens);
          else expect(computed).toBeGreaterThan(tokens);
          expect(report.deviceBusy + report.deviceIdle).toBeLessThanOrEqual(
            report.seconds + 1e-9 * report.steps,
          );
          const all = tokens + arrivals.length;
          expect(report.tokensPerSecond * report.seconds).toBeCloseTo(all, 6);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('is the same run for the same seed, bit for bit, and another one for another', () => {
    const lengths: [number, number][] = [
      [100, 50],
      [20, 130],
      [400, 3],
    ];
    const traced = (seed: number) =>
      run({
        arrivals: sampledArrivals(lengths, { count: 2000, rate: 30, seed }),
        sizes: { ...sizes, pages: 900 },
      });
    const first = traced(1);
    expect(traced(1)).toEqual(first);
    expect(traced(2).hash).not.toBe(first.hash);
  });

  it('hides the host behind the device when the loop is overlapped', () => {
    const offline = { arrivals: constantArrivals(100, 50, { count: 200 }) };
    const plain = run({ ...offline, overlapped: false });
    expect(plain.deviceIdle).toBeCloseTo(0.002 * plain.steps, 6);
    const overlapped = run({ ...offline, arrivals: constantArrivals(100, 50, { count: 200 }) });
    expect(overlapped.deviceIdle).toBeCloseTo(0.002, 6); // the first step only
    expect(overlapped.steadyTokensPerSecond).toBeGreaterThan(plain.steadyTokensPerSecond * 1.1);
    // A host slower than the device cannot be hidden.
    const slow = run({ arrivals: constantArrivals(100, 50, { count: 200 }), hostSeconds: 0.05 });
    expect(slow.seconds).toBeGreaterThan(0.05 * (slow.steps - 1));
  });

  it('does not count time without requests as idle', () => {
    const arrivals = [0, 100, 200].map((time) => ({ time, input: 10, output: 5 }));
    const report = run({ arrivals, hostSeconds: 0.001, overlapped: false });
    expect(report.steps).toBe(15);
    expect(report.deviceIdle).toBeCloseTo(0.015, 9);
    expect(report.timeToFirstToken.p99).toBeCloseTo(0.001 + 0.01 + 10e-5, 9);
    expect(report.timePerOutputToken.mean).toBeCloseTo(0.001 + 0.01 + 1e-5, 9);
    expect(report.normalizedLatency.mean).toBeCloseTo((15 * 0.011 + 3 * (10e-5 + 4e-5)) / 15, 9);
  });

  it('gets slower for its requests as they come faster', () => {
    const latency = [5, 20, 80].map(
      (rate) => run({ arrivals: constantArrivals(100, 50, { count: 400, rate }) }).normalizedLatency.mean,
    );
    expect(latency[0]).toBeLessThan(latency[1]);
    expect(latency[1]).toBeLessThan(latency[2]);
  });

  it('refuses a request that can never fit', () => {
    expect(() => run({ arrivals: [{ time: 0, input: 9000, output: 1 }] })).toThrow(/never fits/);
  });
});

describe('mixes', () => {
  it('splits over ranges without losing anything', () => {
    const mixes = fc
      .tuple(fc.integer({ min: 0, max: 500 }), fc.integer({ min: 0, max: 500 }))
      .filter(([decode, prefill]) => decode + prefill > 0)
      .map(([decode, prefill]): Work => ({
        tokens: decode + prefill,
        decodeTokens: decode,
        decodeKv: decode * 700,
        prefillKv: prefill * 2,
        prefillPairs: prefill * 300,
        samples: decode,
      }));
    fc.assert(
      fc.property(mixes, fc.double({ min: 0, max: 1, noNaN: true }), (mix, part) => {
        const cut = Math.floor(part * mix.tokens);
        const parts = [workOfRange(mix, 0, cut, emptyMix()), workOfRange(mix, cut, mix.tokens, emptyMix())];
        for (const key of Object.keys(mix) as (keyof Work)[]) {
          expect(parts[0][key] + parts[1][key]).toBeCloseTo(mix[key], 6);
        }
      }),
    );
  });

  it('counts pairs as a loop over queries does', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 50 }), (start, count) => {
        let sum = 0;
        for (let i = 0; i < count; i++) sum += start + i + 1;
        expect(pairs(start, count)).toBe(sum);
      }),
    );
  });

  it('counts leading one-token segments as decode rows', () => {
    const segment = (start: number, count: number, sample: boolean) => ({
      request: undefined as never,
      start,
      count,
      sample,
    });
    const mix = mixOf({
      segments: [segment(9, 1, true), segment(99, 1, true), segment(10, 20, false), segment(0, 1, false)],
    });
    expect(mix).toEqual({
      tokens: 23,
      decodeTokens: 2,
      decodeKv: 110,
      prefillKv: 31,
      prefillPairs: pairs(10, 20) + 1,
      samples: 2,
    });
  });

  it('keeps the ratio of input and output in the steady state, also when memory is short', () => {
    expect(steadyMix(512, 512, 2048)).toMatchObject({
      tokens: 2048,
      decodeTokens: 1024,
      decodeKv: 1024 * 768,
    });
    expect(steadyMix(512, 0, 2048)).toMatchObject({ tokens: 2048, decodeTokens: 0, samples: 4 });
    expect(steadyMix(1024, 512, 2048, 1280 * 300)).toMatchObject({ tokens: 900, decodeTokens: 300 });
  });

  it('prices a batch within the grid of the cache, whatever came before', () => {
    const priced: Work[] = [];
    const cache = new PriceCache({
      price: (mix) => {
        priced.push({ ...mix });
        return pricer.price(mix);
      },
    });
    const rows = fc.integer({ min: 0, max: 2000 });
    fc.assert(
      fc.property(rows, rows, fc.integer({ min: 1, max: 4000 }), (decode, prefill, context) => {
        const mix = {
          tokens: decode + prefill,
          decodeTokens: decode,
          decodeKv: decode * context,
          prefillKv: prefill,
          prefillPairs: prefill * 100,
          samples: decode,
        };
        const before = cache.size;
        const price = cache.price(mix);
        expect(Math.abs(price.seconds - pricer.price(mix).seconds)).toBeLessThanOrEqual(16e-5 + 1e-12);
        expect(cache.size === before).toBe(priced.length === before);
        expect(new PriceCache(pricer).price(mix)).toEqual(price);
        expect(cache.price(mix)).toBe(price);
      }),
    );
    for (const { decodeTokens, decodeKv } of priced) {
      if (decodeTokens > 0) expect(decodeKv / decodeTokens).toBeLessThan(4000 * 1.02);
    }
  });
});

describe('arrivals', () => {
  it('come at the asked rate', () => {
    const times = [...constantArrivals(1, 1, { count: 20_000, rate: 8 })].map(({ time }) => time);
    expect(times.at(-1)! / 20_000).toBeGreaterThan(0.97 / 8);
    expect(times.at(-1)! / 20_000).toBeLessThan(1.03 / 8);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  it('read the columns of a trace and drop what is too long', () => {
    const csv =
      'TIMESTAMP,ContextTokens,GeneratedTokens\n0,10,20\r\n1,4000,10\n2,10,1025\n3,0,5\n4,3072,1024\n';
    const lengths = parseTrace(csv);
    expect(lengths).toEqual([
      [10, 20],
      [3072, 1024],
    ]);
    expect(meanLengths(lengths)).toEqual([1541, 522]);
    expect(() => parseTrace('a,b\n1,2')).toThrow(/ContextTokens/);
    expect(() => parseTrace('ContextTokens,GeneratedTokens\n1,x')).toThrow(/line 2/);
    expect(() => parseTrace('ContextTokens,GeneratedTokens\n0,0')).toThrow(/no request/);
  });
});
