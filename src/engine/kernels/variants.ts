/**
 * Every shader variant that a kernel can choose, for the test that compiles them all without a device: each kernel's
 * file exports `variantDefines`.
 */
import type { Launch } from './definition.ts';

export type Variant = Pick<Launch, 'shader' | 'defines'>;

/** @throws Error when a file's export has the wrong shape. */
export function allVariants(): Variant[] {
  const files = import.meta.glob<{ variantDefines?: readonly Variant[] }>(
    ['./*.ts', '!./index.ts', '!./variants.ts'],
    { eager: true },
  );
  return Object.values(files).flatMap((file) => file.variantDefines ?? []);
}

/** Every combination of the listed values: combine({ IN: ['f32', 'f16'], WIDTH: [4, 2] }) has four. */
export function combine(
  choices: Record<string, readonly (string | number | boolean)[]>,
): Record<string, string | number | boolean>[] {
  return Object.entries(choices).reduce<Record<string, string | number | boolean>[]>(
    (partial, [name, values]) =>
      partial.flatMap((defines) => values.map((value) => ({ ...defines, [name]: value }))),
    [{}],
  );
}
