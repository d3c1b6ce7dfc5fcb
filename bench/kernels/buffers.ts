/** Tensors of a bench case. */
import type { Device, DType, TensorView } from '../../src/engine/device.ts';
import { elementCount, tensor, tensorBytes } from '../../src/engine/device.ts';

export class Buffers {
  private readonly views: TensorView[] = [];
  private readonly device: Device;
  private readonly random32: () => number;
  constructor(device: Device, seed = Math.floor(Math.random() * 2 ** 32)) {
    this.device = device;
    let state = seed;
    this.random32 = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      // The low bits of such a generator repeat soon.
      return (state ^ (state >>> 16)) >>> 0;
    };
  }

  make(label: string, dtype: DType, shape: number[]): TensorView {
    const view = tensor(this.device.createBuffer(label, tensorBytes(dtype, shape)), dtype, shape);
    this.views.push(view);
    return view;
  }

  /** Random numbers in about [-1, 1), one stretch of them repeated: data of zeros would flatter clocks and caches. */
  random(label: string, dtype: 'f32' | 'f16' | 'bf16', shape: number[]): TensorView {
    const view = this.make(label, dtype, shape);
    const stretch = new Uint32Array(Math.min(2 ** 20, Math.ceil(tensorBytes(dtype, shape) / 4)));
    const floats = new Float32Array(stretch.buffer);
    // For f16: exponent 01110 or less, so that every value is finite and below 1 in size.
    if (dtype === 'f16') for (let i = 0; i < stretch.length; i++) stretch[i] = this.random32() & 0xbbffbbff;
    // For bf16: signs and fractions random, exponents of numbers from 1/4 to 1.
    else if (dtype === 'bf16')
      for (let i = 0; i < stretch.length; i++) stretch[i] = (this.random32() & 0x80ff80ff) | 0x3e803e80;
    else for (let i = 0; i < floats.length; i++) floats[i] = this.random32() / 2 ** 31 - 1;
    const words = Math.ceil((elementCount(shape) * (dtype === 'f32' ? 4 : 2)) / 4);
    for (let at = 0; at < words; at += stretch.length) {
      this.device.write(view.buffer, at * 4, stretch.subarray(0, Math.min(stretch.length, words - at)));
    }
    return view;
  }

  free(): void {
    this.views.forEach((view) => this.device.destroyBuffer(view.buffer));
  }
}
