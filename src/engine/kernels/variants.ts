/**
 * Shader variants that kernels can choose. Each kernel's file exports them all as `variantDefines`; a test compiles
 * every one without a device (test/kernels/compile.test.ts).
 */
import type { Launch } from './definition.ts';

export type Variant = Pick<Launch, 'shader' | 'defines'>;

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
