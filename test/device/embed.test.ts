import { describe, it } from 'vitest';
import { embed } from '../../src/engine/kernels/embed.ts';
import { FROM_SAMPLED, SAMPLED, SAMPLED_WORDS } from '../../src/engine/plan/stepMeta.ts';
import {
  compareWithTwin,
  filled,
  PART_BUDGETS,
  partOf,
  poisoned,
  random,
  randomInt,
  seededRandom,
  type TwinCase,
} from './harness.ts';

describe('embed', () => {
  const next = seededRandom(5);
  for (const [dtype, step] of [
    ['f32', 4],
    ['f32', 2],
    ['f32', 1],
    ['f16', 4],
    ['f16', 2],
  ] as const) {
    const columns = step * (2 * randomInt(next, 1, 90) + 1);
    const capacity = randomInt(next, 6, 16);
    const tokens = randomInt(next, 3, capacity);
    const vocabulary = 40;
    const part = partOf(next, tokens);
    it(`${dtype} table, ${tokens} of ${capacity} tokens, rows of ${columns}, a piece of the table`, async () => {
      const whole: TwinCase<'embed', 'table' | 'sampled' | 'out'> = {
        definition: embed,
        counts: { tokens },
        // Plain ids and ids that the step before sampled, inside and outside of this piece.
        meta: (words, layout, draw) => {
          for (let t = 0; t < capacity; t++) {
            words[layout.tokenIds + t] =
              t % 3 === 0 ? FROM_SAMPLED + randomInt(draw, 0, 4) : randomInt(draw, 0, vocabulary - 1);
          }
        },
        tensors: {
          table: random(dtype, [17, columns]),
          sampled: filled('u32', [5, SAMPLED_WORDS], (index, draw) =>
            index % SAMPLED_WORDS === SAMPLED.token ? randomInt(draw, 0, vocabulary - 1) : 0xffffffff,
          ),
          out: poisoned('f32', [capacity, columns]),
        },
        call: (views) => ({ kernel: 'embed', rowStart: 13, ...views }),
      };
      await compareWithTwin(whole);
      await compareWithTwin({ ...whole, part: { tokens: part }, invocations: 128, budgets: PART_BUDGETS });
    });
  }
});
