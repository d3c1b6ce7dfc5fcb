import { describe, expect, it } from 'vitest';
import { ropeAppend } from '../../src/engine/kernels/rope_append.ts';
import {
  compareWithTwin,
  filled,
  onlyRows,
  partOf,
  poisoned,
  random,
  randomInt,
  seededRandom,
  type TwinCase,
} from './harness.ts';

interface Shape {
  input: 'f32' | 'f16';
  output: 'f32' | 'f16';
  headDim: number;
  norm: boolean;
}

/** Head dimensions whose half divides by 4, by 2, and is odd, each with storage in all combinations; then others. */
const SHAPES: Shape[] = [
  ...[128, 20, 6].flatMap((headDim) =>
    (['f32', 'f16'] as const).flatMap((input) =>
      (['f32', 'f16'] as const).flatMap((output) =>
        [false, true].map((norm) => ({ input, output, headDim, norm })),
      ),
    ),
  ),
  { input: 'f32', output: 'f32', headDim: 8, norm: false },
  { input: 'f16', output: 'f16', headDim: 24, norm: true },
  { input: 'f32', output: 'f16', headDim: 4, norm: false },
  { input: 'f32', output: 'f32', headDim: 2, norm: true },
  { input: 'f16', output: 'f16', headDim: 26, norm: false },
];

describe('rope_append', () => {
  const next = seededRandom(17);
  for (const { input, output, headDim, norm } of SHAPES) {
    const kvHeads = randomInt(next, 1, 3);
    const heads = kvHeads * randomInt(next, 1, 4);
    const capacity = randomInt(next, 2, 9);
    const tokens = randomInt(next, 1, capacity);
    const part = partOf(next, tokens);
    const pageSize = randomInt(next, 1, 5);
    const pages = Math.ceil(capacity / pageSize) + 2;
    const name =
      `${input} -> ${output}, ${heads}/${kvHeads} heads of ${headDim}${norm ? ' with norm' : ''}, ` +
      `${tokens} of ${capacity} tokens, pages of ${pageSize}`;
    it(name, async () => {
      const positions = 50;
      const cache = poisoned(output, [pages, kvHeads, pageSize, headDim]);
      const whole: TwinCase<'rope_append', 'qkv' | 'qNorm' | 'kNorm' | 'table' | 'q' | 'kCache' | 'vCache'> =
        {
          definition: ropeAppend,
          budgets: [undefined, 1, 7],
          counts: { tokens },
          // Slots are distinct and in no order, as pages are.
          meta: (words, layout, draw) => {
            const slots = Array.from({ length: pages * pageSize }, (_, slot) => slot);
            for (let t = 0; t < capacity; t++) {
              words[layout.positions + t] = randomInt(draw, 0, positions - 1);
              words[layout.kvSlots + t] = slots.splice(randomInt(draw, 0, slots.length - 1), 1)[0];
            }
          },
          tensors: {
            qkv: random(input, [capacity, (heads + 2 * kvHeads) * headDim], 2),
            qNorm: random('f32', [headDim]),
            kNorm: random('f32', [headDim]),
            table: filled('f32', [positions, headDim / 2, 2], (index) => {
              const angle = Math.floor(index / headDim) * (1 + (Math.floor(index / 2) % (headDim / 2)));
              return index % 2 === 0 ? Math.cos(angle) : Math.sin(angle);
            }),
            q: poisoned(output, [capacity, heads, headDim]),
            kCache: cache,
            vCache: cache,
          },
          call: ({ qkv, qNorm, kNorm, table, q, kCache, vCache }) => ({
            kernel: 'rope_append',
            ...{ qkv, table, q, kCache, vCache, heads, kvHeads, headDim, pageSize },
            ...(norm ? { qNorm, kNorm } : {}),
            epsilon: 1e-6,
          }),
        };
      await compareWithTwin(whole);
      const tensors = { ...whole.tensors, qkv: onlyRows(whole.tensors.qkv, part) };
      await compareWithTwin({
        ...whole,
        tensors,
        part: { tokens: part },
        invocations: 32,
        budgets: [undefined, 700],
      });
    });
  }

  it('refuses an odd head dimension', async () => {
    await expect(
      compareWithTwin({
        definition: ropeAppend,
        counts: { tokens: 1 },
        tensors: {
          qkv: random('f32', [1, 9]),
          table: random('f32', [4, 1, 2]),
          q: poisoned('f32', [1, 1, 3]),
          kCache: poisoned('f32', [1, 1, 1, 3]),
          vCache: poisoned('f32', [1, 1, 1, 3]),
        },
        call: (views) => ({
          kernel: 'rope_append',
          ...views,
          ...{ heads: 1, kvHeads: 1, headDim: 3, pageSize: 1, epsilon: 1e-6 },
        }),
      }),
    ).rejects.toThrow(/got a head dimension of 3, expected an even number/);
  });
});
