/** Every shader variant of every kernel: what the files in src/engine/kernels/ export as `variantDefines`. */
import type { Variant } from '../../src/engine/kernels/variants.ts';

const files = import.meta.glob<{ variantDefines?: readonly Variant[] }>(
  ['/src/engine/kernels/*.ts', '!/src/engine/kernels/index.ts'],
  { eager: true },
);

export function allVariants(): Variant[] {
  return Object.values(files).flatMap((file) => file.variantDefines ?? []);
}
