/**
 * Number formats of checkpoints: F32, F16 and BF16 to f32, f16 or bf16, a run of elements at a time.
 *
 * f16 and bf16 are rounded to nearest, ties to even; subnormals, infinities and NaN are kept. 16-bit sources go through
 * tables of all 65536 values, built on first use.
 */

export type SourceDtype = 'F32' | 'F16' | 'BF16';
export type WeightDtype = 'f32' | 'f16' | 'bf16';

export const SOURCE_BYTES: Readonly<Record<SourceDtype, 2 | 4>> = { F32: 4, F16: 2, BF16: 2 };

const word = new Uint32Array(1);
const real = new Float32Array(word.buffer);

/** Nearest f16 of the f32 with bits `bits`, as bits. */
export function f32BitsToF16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  if (size >= 0x38800000) {
    // Normal in f16 (2^-14 and up): move the exponent, add just under half a unit, plus one if the unit is odd.
    if (size < 0x47800000) return sign | ((size - 0x38000000 + 0xfff + ((size >>> 13) & 1)) >>> 13);
    return sign | (size > 0x7f800000 ? 0x7e00 : 0x7c00);
  }
  // Subnormal in f16: beside 0.5 the unit of an f32 is 2^-24, the unit of f16 subnormals; storing it rounds.
  word[0] = size;
  real[0] = real[0] + 0.5;
  return sign | (word[0] - 0x3f000000);
}

/** The f32 of an f16 with bits `half`, as bits. */
export function f16BitsToF32Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 31;
  const mantissa = half & 0x3ff;
  if (exponent === 31) return (sign | 0x7f800000 | (mantissa << 13)) >>> 0;
  if (exponent !== 0) return (sign | ((exponent + 112) << 23) | (mantissa << 13)) >>> 0;
  real[0] = mantissa * 2 ** -24;
  return (sign | word[0]) >>> 0;
}

let f16ToF32Table: Uint32Array | undefined;
let bf16ToF16Table: Uint16Array | undefined;

function table<T extends Uint16Array | Uint32Array>(entries: T, of: (bits: number) => number): T {
  for (let bits = 0; bits < entries.length; bits++) entries[bits] = of(bits);
  return entries;
}

/**
 * Converts `count` elements. `source` holds them from byte 0 on (any alignment); `target` takes the results from
 * element `at` on: Float32Array for f32, Uint16Array of bits for f16 and bf16 (`to` says which).
 * @returns the index of the first finite element that became an infinity, else -1
 */
export function convertWeights(
  source: Uint8Array,
  from: SourceDtype,
  target: Float32Array | Uint16Array,
  at: number,
  count: number,
  to: WeightDtype = target instanceof Float32Array ? 'f32' : 'f16',
): number {
  const bytes = SOURCE_BYTES[from];
  const aligned = source.byteOffset % bytes === 0 ? source : source.slice();
  const { buffer, byteOffset } = aligned;
  if (target instanceof Float32Array) {
    if (from === 'F32') {
      target.set(new Float32Array(buffer, byteOffset, count), at);
      return -1;
    }
    const input = new Uint16Array(buffer, byteOffset, count);
    const output = new Uint32Array(target.buffer, target.byteOffset + 4 * at, count);
    if (from === 'BF16') {
      for (let i = 0; i < count; i++) output[i] = input[i] << 16;
    } else {
      const wide = (f16ToF32Table ??= table(new Uint32Array(65536), f16BitsToF32Bits));
      for (let i = 0; i < count; i++) output[i] = wide[input[i]];
    }
    return -1;
  }
  if (to === 'bf16') return convertToBf16(aligned, from, target, at, count);
  if (from === 'F16') {
    target.set(new Uint16Array(buffer, byteOffset, count), at);
    return -1;
  }
  // Bit 15 of `seen` is set when some result has an exponent of all ones.
  let seen = 0;
  if (from === 'BF16') {
    const input = new Uint16Array(buffer, byteOffset, count);
    const narrow = (bf16ToF16Table ??= table(new Uint16Array(65536), (bits) => f32BitsToF16Bits(bits << 16)));
    for (let i = 0; i < count; i++) {
      const half = narrow[input[i]];
      target[at + i] = half;
      seen |= (half & 0x7c00) + 0x400;
    }
    return seen & 0x8000 ? findOverflow(target, at, count, (i) => (input[i] & 0x7f80) !== 0x7f80) : -1;
  }
  const input = new Uint32Array(buffer, byteOffset, count);
  for (let i = 0; i < count; i++) {
    const half = f32BitsToF16Bits(input[i]);
    target[at + i] = half;
    seen |= (half & 0x7c00) + 0x400;
  }
  return seen & 0x8000 ? findOverflow(target, at, count, (i) => (input[i] & 0x7f800000) !== 0x7f800000) : -1;
}

/** Nearest bf16 of the f32 with bits `bits`, as bits; ties to even. */
export function f32BitsToBf16Bits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40; // NaN stays one
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function convertToBf16(
  { buffer, byteOffset }: Uint8Array,
  from: SourceDtype,
  target: Uint16Array,
  at: number,
  count: number,
): number {
  if (from === 'BF16') {
    target.set(new Uint16Array(buffer, byteOffset, count), at);
    return -1;
  }
  if (from === 'F16') {
    const wide = (f16ToF32Table ??= table(new Uint32Array(65536), f16BitsToF32Bits));
    const input = new Uint16Array(buffer, byteOffset, count);
    for (let i = 0; i < count; i++) target[at + i] = f32BitsToBf16Bits(wide[input[i]]);
    return -1;
  }
  const input = new Uint32Array(buffer, byteOffset, count);
  let overflow = -1;
  for (let i = 0; i < count; i++) {
    const bits = input[i];
    target[at + i] = f32BitsToBf16Bits(bits);
    if ((target[at + i] & 0x7fff) === 0x7f80 && (bits & 0x7f800000) !== 0x7f800000 && overflow < 0)
      overflow = i;
  }
  return overflow;
}

function findOverflow(
  target: Uint16Array,
  at: number,
  count: number,
  isFinite: (i: number) => boolean,
): number {
  for (let i = 0; i < count; i++) if ((target[at + i] & 0x7c00) === 0x7c00 && isFinite(i)) return i;
  return -1;
}
