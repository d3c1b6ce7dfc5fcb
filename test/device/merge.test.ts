import { describe, it } from 'vitest';
import { merge } from '../../src/engine/kernels/merge.ts';
import { ATTENTION_COUNT } from '../../src/engine/plan/stepMeta.ts';
import {
  compareWithTwin,
  filled,
  poisoned,
  random,
  randomInt,
  seededRandom,
  type TwinCase,
} from './harness.ts';

describe('merge', () => {
  const next = seededRandom(3);
  for (const [out, headDim] of [
    ['f32', 32],
    ['f32', 30],
    ['f16', 128],
    ['f16', 10],
    ['f32', 256],
  ] as const) {
    const rows = randomInt(next, 1, 40);
    const outRows = rows + 7;
    // Rows of 2 to 5 partial results each, some of them with empty chunks, some with nothing else.
    const indptr = [0];
    for (let i = 0; i < rows; i++) indptr.push(indptr[i] + randomInt(next, 2, 5));
    const partials = indptr[rows];
    it(`${rows} rows of ${headDim} from ${partials} partial rows -> ${out}`, async () => {
      const whole: TwinCase<'merge', 'partialOut' | 'partialLse' | 'out'> = {
        definition: merge,
        capacity: { mergeRows: rows + 3 },
        meta: (words, layout, draw) => {
          const [section] = layout.attention;
          words[section.counts + ATTENTION_COUNT.mergeRows] = rows;
          words.set(indptr, section.mergeIndptr);
          const targets = Array.from({ length: outRows }, (_, i) => i).sort(() => draw() - 0.5);
          words.set(targets.slice(0, rows), section.mergeRow);
        },
        tensors: {
          partialOut: random('f32', [partials + 2, headDim]),
          partialLse: filled('f32', [partials + 2], (i, draw) => {
            const row = indptr.findIndex((end) => end > i) - 1;
            return row % 4 === 1 || draw() < 0.2 ? -1e30 : (draw() - 0.5) * 60;
          }),
          out: poisoned(out, [outRows, headDim]),
        },
        call: ({ partialOut, partialLse, out: view }) => ({
          kernel: 'merge',
          partialOut,
          partialLse,
          out: view,
          headDim,
        }),
      };
      await compareWithTwin(whole);
      await compareWithTwin({ ...whole, invocations: 32, budgets: [undefined, 5] });
    });
  }
});
