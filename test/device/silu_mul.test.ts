import { describe, it } from 'vitest';
import { siluMul } from '../../src/engine/kernels/silu_mul.ts';
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

describe('silu_mul', () => {
  const next = seededRandom(11);
  for (const [input, output] of [
    ['f32', 'f32'],
    ['f16', 'f32'],
    ['f32', 'f16'],
    ['f16', 'f16'],
  ] as const) {
    for (const step of [4, 2, 1]) {
      if (step === 1 && (input === 'f16' || output === 'f16')) continue;
      const columns = step * (2 * randomInt(next, 1, 60) + 1);
      const capacity = randomInt(next, 3, 12);
      const rowsPerToken = randomInt(next, 1, 3);
      const tokens = randomInt(next, 1, capacity);
      const part = partOf(next, tokens);
      it(`${input} -> ${output}, ${tokens} tokens x ${rowsPerToken} rows of ${columns}`, async () => {
        const whole: TwinCase<'silu_mul', 'gateUp' | 'out'> = {
          definition: siluMul,
          counts: { tokens },
          tensors: {
            gateUp: random(input, [capacity * rowsPerToken, 2 * columns], 6),
            out: poisoned(output, [capacity * rowsPerToken, columns]),
          },
          call: ({ gateUp, out }) => ({ kernel: 'silu_mul', gateUp, out, rowsPerToken }),
        };
        await compareWithTwin(whole);
        // Slots of a grouped GEMM (compact) count from 0 within the part, rows of tokens do not.
        for (const compact of [true, false]) {
          const before = compact ? part[0] : 0;
          const rows = [(part[0] - before) * rowsPerToken, (part[1] - before) * rowsPerToken] as const;
          await compareWithTwin({
            ...whole,
            tensors: { ...whole.tensors, gateUp: onlyRows(whole.tensors.gateUp, rows) },
            part: { tokens: part },
            invocations: 32,
            call: (views) => ({ kernel: 'silu_mul', ...views, rowsPerToken, compact }),
            budgets: PART_BUDGETS,
          });
        }
      });
    }
  }
});
