/** Both loops give the same text: for every sampling setting, arrivals at any step, aborts, ends and tiny page pools. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeviceLostError } from '../../src/engine/device.ts';
import { Engine, type EngineOptions } from '../../src/engine/engine.ts';
import type { StepInfo } from '../../src/engine/loop/flight.ts';
import type { LoopKind } from '../../src/engine/loop/loop.ts';
import type { BatchRunner } from '../../src/engine/model/runner.ts';
import type { GenerateRequest, RequestEvent } from '../../src/protocol.ts';
import { ask, expected, fakeText, FakeRunner, VOCAB } from './fakeRunner.ts';

const LOOPS: LoopKind[] = ['plain', 'overlapped'];
const options = { endTokens: [0, 7, 19], maxQueuedRequests: 1000, maxQueuedTokens: 1e6, checkPages: true };
const newEngine = (runner: BatchRunner, more: Partial<EngineOptions> = {}): Engine =>
  new Engine(runner, fakeText, { ...options, ...more });

const anyToken = fc.integer({ min: 0, max: VOCAB - 1 });
/** Neutral settings as often as not, so that requests that wait for their token run beside requests that do not. */
const either = <T>(neutral: T, other: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(neutral) }, { weight: 1, arbitrary: other });

const anyRequest = fc
  .record({
    prompt: fc.array(anyToken, { minLength: 1, maxLength: 25 }),
    sampling: fc.record({
      temperature: either(0, fc.constant(1)),
      seed: fc.nat(1000),
      topK: either(0, fc.constant(5)),
      presencePenalty: either(0, fc.constant(0.5)),
      frequencyPenalty: either(0, fc.constant(0.5)),
      repetitionPenalty: either(1, fc.constant(1.5)),
      logitBias: either<[number, number][]>([], fc.constant([[3, -100]])),
      logprobs: either<number | undefined>(undefined, fc.constant(2)),
    }),
    stop: fc.record({
      maxTokens: fc.integer({ min: 1, max: 25 }),
      minTokens: either(0, fc.nat(12)),
      ignoreEos: fc.boolean(),
      stopTokenIds: either<number[]>([], fc.array(anyToken, { maxLength: 20 })),
      stopStrings: either<string[]>([], fc.array(fc.stringMatching(/^[1-9]{1,2}>?<?$/), { maxLength: 3 })),
    }),
  })
  .map(({ prompt, sampling, stop }) => {
    const request = ask('', prompt, stop);
    return { ...request, sampling: { ...request.sampling, ...sampling } };
  });

const anySizes = fc.record({
  pages: fc.integer({ min: 6, max: 40 }),
  pageSize: fc.integer({ min: 1, max: 5 }),
  maxBatchTokens: fc.integer({ min: 1, max: 20 }),
  maxRequests: fc.integer({ min: 1, max: 7 }),
});
/** Admission that expects long outputs preempts nobody; one that expects short ones has to. */
const expectedOutput = fc.constantFrom(1, 5, 256);

type Action =
  | { kind: 'submit'; request: GenerateRequest }
  | { kind: 'step'; abortDuring: number | null }
  | { kind: 'abort'; which: number };
const submits: fc.Arbitrary<Action> = anyRequest.map((request) => ({ kind: 'submit', request }));
const steps: fc.Arbitrary<Action> = fc.constant({ kind: 'step', abortDuring: null });
const aborts: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ kind: fc.constant('step' as const), abortDuring: fc.nat(10) }),
  fc.record({ kind: fc.constant('abort' as const), which: fc.nat(10) }),
);

interface Outcome {
  tokens: number[];
  text: string;
  end?: RequestEvent;
}

/** Outcomes by request: '0', '1', ... in the order of submission. */
async function play(engine: Engine, actions: readonly Action[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const take = (events: RequestEvent[]): void => {
    for (const event of events) {
      const outcome = outcomes[Number(event.id)];
      if (outcome.end) throw new Error(`an event after the end of ${event.id}`);
      if (event.type === 'tokens') {
        outcome.tokens.push(...event.tokenIds);
        outcome.text += event.text;
      } else outcome.end = event;
    }
  };
  for (const action of actions) {
    if (action.kind === 'abort') engine.abort(`${action.which}`);
    else if (action.kind === 'submit') {
      const result = engine.submit({ ...action.request, id: `${outcomes.length}` });
      if (result.accepted) outcomes.push({ tokens: [], text: '' });
    } else {
      const step = engine.step();
      if (action.abortDuring !== null) {
        await Promise.resolve();
        engine.abort(`${action.abortDuring}`);
      }
      take(await step);
    }
  }
  for (let i = 0; engine.hasWork; i++) {
    if (i > 5000) throw new Error('the engine makes no progress');
    take(await engine.step());
  }
  expect(engine.pool.used).toBe(0);
  return outcomes;
}

/** What does not depend on time. */
const lasting = ({ tokens, text, end }: Outcome): object => ({
  tokens,
  text,
  end: end?.type === 'end' ? [end.finishReason, end.stopReason, end.usage] : end,
});

describe('the two loops', () => {
  it('give the same text, and the overlapped one wastes at most one token a stopped request', async () => {
    await fc.assert(
      fc.asyncProperty(
        anySizes,
        expectedOutput,
        fc.array(fc.oneof(submits, steps), { maxLength: 40 }),
        async (sizes, expectedOutput, actions) => {
          const maxModelLen = Math.min(48, sizes.pages * sizes.pageSize);
          const outcomes: object[][] = [];
          for (const loop of LOOPS) {
            let sampled = 0;
            const onStep = ({ samples }: StepInfo): void => void (sampled += samples);
            const engine = newEngine(new FakeRunner({ ...sizes, maxModelLen }), {
              loop,
              onStep,
              expectedOutput,
            });
            outcomes.push((await play(engine, actions)).map(lasting));
            const { generationTokens, requestsFinished } = engine.stats();
            expect(requestsFinished.error).toBe(0);
            expect(sampled - generationTokens).toBeGreaterThanOrEqual(0);
            expect(sampled - generationTokens).toBeLessThanOrEqual(
              loop === 'plain' ? 0 : requestsFinished.stop,
            );
          }
          expect(outcomes[1]).toEqual(outcomes[0]);
        },
      ),
      { numRuns: 2000 },
    );
  }, 60_000);

  it('give an aborted request the beginning of its text, and the others all of theirs', async () => {
    await fc.assert(
      fc.asyncProperty(
        anySizes,
        expectedOutput,
        fc.array(fc.oneof(submits, steps, aborts), { maxLength: 40 }),
        async (sizes, expectedOutput, actions) => {
          const maxModelLen = Math.min(48, sizes.pages * sizes.pageSize);
          const runner = (): FakeRunner => new FakeRunner({ ...sizes, maxModelLen });
          const withoutAborts = actions.filter(({ kind }) => kind === 'submit');
          const whole = await play(newEngine(runner(), { loop: 'plain' }), withoutAborts);
          for (const loop of LOOPS) {
            const got = await play(newEngine(runner(), { loop, expectedOutput }), actions);
            expect(got).toHaveLength(whole.length);
            got.forEach((outcome, i) => {
              if (outcome.end?.type === 'end' && outcome.end.finishReason === 'abort') {
                expect(outcome.tokens).toEqual(whole[i].tokens.slice(0, outcome.tokens.length));
                expect(whole[i].text.startsWith(outcome.text)).toBe(true);
              } else expect(lasting(outcome)).toEqual(lasting(whole[i]));
            });
          }
        },
      ),
      { numRuns: 1000 },
    );
  }, 60_000);

  it('end every request once when steps fail or the device is lost, with two steps in flight or not', async () => {
    const fault = fc.record({
      at: fc.nat(12),
      where: fc.constantFrom('launch' as const, 'collect' as const, 'outside' as const),
      lost: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...LOOPS),
        fc.array(anyRequest, { minLength: 1, maxLength: 6 }),
        fault,
        async (loop, requests, { at, where, lost }) => {
          const runner = new FakeRunner();
          const engine = newEngine(runner, { loop });
          const alone = await play(
            newEngine(new FakeRunner()),
            requests.map((request) => ({ kind: 'submit', request })),
          );
          requests.forEach((request, id) =>
            expect(engine.submit({ ...request, id: `${id}` }).accepted).toBe(true),
          );
          const events: RequestEvent[] = [];
          let fired = false;
          for (let i = 0; engine.hasWork; i++) {
            expect(i).toBeLessThan(500);
            const error = lost ? new DeviceLostError('unplugged') : new Error('a kernel failed');
            if (i === at && where === 'launch') runner.failNext = error;
            if (i === at && where === 'collect') runner.failCollect = error;
            const step = engine.step();
            if (i === at && where === 'launch') fired = runner.failNext === undefined;
            if (i === at && where === 'outside') engine.deviceLost('unplugged');
            events.push(...(await step));
          }
          requests.forEach((_, id) => {
            const own = events.filter((event) => event.id === `${id}`);
            expect(own.filter(({ type }) => type !== 'tokens')).toEqual(own.slice(-1));
            const tokens = own.flatMap((event) => (event.type === 'tokens' ? event.tokenIds : []));
            const end = own.at(-1)!;
            if (end.type === 'end') expect(tokens).toEqual(alone[id].tokens);
            else expect(tokens).toEqual(alone[id].tokens.slice(0, tokens.length));
          });
          // A failed launch is told to those whom it held, unless the step before has just ended all of them.
          const failed = events.some(({ type }) => type === 'error');
          const complete = events.filter(({ type }) => type === 'end').length === requests.length;
          if (fired) expect(failed || complete).toBe(true);
          expect(engine.pool.used).toBe(0);
        },
      ),
      { numRuns: 1000 },
    );
  }, 60_000);
});

describe('the overlapped loop', () => {
  it('preempts requests whose token is still on the device, and computes them again', async () => {
    const sizes = { pages: 12, pageSize: 2, maxBatchTokens: 20, maxRequests: 7, maxModelLen: 24 };
    const engine = newEngine(new FakeRunner(sizes), { endTokens: [], expectedOutput: 1 });
    const prompts = Array.from({ length: 6 }, (_, i) => [i + 1, i + 2, i + 3]);
    const outcomes = await play(
      engine,
      prompts.map((prompt) => ({ kind: 'submit', request: ask('', prompt, { maxTokens: 18 }) })),
    );
    expect(outcomes.map(({ tokens }) => tokens)).toEqual(prompts.map((prompt) => expected(prompt, 18)));
    expect(engine.stats().preemptions).toBeGreaterThan(6);
  });

  it('has two steps in flight, but waits for tokens that penalties need', async () => {
    for (const repetitionPenalty of [1, 1.2]) {
      const runner = new FakeRunner();
      const engine = newEngine(runner, { endTokens: [] });
      const request = ask('0', [1, 2, 3]);
      const sampling = { ...request.sampling, repetitionPenalty };
      await play(engine, [{ kind: 'submit', request: { ...request, sampling } }]);
      expect(runner.mostInFlight).toBe(repetitionPenalty === 1 ? 2 : 1);
      expect(engine.stats().steps).toBe(8);
    }
  });

  it('lets a stopped request go by the second step after its last token, with its pages', async () => {
    const prompt = [1, 2];
    const [first, second] = expected(prompt, 2);
    const engine = newEngine(new FakeRunner(), { endTokens: [second] });
    expect(second).not.toBe(first);
    engine.submit(ask('0', prompt, { maxTokens: 20 }));
    await engine.step(); // launches 0
    expect(await engine.step()).toMatchObject([{ tokenIds: [first] }]); // launches 1, delivers 0
    expect(await engine.step()).toMatchObject([{ tokenIds: [second] }, { finishReason: 'stop' }]); // wastes 2
    expect(engine.pool.used).toBe(0);
    expect(await engine.step()).toEqual([]); // collects 2
    expect(engine.hasWork).toBe(false);
    expect(engine.stats()).toMatchObject({ steps: 3, generationTokens: 2 });
  });

  it('does not compute past max_tokens', async () => {
    const engine = newEngine(new FakeRunner(), { endTokens: [] });
    await play(engine, [{ kind: 'submit', request: ask('0', [1, 2], { maxTokens: 5 }) }]);
    expect(engine.stats()).toMatchObject({ steps: 5, generationTokens: 5 });
  });

  it('reports every step in order, with times that follow each other', async () => {
    const infos: StepInfo[] = [];
    const engine = newEngine(new FakeRunner(), { endTokens: [], onStep: (info) => infos.push(info) });
    const actions = [1, 2, 3].map((token) => ({
      kind: 'submit' as const,
      request: ask('', [token, 4, 5], { maxTokens: 4 }),
    }));
    await play(engine, actions);
    expect(infos.map(({ index }) => index)).toEqual(infos.map((_, i) => i));
    expect(infos.map(({ tokens, decodeTokens, samples }) => [tokens, decodeTokens, samples])).toEqual([
      [9, 0, 3],
      [3, 3, 3],
      [3, 3, 3],
      [3, 3, 3],
    ]);
    for (const { startedAt, launchedAt, collectedAt, deliveredAt } of infos) {
      const times = [startedAt, launchedAt, collectedAt, deliveredAt];
      expect(times).toEqual([...times].sort((a, b) => a - b));
    }
    infos
      .slice(1)
      .forEach(({ launchedAt }, i) => expect(launchedAt).toBeLessThanOrEqual(infos[i].collectedAt));
  });
});
