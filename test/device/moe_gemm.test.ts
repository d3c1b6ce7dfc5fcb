import { describe, it } from 'vitest';
import { moeGemm } from '../../src/engine/kernels/moe_gemm.ts';
import { moeGemmLaunch } from '../../src/engine/kernels/gemm/launch.ts';
import {
  compareWithTwin,
  filled,
  onlyRows,
  poisoned,
  random,
  randomInt,
  seededRandom,
  type Random,
} from './harness.ts';
import { onlyOnCuda, onlyOnWebgpu } from './testDevice.ts';
import { HALF_IN, PORTABLE, TOLERANCE, TYPES, type Forced } from './gemmVariants.ts';

/** A random routing of tokens [before, before + tokens): slotSource (slots sorted by expert, token order within one) and expertStart. */
function route(next: Random, before: number, tokens: number, topK: number, experts: number, skewed: boolean) {
  const slots: { expert: number; source: number }[] = [];
  for (let token = before; token < before + tokens; token++) {
    const free = Array.from({ length: experts }, (_, expert) => expert);
    for (let choice = 0; choice < topK; choice++) {
      const pick = skewed ? 0 : randomInt(next, 0, free.length - 1);
      slots.push({ expert: free.splice(pick, 1)[0], source: token * topK + choice });
    }
  }
  slots.sort((a, b) => a.expert - b.expert || a.source - b.source);
  const starts = Array.from(
    { length: experts + 1 },
    (_, expert) => slots.filter((s) => s.expert < expert).length,
  );
  return { sources: slots.map(({ source }) => source), starts };
}

async function compare(
  { variant, kStep }: Pick<Forced, 'kStep'> & Partial<Forced>,
  next: Random,
  gather: 'token' | 'slot',
  types: (typeof TYPES)[number] | typeof HALF_IN,
  tokens: number,
  budgets: readonly (number | undefined)[],
  maxRows = 1,
  multiprocessors?: number,
): Promise<void> {
  const [aType, wType, outType] = types;
  const experts = randomInt(next, 3, 6);
  const topK = randomInt(next, 1, 3);
  const first = randomInt(next, 0, experts - 1); // the piece holds experts [first, first + held)
  const held = randomInt(next, 1, experts - first);
  const k = kStep * randomInt(next, 1, Math.ceil(90 / kStep));
  const n = randomInt(next, 1, 70);
  const before = randomInt(next, 0, 3); // rows of the batch in front of the call's
  const { sources, starts } = route(next, before, tokens, topK, experts, next() < 0.4);
  const capacity = before + tokens + 1;
  const used: [number, number] = gather === 'token' ? [before, before + tokens] : [0, tokens * topK];
  await compareWithTwin({
    definition: variant
      ? { ...moeGemm, launches: (call, target) => [moeGemmLaunch(call, variant, target)] }
      : moeGemm,
    counts: { tokens },
    tensors: {
      a: onlyRows(random(aType, [gather === 'token' ? capacity : capacity * topK, k]), used),
      w: random(wType, [held, n, k]),
      slotSource: filled('u32', [capacity * topK], (slot) => sources[slot] ?? 0xffffffff),
      expertStart: filled('u32', [experts + 1], (expert) => starts[expert]),
      out: poisoned(outType, [capacity * topK, n]),
    },
    call: ({ a, w, slotSource, expertStart, out }) => ({
      kernel: 'moe_gemm' as const,
      maxRows: Math.max(maxRows, tokens * topK),
      gather,
      topK,
      a,
      w,
      expertFirst: first,
      slotSource,
      expertStart,
      out,
    }),
    tolerance: TOLERANCE[outType],
    multiprocessors,
    budgets,
    seed: randomInt(next, 1, 1e6),
  });
}

describe('moe_gemm', () => {
  PORTABLE.forEach((forced, index) => {
    it(forced.name, { timeout: 120_000 }, async (context) => {
      onlyOnWebgpu(context, 'a WGSL variant');
      const next = seededRandom(500 + index);
      const barriers = forced.variant.kind === 'tile' || forced.variant.kind === 'few';
      const budgets = barriers ? [1, 5] : [undefined, 1, 7, 1000];
      const gather = index % 2 === 0 ? ('token' as const) : ('slot' as const);
      await compare(forced, next, gather, TYPES[index % 5], randomInt(next, 2, 30), budgets);
    });
  });

  for (const gather of ['token', 'slot'] as const) {
    it(`the chosen variant, any budget: gather by ${gather}`, { timeout: 120_000 }, async () => {
      const next = seededRandom(77);
      const budgets = [undefined, 1, 2, 3, 7, 1000];
      for (const tokens of [0, 1, 9, 40])
        await compare({ kStep: 1 }, next, gather, TYPES[0], tokens, budgets);
      for (const tokens of [3, 24]) await compare({ kStep: 8 }, next, gather, TYPES[2], tokens, budgets);
    });
  }

  for (const types of [...TYPES, HALF_IN]) {
    for (const maxRows of [1, 60, 5000]) {
      it(`cuda, for up to ${maxRows} slots: ${types.join(' ')}`, async (context) => {
        onlyOnCuda(context, 'tiles of the cuda kernels');
        const next = seededRandom(maxRows);
        for (const kStep of [1, 8, 64]) {
          for (const gather of ['token', 'slot'] as const) {
            const tokens = randomInt(next, 1, 150);
            const multiprocessors = [1, 4, 132][randomInt(next, 0, 2)];
            const budgets = [undefined, 3];
            await compare({ kStep }, next, gather, types, tokens, budgets, maxRows, multiprocessors);
          }
        }
      });
    }
  }
});
