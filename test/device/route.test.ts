import { describe, it } from 'vitest';
import { route } from '../../src/engine/kernels/route.ts';
import {
  compareWithTwin,
  onlyRows,
  PART_BUDGETS,
  partOf,
  poisoned,
  random,
  randomInt,
  seededRandom,
  type TwinCase,
} from './harness.ts';

describe('route', () => {
  const next = seededRandom(21);
  for (const [experts, topK] of [
    [8, 2],
    [1, 1],
    [5, 5],
    [64, 8],
    [129, 16],
  ]) {
    for (const [normalize, software] of [
      [true, true],
      [false, false], // the sort by many lanes, as on GPUs
    ]) {
      const capacity = randomInt(next, 2, 90);
      const tokens = randomInt(next, 1, capacity);
      const part = partOf(next, tokens);
      it(`${tokens} tokens, ${topK} of ${experts} experts${normalize ? ', normalised' : ''}${software ? '' : ', many lanes'}`, async () => {
        const whole: TwinCase<'route', 'logits' | 'weights' | 'choices' | 'slotSource' | 'expertStart'> = {
          definition: {
            ...route,
            launches: (call, target) => route.launches(call, { ...target, software }),
          },
          counts: { tokens },
          tensors: {
            logits: random('f32', [capacity, experts], 4),
            weights: poisoned('f32', [capacity, topK]),
            choices: poisoned('u32', [capacity, topK]),
            slotSource: poisoned('u32', [capacity * topK]),
            expertStart: poisoned('u32', [experts + 1]),
          },
          call: (tensors) => ({ kernel: 'route', topK, normalize, ...tensors }),
        };
        await compareWithTwin(whole);
        const tensors = { ...whole.tensors, logits: onlyRows(whole.tensors.logits, part) };
        await compareWithTwin({ ...whole, tensors, part: { tokens: part }, budgets: PART_BUDGETS });
      });
    }
  }
});
