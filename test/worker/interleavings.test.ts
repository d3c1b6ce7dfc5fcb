import fc from 'fast-check';
import { expect, it } from 'vitest';
import { connect, GenerateError, type EngineClient, type GenerationEvent } from '../../src/worker/client.ts';
import { EngineHost } from '../../src/worker/host.ts';
import { ask, expected, FakeRunner, VOCAB } from '../engine/fakeRunner.ts';
import { engineOn, loadOptions, platform, textClientOn, threadOf, turns } from './inOneThread.ts';

const action = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('submit' as const),
      prompt: fc.array(fc.integer({ min: 1, max: VOCAB - 1 }), { maxLength: 30 }),
      maxTokens: fc.integer({ min: 1, max: 25 }),
      id: fc.option(fc.constantFrom('same', 'other'), { nil: undefined }),
      aborted: fc.boolean(),
      /** How many events its reader takes before it leaves; undefined: all. 0: it leaves before its first next(). */
      reads: fc.option(fc.nat(6), { nil: undefined }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('abort' as const), which: fc.nat(12) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('wait' as const), count: fc.nat(4) }) },
);

type Finale = 'drain' | 'crash' | 'dispose' | 'lose' | 'throw';
type Submit = Extract<typeof action extends fc.Arbitrary<infer T> ? T : never, { kind: 'submit' }>;

interface Outcome {
  prompt: number[];
  tokens: number[];
  ends: string[];
  left: boolean;
}

/** Submits and reads as told. Resolves when the stream has ended for its reader, or the request was refused. */
async function run(client: EngineClient, submit: Submit, signal: AbortSignal): Promise<Outcome | undefined> {
  const { id, ...request } = ask(submit.id ?? '', submit.prompt, { maxTokens: submit.maxTokens });
  const outcome: Outcome = { prompt: submit.prompt, tokens: [], ends: [], left: false };
  let events: AsyncIterable<GenerationEvent>;
  try {
    events = await client.generate(id === '' ? request : { ...request, id }, { signal });
  } catch (error) {
    if (error instanceof GenerateError) return undefined;
    throw error;
  }
  const iterator = events[Symbol.asyncIterator]();
  for (let reads = 0; ; reads++) {
    if (reads === submit.reads) {
      outcome.left = outcome.ends.length === 0;
      await iterator.return!();
    }
    try {
      const { done, value } = await iterator.next();
      if (done) return outcome;
      if (value.type === 'tokens') outcome.tokens.push(...value.tokenIds);
      else outcome.ends.push(value.finishReason);
    } catch (error) {
      outcome.ends.push((error as GenerateError).error.code);
    }
  }
}

it('ends every accepted stream exactly once and frees every page, whatever happens', async () => {
  const finale = fc.constantFrom<Finale>('drain', 'drain', 'crash', 'dispose', 'lose', 'throw');
  const sizes = fc.record({
    pages: fc.integer({ min: 16, max: 40 }),
    maxRequests: fc.integer({ min: 1, max: 6 }),
    maxBatchTokens: fc.integer({ min: 1, max: 20 }),
  });
  const { error } = console;
  console.error = () => {}; // a broken step loop is reported there
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 30 }), finale, sizes, async (actions, last, size) => {
        const { engine, loader, lose } = engineOn(new FakeRunner(size), { maxQueuedRequests: 6 });
        const host = new EngineHost(platform, loader);
        const thread = threadOf(host);
        const client = await connect(thread, textClientOn().text, loadOptions, () => {});
        const aborts: AbortController[] = [];
        const runs: Promise<Outcome | undefined>[] = [];
        for (const step of actions) {
          if (step.kind === 'wait') await turns(step.count);
          else if (step.kind === 'abort') aborts[step.which]?.abort();
          else {
            const abort = new AbortController();
            if (step.aborted) abort.abort();
            aborts.push(abort);
            runs.push(run(client, step, abort.signal));
          }
        }
        if (last === 'crash') thread.crash('killed');
        else if (last === 'lose') lose('unplugged');
        else if (last === 'dispose') await client.dispose();
        else if (last === 'throw') {
          engine.scheduler.next = () => {
            throw new Error('wrong books');
          };
        }

        for (const outcome of await Promise.all(runs)) {
          if (!outcome) continue;
          const { prompt, tokens, ends, left } = outcome;
          expect(ends.length).toBe(left ? 0 : 1);
          expect(tokens).toEqual(expected(prompt, tokens.length));
          const normal = ['stop', 'length', 'abort'];
          if (last === 'drain') expect(left || normal.includes(ends[0])).toBe(true);
        }
        if (last === 'drain') {
          // Requests that were left may still be ending.
          for (;;) {
            const stats = await client.stats();
            if (stats.running + stats.waiting === 0 && !engine.hasWork) break;
          }
          const { requestsAccepted, requestsFinished, kvPagesUsed } = await client.stats();
          expect(Object.values(requestsFinished).reduce((a, b) => a + b)).toBe(requestsAccepted);
          expect(kvPagesUsed).toBe(0);
        }
        await client.dispose();
        await host.shutdown(); // of a crashed one the client cannot ask it
        if (last === 'lose' || last === 'throw') expect(engine.pool.used).toBe(0);
        await expect(client.generate(ask('late', [1]))).rejects.toMatchObject({
          error: { code: 'not_ready' },
        });
      }),
      { numRuns: 80 },
    );
  } finally {
    console.error = error;
  }
}, 20_000);
