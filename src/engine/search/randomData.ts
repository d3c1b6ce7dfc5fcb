/** Random contents for buffers that are only measured. */
import type { DType } from '../device.ts';

/** Bytes of a block that is repeated: larger than any cache line pattern, small enough to make at once. */
export const BLOCK_BYTES = 2 ** 22;

/** Words whose f32 or f16 values are finite and below 1 in size, signs and fractions random; always the same. */
export function randomStorage(dtype: DType, bytes: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(bytes / 4);
  let state = 12345;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = dtype === 'f16' ? (state & 0x83ff83ff) | 0x34003400 : (state & 0x807fffff) | 0x3e800000;
  }
  return words;
}
