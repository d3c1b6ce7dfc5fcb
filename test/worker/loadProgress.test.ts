import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LoadProgress } from '../../src/protocol.ts';
import { throttleProgress } from '../../src/worker/loadProgress.ts';

const weights = (done: number, total: number): LoadProgress => ({
  stage: 'weights',
  done,
  total,
  unit: 'bytes',
  detail: `layers.${done}`,
});
const compiled = (done: number): LoadProgress => ({
  stage: 'compile',
  done,
  total: 0,
  unit: 'kernels',
  detail: `kernel ${done}`,
});

describe('throttleProgress', () => {
  it('sends few messages of many tensors, the last one always, and every other message', () => {
    const gaps = fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(gaps, fc.boolean(), (milliseconds, complete) => {
        let clock = 0;
        const sent: { progress: LoadProgress; at: number }[] = [];
        const throttled = throttleProgress(
          (progress) => sent.push({ progress, at: clock }),
          50,
          () => clock,
        );
        const total = milliseconds.length + (complete ? 0 : 1);
        milliseconds.forEach((gap, i) => {
          clock += gap;
          throttled(weights(i + 1, total));
        });
        throttled(compiled(1));
        throttled(compiled(2));
        const ofWeights = sent.filter(({ progress }) => progress.stage === 'weights');
        expect(ofWeights.length).toBeLessThanOrEqual(clock / 50 + 2);
        expect(ofWeights.at(-1)!.progress.done).toBe(milliseconds.length);
        expect(ofWeights.map(({ progress }) => progress.done)).toEqual(
          ofWeights.map(({ progress }) => progress.done).toSorted((a, b) => a - b),
        );
        expect(sent.slice(-2).map(({ progress }) => progress)).toEqual([compiled(1), compiled(2)]);
      }),
    );
  });

  it('keeps what was held back when a remark follows', () => {
    const sent: LoadProgress[] = [];
    const throttled = throttleProgress(
      (progress) => sent.push(progress),
      50,
      () => 0,
    );
    const remark: LoadProgress = { ...weights(1, 1), detail: 'ignored tensor x' };
    for (const progress of [weights(1, 9), weights(5, 9), remark, remark]) throttled(progress);
    expect(sent).toEqual([weights(1, 9), weights(5, 9), remark, remark]);
  });
});
