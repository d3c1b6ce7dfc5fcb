import { describe, it } from 'vitest';
import { gemm } from '../../src/engine/kernels/gemm.ts';
import { gemmLaunch } from '../../src/engine/kernels/gemm/launch.ts';
import {
  compareWithTwin,
  onlyRows,
  partOf,
  poisoned,
  random,
  randomInt,
  seededRandom,
  type Random,
  type TwinCase,
} from './harness.ts';
import { onlyOnCuda, onlyOnWebgpu } from './testDevice.ts';
import { HALF_IN, PORTABLE, TOLERANCE, TYPES, type Forced } from './gemmVariants.ts';

interface Options {
  types: (typeof TYPES)[number] | typeof HALF_IN;
  silu: boolean;
  rows: number;
  /** Output columns and rows may start at odd elements. */
  odd: boolean;
  logits?: boolean;
  add?: boolean;
  /** Ranges of K, columns and rows that the program is for; small when left out. */
  deep?: number;
  columns?: number;
  maxRows?: number;
  multiprocessors?: number;
  budgets: readonly (number | undefined)[];
}

/** One random shape; the variant is forced, or the chooser's for K that is a multiple of `kStep`. */
async function compare(
  { variant, kStep }: Pick<Forced, 'kStep'> & Partial<Forced>,
  next: Random,
  options: Options,
): Promise<void> {
  const { silu, rows, odd } = options;
  const [aType, wType, outType] = options.types;
  const k = kStep * randomInt(next, 1, Math.ceil((options.deep ?? 150) / kStep));
  const columns = randomInt(next, 1, options.columns ?? 90);
  const capacity = Math.max(1, rows + randomInt(next, 0, 3));
  const outColumn = odd ? 2 * randomInt(next, 0, 3) + 1 : 2 * randomInt(next, 0, 3);
  const used = outColumn + columns + randomInt(next, 0, 5);
  const ldc = odd ? used : used + (used % 2);
  const withBias = !silu && next() < 0.5;
  const whole: TwinCase<'gemm', 'a' | 'w' | 'bias' | 'out'> = {
    definition: variant ? { ...gemm, launches: (call, target) => [gemmLaunch(call, variant, target)] } : gemm,
    counts: { tokens: rows, logitRows: Math.min(rows, 3) },
    tensors: {
      a: random(aType, [capacity, k]),
      w: random(wType, [silu ? 2 * columns : columns, k]),
      bias: random('f32', [columns], 4),
      out: options.add ? random(outType, [capacity, ldc], 4) : poisoned(outType, [capacity, ldc]),
    },
    call: ({ a, w, bias, out }) => ({
      kernel: 'gemm' as const,
      rows: options.logits ? ('logitRows' as const) : ('tokens' as const),
      maxRows: Math.max(1, rows, options.maxRows ?? 0),
      a,
      w,
      ...(withBias ? { bias } : {}),
      out,
      outColumn,
      ...(options.add ? { add: true } : {}),
      epilogue: silu ? ('silu_mul' as const) : ('none' as const),
    }),
    tolerance: TOLERANCE[outType],
    multiprocessors: options.multiprocessors,
    budgets: options.budgets,
    seed: randomInt(next, 1, 1e6),
  };
  await compareWithTwin(whole);
  if (rows < 2) return;
  const part = partOf(next, options.logits ? Math.min(rows, 3) : rows);
  await compareWithTwin({
    ...whole,
    tensors: { ...whole.tensors, a: onlyRows(whole.tensors.a, part) },
    part: options.logits ? { logitRows: part } : { tokens: part },
    budgets: options.budgets.slice(0, 2),
  });
}

describe('gemm', () => {
  PORTABLE.forEach((forced, index) => {
    it(forced.name, { timeout: 120_000 }, async (context) => {
      onlyOnWebgpu(context, 'a WGSL variant');
      const next = seededRandom(100 + index);
      // Kept few: a CPU driver takes seconds to compile the larger specialisations and to wait at barriers.
      const barriers = forced.variant.kind === 'tile' || forced.variant.kind === 'few';
      const few = barriers ? [2] : [undefined, 3];
      const many = barriers ? [1, 5] : [undefined, 1, 7, 1000];
      const cases: Options[] = [
        { rows: randomInt(next, 18, 70), types: TYPES[index % 5], silu: false, odd: false, budgets: many },
        { rows: randomInt(next, 2, 17), types: TYPES[(index + 1) % 5], silu: true, odd: true, budgets: few },
        { rows: 1, types: TYPES[(index + 2) % 5], silu: false, odd: true, budgets: few },
        { rows: 0, types: TYPES[index % 5], silu: false, odd: false, budgets: few },
      ];
      if (forced.plainOnly) cases[1].silu = false;
      for (const options of cases) await compare(forced, next, options);
    });
  });

  for (const [kStep, types] of [
    [1, TYPES[0]],
    [8, TYPES[1]],
    [4, TYPES[2]],
  ] as const) {
    it(`the chosen variant, any budget: ${types.join(' ')}`, { timeout: 120_000 }, async () => {
      const next = seededRandom(99 + kStep);
      const budgets = [undefined, 1, 2, 3, 7, 1000];
      for (const rows of [1, 2, 5, 33]) {
        const logits = rows === 5;
        await compare({ kStep }, next, { types, rows, silu: rows % 2 === 1, odd: false, logits, budgets });
      }
    });
  }

  // On cuda the chooser goes by rows, columns and the GPU's size: every tile of both families gets some of these.
  for (const types of [...TYPES, HALF_IN]) {
    for (const maxRows of [1, 16, 64, 300, 2000]) {
      it(`cuda, for up to ${maxRows} rows: ${types.join(' ')}`, async (context) => {
        onlyOnCuda(context, 'tiles of the cuda kernels');
        const next = seededRandom(maxRows);
        for (const [multiprocessors, kStep, columns, deep] of [
          [1, 8, 300, 700],
          [7, 8, 300, 300],
          [132, 64, 5000, 300],
          [40, 8, 40, 3000],
          [1, 1, 90, 90],
        ]) {
          const rows = randomInt(next, 1, Math.min(maxRows, 300));
          const silu = next() < 0.4;
          const add = !silu && types[2] === 'f32' && next() < 0.5;
          const odd = next() < 0.3;
          const logits = next() < 0.2;
          const budgets = [undefined, 1, 5];
          const shape = { deep, columns, maxRows, multiprocessors };
          await compare({ kStep }, next, { types, rows, silu, add, odd, logits, budgets, ...shape });
        }
      });
    }
  }
});
