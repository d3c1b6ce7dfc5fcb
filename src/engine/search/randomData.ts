/** Random contents for buffers that are only measured. */
import type { DType } from '../device.ts';

/** Bytes of a block that is repeated: larger than any cache line pattern, small enough to make at once. */
export const BLOCK_BYTES = 2 ** 22;

/** Which bits of a word are random, and the others: exponents of 1/4 to 1/2. */
const BITS: Record<DType, { random: number; fixed: number }> = {
  f32: { random: 0x807fffff, fixed: 0x3e800000 },
  f16: { random: 0x83ff83ff, fixed: 0x34003400 },
  bf16: { random: 0x807f807f, fixed: 0x3e803e80 },
  u32: { random: 0xffffffff, fixed: 0 },
};

/** Words whose values are finite and below 1 in size, signs and fractions random; always the same. */
export function randomStorage(dtype: DType, bytes: number): Uint32Array<ArrayBuffer> {
  const { random, fixed } = BITS[dtype];
  const words = new Uint32Array(bytes / 4);
  let state = 12345;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = (state & random) | fixed;
  }
  return words;
}
