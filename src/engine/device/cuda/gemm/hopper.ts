/** Our wgmma kernel as a backend: products of 16-bit operands on Hopper. */
import type { GemmCall } from '../../../kernels/calls.ts';
import { checkGemm } from '../kernels/gemmPortable.ts';
import type { CudaLaunch, CudaModule, CudaTarget } from '../launch.ts';
import { candidates, chooseHopper, type HopperShape } from './hopper/choose.ts';
import { hopperLaunch, hopperModule, type HopperUse } from './hopper/launch.ts';
import {
  ALL_VARIANTS,
  clusterOf,
  GUEST_VARIANTS,
  variantName,
  type HopperVariant,
} from './hopper/variant.ts';
import type { GemmBackend } from './registry.ts';

export const hopper: GemmBackend = {
  name: 'wgmma',
  priority: 30,
  isSupported: ({ cuda }) =>
    cuda.family === 'hopper' ? undefined : `compute capability ${cuda.computeCapability}, it needs 9.0`,
  canImplement,
  /** The analytic choice first. */
  tactics: (call, target) => gemmVariants(call, target).map(variantName),
  launches(call, target, tactic) {
    checkGemm(call);
    return [launchWith(call, tactic === undefined ? chosen(call, target) : named(tactic, call), target)];
  },
  prebuilt: (family) => (family === 'hopper' ? prebuiltModules() : []),
};

function canImplement({ a, w, out, epilogue, add, parts = 1 }: GemmCall): string | undefined {
  const [N, K] = w.shape;
  if (parts > 1) return 'it does not leave products of ranges of K; use add';
  if (a.dtype !== w.dtype || (a.dtype !== 'bf16' && a.dtype !== 'f16'))
    return `operands are ${a.dtype} and ${w.dtype}, expected both bf16 or both f16`;
  if (K % 8 !== 0) return `K = ${K} is no multiple of 8, so rows are not aligned for TMA`;
  if (out.dtype !== 'f32' && out.dtype !== a.dtype) return `no ${a.dtype} product to ${out.dtype}`;
  if (add && out.dtype !== 'f32') return 'add needs an f32 out';
  if (epilogue === 'silu_mul' && N % 16 !== 0)
    return `silu_mul of ${N} weight rows, expected a multiple of 16`;
  if (out.shape.at(-1)! * out.shape.at(-2)! >= 2 ** 32) return 'out has 2^32 elements or more';
  return undefined;
}

/** What a call takes that shares its cores with a guest: the one that leaves most shared memory. */
const [HOST] = GUEST_VARIANTS;

function shapeOf({ w, maxRows, workgroups, a, out }: GemmCall, { cuda }: CudaTarget): HopperShape {
  const [N, K] = w.shape;
  const rows = Math.max(1, Math.min(maxRows, a.shape[0], out.shape.at(-2)!));
  return { rows, N, K, multiprocessors: cuda.multiprocessors, workgroups };
}

function chosen(call: GemmCall, target: CudaTarget): HopperVariant {
  if (call.residency === 'host' && (call.workgroups ?? Infinity) >= clusterOf(HOST)) return HOST;
  return chooseHopper(shapeOf(call, target));
}

/** Variants that are worth timing for a call, the analytic choice first. */
export function gemmVariants(call: GemmCall, target: CudaTarget): HopperVariant[] {
  const first = chosen(call, target);
  return [first, ...candidates(shapeOf(call, target)).filter((variant) => variant !== first)];
}

/** Any variant does any call. */
export function launchWith(call: GemmCall, variant: HopperVariant, target: CudaTarget): CudaLaunch {
  return hopperLaunch(call, variant, target);
}

function named(tactic: string, { label }: GemmCall): HopperVariant {
  const found = ALL_VARIANTS.find((variant) => variantName(variant) === tactic);
  if (found) return found;
  throw new Error(
    `gemm "${label}": no wgmma variant "${tactic}"; there are ${ALL_VARIANTS.map(variantName).join(', ')}`,
  );
}

/** What the model families need: results of 16 bits (Qwen2: with bias) and f32, sums onto the stream, gated results. */
function prebuiltModules(): CudaModule[] {
  const plain = { silu: false, add: false, bias: false };
  return ALL_VARIANTS.flatMap((variant) =>
    (['bf16', 'f16'] as const).flatMap((type) => {
      const uses: HopperUse[] = [
        { ...plain, in: type, out: type },
        { ...plain, in: type, out: type, bias: true },
        { ...plain, in: type, out: 'f32' },
        { ...plain, in: type, out: 'f32', add: true },
        { ...plain, in: type, out: type, silu: true },
      ];
      return uses.map((use) => hopperModule(variant, use));
    }),
  );
}
