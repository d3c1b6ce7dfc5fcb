/** Where a tensor of the device under test differs from the twin's: the text of a failure. */
import { DTYPE_BYTES, elementCount } from '../../src/engine/device.ts';
import { HALF } from './half.ts';
import type { TensorSpec } from './harness.ts';
import type { HalfType } from './testDevice.ts';

/** Largest |got - expected| allowed: absolute + relative * |expected|. */
export interface Tolerance {
  absolute: number;
  relative: number;
}

/** A tensor before and after, on both devices. */
export interface Bytes {
  twinStart: Uint8Array;
  expected: Uint8Array;
  ownStart: Uint8Array;
  got: Uint8Array;
}

/** Text about the first wrong element, or undefined. */
export function firstDifference(
  { spec, half, tolerance }: { spec: TensorSpec; half: HalfType; tolerance: Tolerance | undefined },
  { twinStart, expected, ownStart, got }: Bytes,
): string | undefined {
  const count = elementCount(spec.shape);
  const before = new Uint32Array(twinStart.buffer);
  const twin = new Uint32Array(expected.buffer);
  const twinFloats = new Float32Array(expected.buffer);
  const width = DTYPE_BYTES[spec.dtype];
  const bitsOf = (bytes: Uint8Array): Uint16Array | Uint32Array =>
    width === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer);
  const ownBits = bitsOf(ownStart);
  const gotBits = bitsOf(got);
  const gotFloats = new Float32Array(got.buffer);
  for (let i = 0; i < gotBits.length; i++) {
    const where = i < count ? `[${indexText(i, spec.shape)}]` : `: poison after its end, element ${i}`;
    if (i >= count || twin[i] === before[i]) {
      // The twin did not write here (or wrote what stood there, which then is close enough for a float).
      if (gotBits[i] === ownBits[i]) continue;
      if (i >= count || !tolerance || Number.isNaN(twinFloats[i])) {
        return `${where} was written, the twin leaves it untouched`;
      }
    }
    if (!tolerance) {
      if (gotBits[i] !== twin[i]) return `${where}: got ${gotBits[i]}, expected ${twin[i]}`;
      continue;
    }
    const value = width === 2 ? HALF[half].toFloat(gotBits[i]) : gotFloats[i];
    const want = twinFloats[i];
    if (value === want) continue;
    if (!(Math.abs(value - want) <= tolerance.absolute + tolerance.relative * Math.abs(want))) {
      return `${where}: got ${value}, expected ${want}`;
    }
  }
  return undefined;
}

function indexText(index: number, shape: readonly number[]): string {
  const at: number[] = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    at.unshift(index % shape[axis]);
    index = Math.floor(index / shape[axis]);
  }
  return at.join(', ');
}
