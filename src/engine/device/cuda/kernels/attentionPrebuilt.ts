/** Which variants of attention are built ahead of time: whatever the choosers can take for the shapes of models. */
import type { AotShapes, CudaTarget } from '../launch.ts';
import {
  checkHeadDim,
  chooseAttention,
  chooseMixed,
  type CudaAttentionShape,
  type CudaAttentionVariant,
} from './attentionVariants.ts';

/** Shapes of the model families of the engine; groups up to 8 and pages of 8, 16, ... tokens get the same variants. */
const HEAD_DIMS = [64, 128, 256];
const GROUPS = [4];
const PAGE_SIZES = [16];
/** Shared memory of a CTA: of 8.0; of 8.6, 8.9 and 12.0; of 10.0. As many units are on their way as fit. */
const PORTABLE_BYTES = [166912, 101376, 232448];

/** Targets that stand for their family. */
function familyTargets(family: CudaTarget['cuda']['family']): CudaTarget[] {
  const hopper = family === 'hopper';
  return (hopper ? [232448] : PORTABLE_BYTES).map((sharedBytesPerCta) => {
    const computeCapability = hopper ? 90 : 80;
    const cuda = { computeCapability, family, multiprocessors: 132, sharedBytesPerCta, l2Bytes: 0 };
    return { kind: 'cuda', cuda } as CudaTarget; // the choosers look at nothing else
  });
}

export interface PrebuiltVariant {
  type: 'bf16' | 'f16';
  variant: CudaAttentionVariant;
}

/** @throws Error for shapes that no kernel has. */
export function prebuiltVariants(
  family: CudaTarget['cuda']['family'],
  { headDims = [], groups = [], pageSizes = [] }: AotShapes = {},
): PrebuiltVariant[] {
  const found: PrebuiltVariant[] = [];
  for (const headDim of [...HEAD_DIMS, ...headDims]) {
    checkHeadDim(headDim, 'attention');
    for (const group of [...GROUPS, ...groups]) {
      for (const pageSize of [...PAGE_SIZES, ...pageSizes]) {
        for (const type of ['bf16', 'f16'] as const) {
          const shape = { headDim, group, pageSize, qType: type, kvType: type };
          const variants = familyTargets(family).flatMap((target) => variantsOf(shape, target));
          found.push(...variants.map((variant) => ({ type, variant })));
        }
      }
    }
  }
  return found;
}

/** Both tile sizes, alone and in one launch; on Hopper the guest, too. */
function variantsOf(shape: Omit<CudaAttentionShape, 'tile'>, target: CudaTarget): CudaAttentionVariant[] {
  const hopper = target.cuda.family === 'hopper';
  return [
    chooseAttention({ ...shape, tile: 16 }, target),
    chooseAttention({ ...shape, tile: 128 }, target),
    chooseMixed(shape, target) ?? [],
    hopper ? chooseAttention({ ...shape, tile: 16, threads: 128 }, target) : [],
  ].flat();
}
