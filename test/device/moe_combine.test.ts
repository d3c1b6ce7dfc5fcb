import { describe, it } from 'vitest';
import { moeCombine } from '../../src/engine/kernels/moe_combine.ts';
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

describe('moe_combine', () => {
  const next = seededRandom(31);
  for (const step of [4, 2, 1]) {
    for (const topK of [1, 2, 5]) {
      const hidden = step * (2 * randomInt(next, 1, 50) + 1);
      const capacity = randomInt(next, 2, 20);
      const tokens = randomInt(next, 1, capacity);
      const part = partOf(next, tokens);
      it(`${tokens} tokens of ${hidden}, ${topK} experts each`, async () => {
        const whole: TwinCase<'moe_combine', 'y' | 'weights' | 'out'> = {
          definition: moeCombine,
          counts: { tokens },
          tensors: {
            y: random('f32', [capacity * topK, hidden], 2),
            weights: random('f32', [capacity, topK], 1),
            out: poisoned('f32', [capacity, hidden]),
          },
          call: ({ y, weights, out }) => ({ kernel: 'moe_combine', topK, y, weights, out }),
        };
        await compareWithTwin(whole);
        const tensors = {
          ...whole.tensors,
          y: onlyRows(whole.tensors.y, [part[0] * topK, part[1] * topK]),
          weights: onlyRows(whole.tensors.weights, part),
        };
        await compareWithTwin({
          ...whole,
          tensors,
          part: { tokens: part },
          invocations: 256,
          budgets: PART_BUDGETS,
        });
      });
    }
  }
});
