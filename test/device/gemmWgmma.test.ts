/** Every variant of gemm_wgmma on small shapes: short enough for compute-sanitizer, which the large ones are not. */
import { describe, it, type TestContext } from 'vitest';
import { loadAddon } from '../../src/engine/device/cuda/addon.ts';
import {
  ALL_VARIANTS,
  clusterOf,
  variantName,
  weightsOf,
  type HopperVariant,
} from '../../src/engine/device/cuda/gemm/hopper/variant.ts';
import { gemm } from '../../src/engine/kernels/gemm.ts';
import { compareWithTwin, poisoned, random, randomInt, seededRandom, type Random } from './harness.ts';
import { TOLERANCE } from './gemmVariants.ts';
import { ON_CUDA, onlyOnCuda } from './testDevice.ts';

function onlyOnHopper(context: TestContext): void {
  onlyOnCuda(context, 'a variant of gemm_wgmma');
  const [device] = ON_CUDA ? loadAddon().probe().devices : [];
  context.skip(device?.computeCapability !== 90, 'only on compute capability 9.0');
}

type Epilogue = 'bias' | 'add' | 'silu';

/** One random shape: up to two clusters of tiles and a bit in each direction, and up to four steps of K and a bit. */
async function compare(variant: HopperVariant, next: Random, epilogue: Epilogue): Promise<void> {
  const silu = epilogue === 'silu';
  const out = epilogue === 'add' ? 'f32' : 'f16';
  const rows = randomInt(next, 1, 2 * variant.tokens * variant.clusterT + 3);
  const most = 2 * weightsOf(variant) * variant.clusterW + 9;
  const columns = silu ? 8 * randomInt(next, 1, most >> 4) : randomInt(next, 1, most);
  const k = 8 * randomInt(next, 1, 36);
  const capacity = rows + randomInt(next, 0, 3);
  await compareWithTwin({
    definition: gemm,
    families: ['hopper'],
    counts: { tokens: rows, logitRows: 1 },
    tensors: {
      a: random('f16', [capacity, k]),
      w: random('f16', [silu ? 2 * columns : columns, k]),
      bias: random('f32', [columns], 4),
      out: out === 'f32' ? random('f32', [capacity, columns], 4) : poisoned('f16', [capacity, columns]),
    },
    call: ({ a, w, bias, out: to }) => ({
      kernel: 'gemm' as const,
      rows: 'tokens' as const,
      maxRows: capacity,
      a,
      w,
      ...(epilogue === 'bias' ? { bias } : {}),
      out: to,
      outColumn: 0,
      ...(epilogue === 'add' ? { add: true } : {}),
      epilogue: silu ? ('silu_mul' as const) : ('none' as const),
      backend: `wgmma/${variantName(variant)}`,
    }),
    tolerance: TOLERANCE[out],
    // One cluster has all tiles; a few divide them; and more than there are tiles cut them along K.
    budgets: [undefined, clusterOf(variant), 3 * clusterOf(variant)],
    seed: randomInt(next, 1, 1e6),
  });
}

describe('wgmma, small shapes', () => {
  ALL_VARIANTS.forEach((variant, at) => {
    it(variantName(variant), { timeout: 120_000 }, async (context) => {
      onlyOnHopper(context);
      const next = seededRandom(700 + at);
      for (const epilogue of ['bias', 'add', 'silu'] as const) await compare(variant, next, epilogue);
    });
  });
});
