/**
 * Both loops with a real model on the cpu device: what the host does not know, the device takes from the step before. Also
 * through a pipeline that arranges rows in another order than the batch's, in one step or the other.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { Engine } from '../../src/engine/engine.ts';
import type { LoopKind } from '../../src/engine/loop/loop.ts';
import type { ModelRunner, PipelineChoice } from '../../src/engine/model/runner.ts';
import type { GenerateRequest } from '../../src/protocol.ts';
import { overlap } from '../../src/engine/pipeline/presets.ts';
import { goldenCase } from '../model/goldens.ts';
import { loadRunner } from '../model/parityRun.ts';
import { ask, fakeText } from './fakeRunner.ts';

let runner: ModelRunner;
beforeAll(async () => {
  const golden = goldenCase('qwen2');
  runner = await loadRunner(await createCpuDevice(), golden, 'f32');
});
afterAll(() => runner.destroy());

interface Arrival {
  request: GenerateRequest;
  after: number; // steps
}

/** Tokens, logprobs and end of every request. */
async function serve(arrivals: readonly Arrival[], loop: LoopKind, endTokens: number[]): Promise<string[]> {
  const engine = new Engine(runner, fakeText, {
    endTokens,
    maxQueuedRequests: 100,
    maxQueuedTokens: 10_000,
    checkPages: true,
    expectedOutput: 1,
    loop,
  });
  const results = arrivals.map(() => '');
  const waiting = [...arrivals.keys()].sort((a, b) => arrivals[a].after - arrivals[b].after);
  for (let step = 0; waiting.length > 0 || engine.hasWork; step++) {
    while (waiting.length > 0 && arrivals[waiting[0]].after <= step) {
      const id = waiting.shift()!;
      expect(engine.submit({ ...arrivals[id].request, id: `${id}` })).toEqual({ accepted: true });
    }
    for (const event of await engine.step()) {
      if (event.type === 'error') throw new Error(event.error.message);
      const { tokenIds, logprobs } = event.type === 'tokens' ? event : {};
      results[Number(event.id)] +=
        event.type === 'tokens'
          ? `${tokenIds} ${logprobs?.map(({ logprob, rank }) => `${logprob.toFixed(3)} ${rank}`)}; `
          : `${event.finishReason} ${event.stopReason} ${event.usage.completionTokens}`;
    }
  }
  expect(engine.pool.used).toBe(0);
  return results;
}

const LOGPROB = /-?\d+\.\d+/g;
const words = (result: string): string => result.replaceAll(LOGPROB, '');
const logprobs = (result: string): number[] => (result.match(LOGPROB) ?? []).map(Number);

async function expectSame(runs: number, choices: readonly (PipelineChoice | undefined)[]): Promise<void> {
  const { vocabSize } = runner.config;
  const token = fc.integer({ min: 0, max: vocabSize - 1 });
  const arrival = fc
    .record({
      prompt: fc.array(token, { minLength: 1, maxLength: 60 }),
      after: fc.nat(6),
      temperature: fc.constantFrom(0, 0, 1),
      topK: fc.constantFrom(0, 20),
      topP: fc.constantFrom(1, 0.9),
      seed: fc.nat(100),
      repetitionPenalty: fc.constantFrom(1, 1, 1.3),
      logprobs: fc.constantFrom(undefined, 0),
      maxTokens: fc.integer({ min: 1, max: 12 }),
      minTokens: fc.constantFrom(0, 0, 5),
    })
    .map(({ prompt, after, maxTokens, minTokens, ...sampling }): Arrival => {
      const request = ask('', prompt, { maxTokens, minTokens });
      return { after, request: { ...request, sampling: { ...request.sampling, ...sampling } } };
    });
  // Many end tokens, so that requests do end early.
  const endTokens = Array.from({ length: 30 }, (_, i) => (i * 37) % vocabSize);
  await fc.assert(
    fc.asyncProperty(fc.array(arrival, { minLength: 1, maxLength: 7 }), async (arrivals) => {
      runner.usePipelines(undefined);
      const plain = await serve(arrivals, 'plain', endTokens);
      for (const choice of choices) {
        runner.usePipelines(choice);
        const served = await serve(arrivals, 'overlapped', endTokens);
        if (!choice) expect(served).toEqual(plain);
        // Another order of operations rounds otherwise.
        expect(served.map(words)).toEqual(plain.map(words));
        served.flatMap(logprobs).forEach((value, i) => {
          expect(Math.abs(value - plain.flatMap(logprobs)[i])).toBeLessThan(0.002);
        });
      }
    }),
    { numRuns: runs },
  );
}

it('give the same tokens on the cpu device', async () => {
  await expectSame(100, [undefined]);
}, 60_000);

it('give the same tokens through pipelines in halves', async () => {
  const batch = { tokens: 40, decodeTokens: 12 };
  const options = { arrangement: 'halves', grid: 1 } as const;
  const even = overlap(runner.graph(), batch, 12, { ...options, cut: 0.5 });
  const uneven = overlap(runner.graph(), batch, 12, { ...options, colocated: true, firstHalf: 0.3 });
  let step = 0;
  let arranged = 0;
  const choices: PipelineChoice[] = [
    ({ tokens, decodeTokens }) => {
      if (decodeTokens > 1 && tokens > decodeTokens + 1) arranged++;
      return even;
    },
    () => [even, undefined, uneven][step++ % 3],
  ];
  await expectSame(60, choices);
  expect(arranged).toBeGreaterThan(10);
}, 60_000);
