/** Half precision (IEEE and bf16) by bits, for tests (Node 20 has no Float16Array). */

const word = new DataView(new ArrayBuffer(4));

/** Nearest half, ties to even; overflow gives infinity. */
export function floatToHalf(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const exponent = (bits >>> 23) & 0xff;
  const fraction = bits & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (fraction ? 0x200 : 0);
  const shifted = exponent - 112; // half's exponent field
  if (shifted >= 31) return sign | 0x7c00;
  // 24-bit significand; subnormal halves lose more of it.
  const significand = exponent === 0 ? fraction : fraction | 0x800000;
  const drop = shifted <= 0 ? 14 - shifted : 13;
  if (drop > 25) return sign;
  const kept = significand >>> drop;
  const rest = significand & (2 ** drop - 1);
  const half = 2 ** (drop - 1);
  const rounded = kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0);
  // A normal number's hidden bit, and a carry out of the fraction, add to the exponent.
  return sign | (shifted <= 0 ? rounded : ((shifted - 1) << 10) + rounded);
}

export function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Nearest bf16 (the upper half of an f32), ties to even. */
export function floatToBf16(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40; // NaN stays one
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function bf16ToFloat(bits: number): number {
  word.setUint32(0, bits << 16);
  return word.getFloat32(0);
}

/** Conversions of each 16-bit storage type. */
export const HALF = {
  f16: { toBits: floatToHalf, toFloat: halfToFloat, poison: 0x7e5a },
  bf16: { toBits: floatToBf16, toFloat: bf16ToFloat, poison: 0x7fda },
} as const;
