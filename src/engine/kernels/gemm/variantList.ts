/**
 * The specialisations that choose.ts can ask for, for the test that compiles all shaders without a device: one
 * variant of each shader with every combination of storage types and epilogues (variants differ in numbers only),
 * the others with two.
 */
import { combine, type Variant } from '../variants.ts';
import { EVERY_VARIANT } from './choose.ts';
import { gemmDefines, SHADER, type GemmOperands, type GemmVariant } from './variant.ts';

type Choices = { [K in keyof GemmOperands]: readonly GemmOperands[K][] };

function withOperands(variants: readonly GemmVariant[], choices: Choices): Variant[] {
  return variants.flatMap((variant) =>
    combine(choices).map((operands) => ({
      shader: SHADER[variant.kind],
      defines: gemmDefines(variant, operands as unknown as GemmOperands),
    })),
  );
}

const firstOfEachKind = EVERY_VARIANT.filter(
  (variant, index) => EVERY_VARIANT.findIndex(({ kind }) => kind === variant.kind) === index,
);
const anyK = firstOfEachKind.filter(({ kind }) => kind === 'direct' || kind === 'tile');
/** The gated epilogue needs a gate and an up column for each of two outputs, or of a whole matrix, in one place. */
const gated = (variants: readonly GemmVariant[]): GemmVariant[] =>
  variants.filter((variant) => {
    if (variant.kind === 'few') return variant.columns % 4 === 0;
    return variant.kind !== 'matrix' || variant.bn / variant.sgN >= 32;
  });

const FLOATS = ['f32', 'f16'] as const;
const PLAIN: Choices = {
  aType: FLOATS,
  wType: FLOATS,
  outType: FLOATS,
  k: [64],
  silu: [false],
  bias: [false],
  outOdd: [false],
  grouped: [false],
  gatherToken: [false],
  parts: [1],
  tickets: [false],
};
const HALF: Choices = { ...PLAIN, aType: ['f16'], wType: ['f16'], outType: ['f16'] };
const SINGLE: Choices = { ...PLAIN, aType: ['f32'], wType: ['f32'], outType: ['f32'] };
const GROUPED = { grouped: [true], gatherToken: [true, false] } as const;

export const COMPILED_DENSE: Variant[] = [
  ...withOperands(
    EVERY_VARIANT.filter(({ kind }) => kind === 'matrix'),
    { ...HALF, outType: ['f32'], k: [64, 72], parts: [4], tickets: [true] },
  ),
  ...withOperands(EVERY_VARIANT, HALF),
  ...withOperands(EVERY_VARIANT, SINGLE),
  ...withOperands(firstOfEachKind, { ...PLAIN, bias: [true, false] }),
  ...withOperands(gated(EVERY_VARIANT), { ...HALF, silu: [true], outOdd: [true, false] }),
  ...withOperands(anyK, { ...PLAIN, k: [63], silu: [false, true], outOdd: [true] }),
];

export const COMPILED_GROUPED: Variant[] = [
  ...withOperands(EVERY_VARIANT, { ...HALF, ...GROUPED }),
  ...withOperands(firstOfEachKind, { ...PLAIN, ...GROUPED, outOdd: [true] }),
  ...withOperands(anyK, { ...PLAIN, ...GROUPED, k: [63], outOdd: [true] }),
];
