import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Engine } from '../../src/engine/engine.ts';
import { DeviceLostError } from '../../src/engine/device.ts';
import type { RequestEvent } from '../../src/protocol.ts';
import { ask, expected, fakeText, FakeRunner, nextToken, VOCAB } from './fakeRunner.ts';

const options = { endTokens: [0], maxQueuedRequests: 100, maxQueuedTokens: 10_000, checkPages: true };

async function drain(engine: Engine, most = 10_000): Promise<RequestEvent[]> {
  const events: RequestEvent[] = [];
  for (let i = 0; engine.hasWork; i++) {
    if (i > most) throw new Error('the engine makes no progress');
    events.push(...(await engine.step()));
  }
  return events;
}

const tokensOf = (events: RequestEvent[], id: string): number[] =>
  events.flatMap((event) => (event.type === 'tokens' && event.id === id ? event.tokenIds : []));

describe('Engine', () => {
  it('gives each request what it would get alone, for any mix of arrivals, aborts and page pressure', async () => {
    const arbitrary = fc.record({
      pages: fc.integer({ min: 8, max: 40 }),
      pageSize: fc.integer({ min: 1, max: 5 }),
      maxBatchTokens: fc.integer({ min: 1, max: 20 }),
      maxRequests: fc.integer({ min: 1, max: 6 }),
      actions: fc.array(
        fc.oneof(
          fc.record({
            kind: fc.constant('submit' as const),
            prompt: fc.array(fc.integer({ min: 1, max: VOCAB - 1 }), { minLength: 1, maxLength: 30 }),
            maxTokens: fc.integer({ min: 1, max: 30 }),
          }),
          fc.record({ kind: fc.constant('step' as const), abortDuring: fc.option(fc.nat(20)) }),
          fc.record({ kind: fc.constant('abort' as const), which: fc.nat(20) }),
        ),
        { maxLength: 60 },
      ),
    });
    await fc.assert(
      fc.asyncProperty(arbitrary, async ({ actions, ...sizes }) => {
        const maxModelLen = Math.min(64, sizes.pages * sizes.pageSize);
        const engine = new Engine(new FakeRunner({ ...sizes, maxModelLen }), fakeText, options);
        const prompts: { prompt: number[]; maxTokens: number; accepted: boolean }[] = [];
        const events: RequestEvent[] = [];
        for (const action of actions) {
          if (action.kind === 'submit') {
            const { prompt, maxTokens } = action;
            const { accepted } = engine.submit(ask(`${prompts.length}`, prompt, { maxTokens }));
            expect(accepted).toBe(prompt.length < maxModelLen);
            prompts.push({ prompt, maxTokens, accepted });
          } else if (action.kind === 'abort') {
            engine.abort(`${action.which}`);
          } else {
            const step = engine.step();
            if (action.abortDuring !== null) engine.abort(`${action.abortDuring}`);
            events.push(...(await step));
          }
        }
        events.push(...(await drain(engine)));

        expect(engine.pool.used).toBe(0);
        prompts.forEach(({ prompt, maxTokens, accepted }, id) => {
          const ends = events.filter((event) => event.id === `${id}` && event.type !== 'tokens');
          expect(ends.length).toBe(accepted ? 1 : 0);
          if (!accepted) return;
          const [end] = ends;
          if (end.type !== 'end') throw new Error(`request ${id} failed: ${JSON.stringify(end)}`);
          const tokens = tokensOf(events, `${id}`);
          expect(end.usage).toEqual({ promptTokens: prompt.length, completionTokens: tokens.length });
          expect(tokens).toEqual(expected(prompt, tokens.length));
          const room = Math.min(maxTokens, maxModelLen - prompt.length);
          if (end.finishReason === 'length') expect(tokens.length).toBe(room);
          if (end.finishReason === 'stop') expect(tokens.at(-1)).toBe(0);
        });
        const { requestsFinished, requestsAccepted, generationTokens } = engine.stats();
        expect(Object.values(requestsFinished).reduce((a, b) => a + b)).toBe(requestsAccepted);
        const emitted = events.reduce((sum, event) => sum + (event.type === 'tokens' ? 1 : 0), 0);
        expect(generationTokens).toBe(emitted);
      }),
      { numRuns: 300 },
    );
  });

  it('ends at a stop string that is spread over tokens, and hides it', async () => {
    const [a, b, c] = expected([5, 6], 3);
    const engine = new Engine(new FakeRunner(), fakeText, { ...options, endTokens: [] });
    const stopStrings = [`${a}><${b}`];
    engine.submit(ask('x', [5, 6], { stopStrings, maxTokens: 20 }));
    const events = await drain(engine);
    const text = events.flatMap((event) => (event.type === 'tokens' ? event.text : [])).join('');
    expect(text).toBe('<');
    expect(events.at(-1)).toMatchObject({ finishReason: 'stop', stopReason: stopStrings[0] });
    expect(tokensOf(events, 'x')).toEqual([a, b]);

    engine.submit(ask('y', [5, 6], { stopStrings, maxTokens: 3, minTokens: 3 }));
    const later = await drain(engine);
    expect(later.flatMap((event) => (event.type === 'tokens' ? event.text : [])).join('')).toBe(
      `<${a}><${b}><${c}>`,
    );
  });

  it('ends at stop tokens and end-of-sequence, unless told to ignore it', async () => {
    const [a, b] = expected([1, 2], 2);
    const stopped = new Engine(new FakeRunner(), fakeText, options);
    stopped.submit(ask('x', [1, 2], { stopTokenIds: [b] }));
    const events = await drain(stopped);
    expect(events.at(-1)).toMatchObject({ type: 'end', finishReason: 'stop', stopReason: b });
    expect(events.flatMap((event) => (event.type === 'tokens' ? event.text : [])).join('')).toBe(`<${a}>`);

    const ignoring = new Engine(new FakeRunner(), fakeText, { ...options, endTokens: [a] });
    ignoring.submit(ask('eos', [1, 2]));
    ignoring.submit(ask('ignore', [1, 2], { ignoreEos: true }));
    const both = await drain(ignoring);
    expect(tokensOf(both, 'eos')).toEqual([a]);
    expect(tokensOf(both, 'ignore').length).toBe(8);
  });

  it('refuses what can never fit, what is out of range, and more than the queue holds', () => {
    const engine = new Engine(new FakeRunner(), fakeText, { ...options, maxQueuedRequests: 2 });
    const code = (request: ReturnType<typeof ask>) => {
      const result = engine.submit(request);
      return result.accepted ? 'accepted' : `${result.error.code} ${result.error.param ?? ''}`.trim();
    };
    expect(code(ask('long', Array(64).fill(1)))).toBe('prompt_too_long prompt');
    expect(code(ask('empty', []))).toBe('invalid prompt');
    expect(code(ask('token', [VOCAB]))).toBe('invalid prompt');
    const hot = ask('hot', [1]);
    hot.sampling.temperature = Number.NaN;
    expect(code(hot)).toBe('invalid temperature');
    expect(code(ask('a', [1]))).toBe('accepted');
    expect(code(ask('a', [1]))).toBe('invalid id');
    expect(code(ask('b', [1]))).toBe('accepted');
    expect(code(ask('c', [1]))).toBe('queue_full');
  });

  it('ends only the batch when a step fails, and everything when the device is lost', async () => {
    const runner = new FakeRunner({ maxRequests: 1 });
    const engine = new Engine(runner, fakeText, options);
    engine.submit(ask('a', [1, 2]));
    engine.submit(ask('b', [3, 4]));
    runner.failNext = new Error('a kernel failed');
    const first = await engine.step();
    expect(first).toEqual([
      { type: 'error', id: 'a', error: { code: 'internal', message: 'a kernel failed' } },
    ]);
    await engine.step();
    runner.failNext = new DeviceLostError('unplugged');
    engine.submit(ask('c', [5]));
    const events = await drain(engine);
    const failed = events.filter((event) => event.type === 'error');
    expect(failed.map((event) => [event.id, event.error.code])).toEqual(
      expect.arrayContaining([
        ['b', 'device_lost'],
        ['c', 'device_lost'],
      ]),
    );
    expect(failed.length).toBe(2);
    expect(engine.pool.used).toBe(0);
    expect(engine.submit(ask('d', [1]))).toMatchObject({ accepted: false, error: { code: 'not_ready' } });
  });

  it('lets nobody starve: a late short request runs beside a long prompt, decode tokens first', async () => {
    const engine = new Engine(new FakeRunner({ maxBatchTokens: 4, maxModelLen: 60 }), fakeText, {
      ...options,
      endTokens: [],
    });
    engine.submit(ask('short', [9], { maxTokens: 6 }));
    await engine.step();
    engine.submit(
      ask(
        'long',
        Array.from({ length: 40 }, (_, i) => 1 + (i % 90)),
        { maxTokens: 2 },
      ),
    );
    const order: string[] = [];
    for (const event of await drain(engine)) if (event.type === 'end') order.push(event.id);
    expect(order).toEqual(['short', 'long']);
  });

  it('the fake model distinguishes prompts', () => {
    expect(nextToken([1, 2, 3])).not.toBe(nextToken([1, 2, 4]));
  });
});
