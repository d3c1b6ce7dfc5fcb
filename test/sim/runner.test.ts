import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { constantArrivals, sampledArrivals, type Arrival } from '../../src/engine/device/sim/arrivals.ts';
import type { Pricer } from '../../src/engine/device/sim/priceCache.ts';
import { SimRunner } from '../../src/engine/device/sim/runner.ts';
import { simulateTrace } from '../../src/engine/device/sim/trace.ts';
import { Engine, type EngineOptions } from '../../src/engine/engine.ts';
import type { RequestEvent } from '../../src/protocol.ts';
import { ask, fakeText } from '../engine/fakeRunner.ts';

const pricer: Pricer = {
  price: ({ tokens, decodeKv }) => ({
    seconds: 0.004 + 2e-5 * tokens + 1e-7 * decodeKv,
    outside: 0,
    period: 0,
    busy: [0, 0, 0, 0],
  }),
};
const sizes = { pages: 600, pageSize: 16, maxBatchTokens: 256, maxRequests: 64, maxModelLen: 2048 };
const HOST = 0.001;

/** The engine on the simulated device, fed with arrivals as they come. */
async function serve(arrivals: Iterable<Arrival>, options: Partial<EngineOptions> = {}, seed = 1) {
  const runner = new SimRunner({ model: pricer, vocabSize: 1000, sizes, hostSeconds: HOST, seed });
  const engine = new Engine(runner, fakeText, {
    endTokens: [2],
    maxQueuedRequests: 1e6,
    maxQueuedTokens: 1e9,
    checkPages: true,
    loop: 'plain', // its times are sums
    now: runner.now,
    ...options,
  });
  const events: RequestEvent[] = [];
  const source = arrivals[Symbol.iterator]();
  let next = source.next();
  for (let id = 0; ;) {
    while (!next.done && next.value.time <= runner.clock.host) {
      const { input, output } = next.value;
      const prompt = Array.from({ length: input }, (_, i) => (id + i) % 1000);
      expect(engine.submit(ask(`r${id++}`, prompt, { maxTokens: output, ignoreEos: true }))).toEqual({
        accepted: true,
      });
      next = source.next();
    }
    if (engine.hasWork) events.push(...(await engine.step()));
    else if (next.done) break;
    else runner.clock.waitForWork(next.value.time);
  }
  return { events, clock: runner.clock, engine };
}

const lengths: [number, number][] = [
  [100, 40],
  [10, 90],
  [300, 5],
];

describe('SimRunner', () => {
  it('runs 2000 requests through the engine, bit for bit the same for the same seed', async () => {
    const hash = async (seed: number): Promise<string> => {
      const { events } = await serve(
        sampledArrivals(lengths, { count: 2000, rate: 60, seed: 5 }),
        { checkPages: false },
        seed,
      );
      expect(events.filter(({ type }) => type === 'end')).toHaveLength(2000);
      return createHash('sha256').update(JSON.stringify(events)).digest('hex');
    };
    const first = await hash(1);
    expect(await hash(1)).toBe(first);
    expect(await hash(2)).not.toBe(first);
  });

  it('gives every request its own tokens, as many as it asked for, never end-of-sequence', async () => {
    const { events } = await serve(sampledArrivals(lengths, { count: 50 }));
    const tokens = new Map<string, number[]>();
    for (const event of events) {
      if (event.type === 'tokens') tokens.set(event.id, [...(tokens.get(event.id) ?? []), ...event.tokenIds]);
      else if (event.type === 'end') {
        expect(event.finishReason).toBe('length');
        expect(event.usage.completionTokens).toBe(tokens.get(event.id)!.length);
      } else throw new Error(event.error.message);
    }
    expect(tokens.size).toBe(50);
    expect([...tokens.values()].flat()).not.toContain(2);
    expect(new Set([...tokens.values()].map((list) => list.join()))).toHaveLength(50);
  });

  it('tells the engine virtual time only', async () => {
    const before = performance.now();
    const { events, clock } = await serve([{ time: 3600, input: 10, output: 3 }]);
    expect(performance.now() - before).toBeLessThan(5000);
    const end = events.find((event) => event.type === 'end')!;
    const step = (tokens: number, decodeKv: number): number => HOST + 0.004 + 2e-5 * tokens + 1e-7 * decodeKv;
    const total = step(10, 0) + step(1, 11) + step(1, 12);
    expect(end.timings.total).toBeCloseTo(total, 6);
    expect(end.timings.timeToFirstToken).toBeCloseTo(step(10, 0), 6);
    expect(clock.host).toBeCloseTo(3600 + total, 6);
    expect(clock.deviceIdle).toBeCloseTo(3 * HOST, 6);
  });

  it.each(['plain', 'overlapped'] as const)('takes the same steps as a trace run, %s', async (loop) => {
    const offline = (): Iterable<Arrival> => constantArrivals(100, 20, { count: 100 });
    const { clock } = await serve(offline(), { loop });
    const report = simulateTrace({
      model: pricer,
      arrivals: offline(),
      sizes,
      hostSeconds: HOST,
      overlapped: loop === 'overlapped',
    });
    expect(report.steps).toBe(clock.steps);
    expect(report.seconds).toBeGreaterThan(0.97 * clock.host);
    expect(report.seconds).toBeLessThan(1.03 * clock.host);
  });

  it('leaves the device idle for the first step only, when the loop is overlapped', async () => {
    const { clock } = await serve(constantArrivals(100, 20, { count: 100 }), { loop: 'overlapped' });
    expect(clock.deviceIdle).toBeCloseTo(HOST, 6);
  });
});
