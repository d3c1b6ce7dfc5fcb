/**
 * What a kernel brings to every room of the house: how to launch it on WebGPU, and its slow twin.
 *
 * `launches` is describe -> choose -> launch in one pure step: it picks a variant from shapes and the target, and says
 * as plain data which WGSL file runs, with which constants, bindings and workgroup count. The webgpu device only
 * carries launches out; it has no code for single kernels.
 */
import type { DeviceTarget, TensorView } from '../device.ts';
import type { CallOf, KernelName } from './calls.ts';

export interface Launch {
  /** shaders/<shader>.wgsl */
  shader: string;
  /** Short text of what was specialised, for logs: "f16 64x64". */
  variant: string;
  /**
   * Values for the preprocessor (device/webgpu/shaders.ts): `#if NAME` / `#else` / `#endif` on booleans, and
   * `{{NAME}}` replaced by the text or number. Everything a pipeline depends on is in shader + defines.
   */
  defines: Record<string, string | number | boolean>;
  /** In order of @binding(1...) of @group(0). @binding(0) is the params uniform. */
  bindings: { view: TensorView; access: 'read' | 'read_write' }[];
  /** Contents of `params` (struct of u32 and f32, at most 256 bytes), written once when a program is compiled. */
  params: (number | { f32: number })[];
  /** Workgroups dispatched (x dimension only). */
  workgroups: number;
  /**
   * Draws its work by ticket: run() does what is left, whoever calls it and how many do. In a joined dispatch every
   * workgroup calls it after its own part.
   */
  dynamic?: boolean;
}

/** Typed access to tensors for the twins: all floats are f32 on the cpu device. */
export interface TwinMemory {
  f32(view: TensorView): Float32Array;
  u32(view: TensorView): Uint32Array;
}

export interface KernelDefinition<K extends KernelName> {
  kernel: K;
  /** One launch, or several in order when the kernel has stages (each an ordinary dispatch). */
  launches(call: CallOf<K>, target: DeviceTarget): Launch[];
  /** The slow twin: plain f32 loops, the truth for tests, and what the cpu device runs. */
  twin(call: CallOf<K>, memory: TwinMemory): void;
}

export type KernelRegistry = { [K in KernelName]: KernelDefinition<K> };
