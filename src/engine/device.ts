/**
 * The one interface that every device implements (webgpu, cuda, cpu, sim).
 *
 * A device knows buffers and kernel calls; it knows nothing of requests, models or pipelines. Work reaches it as a
 * `Program`: a list of kernel calls (plain data) that is compiled once for a shape bucket and replayed every step.
 * What changes from step to step (token ids, positions, page tables, work items, sampling parameters) travels in one
 * small metadata buffer whose layout never moves (plan/stepMeta.ts), so a step is: write metadata, submit, read tokens.
 */
import type { KernelCall, ProgramCall } from './kernels/calls.ts';

export type DeviceKind = 'webgpu' | 'cuda' | 'cpu' | 'sim';

/** Storage types of tensors on a device. Arithmetic always accumulates in f32. bf16 is there on cuda only. */
export type DType = 'f32' | 'f16' | 'bf16' | 'u32';

export const DTYPE_BYTES: Record<DType, number> = { f32: 4, f16: 2, bf16: 2, u32: 4 };

/** Memory on a device. Opaque: only the device that made it may look inside. */
export interface DeviceBuffer {
  readonly label: string;
  readonly bytes: number;
}

/** A dense row-major tensor inside a buffer. */
export interface TensorView {
  buffer: DeviceBuffer;
  offset: number; // bytes from the start of the buffer; a multiple of 256 (WebGPU's storage offset alignment)
  dtype: DType;
  shape: number[];
}

/** What choosers may look at: pure functions of these facts pick kernel variants and workgroup budgets. */
export interface DeviceTarget {
  kind: DeviceKind;
  /** Adapter name for people, e.g. "NVIDIA H100 80GB HBM3" or "llvmpipe (LLVM 19, 256 bits)". */
  name: string;
  vendor: string;
  /** Runs on CPU cores (lavapipe, SwiftShader, the cpu device): barriers are slow, few workgroups are enough. */
  software: boolean;
  features: {
    f16: boolean; // shader-f16
    subgroups: boolean;
    /** f16 x f16 -> f32 16x16x16 subgroup matrices. */
    subgroupMatrix: boolean;
    timestamps: boolean;
  };
  subgroupSize: { min: number; max: number };
  limits: {
    maxStorageBuffers: number; // per shader stage; 8 by default
    maxBindingBytes: number; // 128 MiB by default
    maxBufferBytes: number;
    maxWorkgroupBytes: number; // 16 KiB by default
    maxInvocations: number; // per workgroup; 256 by default
    maxWorkgroups: number; // per dispatch dimension
  };
  /** Workgroups that fill the device with one resident wave of a typical kernel; the default budget. */
  defaultWorkgroups: number;
}

/** A program compiled for one device. Replaying it reads whatever the metadata buffer holds at that moment. */
export interface CompiledProgram {
  readonly label: string;
  readonly calls: readonly ProgramCall[];
  destroy(): void;
}

/** One kernel pipeline was built: shown in the log before the first request. */
export interface CompileEvent {
  kernel: string; // e.g. "gemm_tile f16 64x64"
  milliseconds: number;
}

/** GPU time of one call of a submitted program, when the device can tell. */
export interface CallTiming {
  kernel: string;
  label: string;
  /** The call, where the device knows: one that takes several launches has as many timings. */
  call?: KernelCall;
  microseconds: number;
  /** When it began, from the begin of the first call of the same profile; for traces. */
  startNanoseconds?: number;
}

/** A piece of a call's work: what one CTA did in between, on one multiprocessor. */
export interface ProfiledItem {
  kernel: string;
  label: string;
  /** The call that it is a part of. */
  call?: KernelCall;
  cta: number;
  sm: number;
  /** What it is: "tile", "item of 16 rows". */
  event: string;
  /** Which one of its launch. */
  number: number;
  /** Nanoseconds from the first begin of the profile. */
  beginNs: number;
  endNs: number;
}

export interface DeviceLostInfo {
  reason: string;
}

export interface Device {
  readonly target: DeviceTarget;
  /** Resolves once if the device is gone; every later call rejects or throws `DeviceLostError`. */
  readonly lost: Promise<DeviceLostInfo>;

  /** @throws Error naming label, bytes and the limit when the device cannot hold it. Contents start as zeros. */
  createBuffer(label: string, bytes: number): DeviceBuffer;
  destroyBuffer(buffer: DeviceBuffer): void;
  /** Ordered before every later submit. `data` may be reused by the caller as soon as the call returns. */
  write(buffer: DeviceBuffer, byteOffset: number, data: ArrayBufferView): void;
  /** Copies bytes back after all earlier submits. Offsets and lengths are multiples of 4. */
  read(buffer: DeviceBuffer, byteOffset: number, bytes: number): Promise<ArrayBuffer>;

  /** Builds pipelines and bindings for a list of calls. Pipelines are cached: a second program reuses them. */
  compile(
    label: string,
    calls: readonly ProgramCall[],
    onCompile?: (event: CompileEvent) => void,
  ): Promise<CompiledProgram>;
  /** Enqueues one run of the program; returns before it has finished. Runs are ordered. */
  submit(program: CompiledProgram): void;
  /** Resolves when everything submitted so far has finished. */
  idle(): Promise<void>;
  /** Runs the program once with a timestamp around each call (waits for it). Empty when `!features.timestamps`. */
  profile(program: CompiledProgram): Promise<CallTiming[]>;

  /**
   * Runs the program once with kernels that record their work items (waits for it), where the device has such kernels.
   * @throws Error when none of the program's kernels can
   */
  profileItems?(program: CompiledProgram): Promise<ProfiledItem[]>;
  /** Free and all bytes of the device's memory, where the device can tell. */
  deviceMemory?(): DeviceMemory;
  /** Streams parts of a file into buffers, faster than write() could; where the device can read files. */
  loadFile?(path: string, parts: readonly FilePart[], progress?: (bytes: number) => void): Promise<void>;

  destroy(): void;
}

/** Bytes of a device's memory. */
export interface DeviceMemory {
  free: number;
  total: number;
}

/** Bytes of a file and where they go. */
export interface FilePart {
  buffer: DeviceBuffer;
  byteOffset: number;
  fileOffset: number;
  bytes: number;
}

/** Thrown by any device call after the device was lost. Callers rebuild the engine or say so. */
export class DeviceLostError extends Error {
  override name = 'DeviceLostError';
}

/** View of a whole buffer, or of a part of it. */
export function tensor(buffer: DeviceBuffer, dtype: DType, shape: number[], offset = 0): TensorView {
  return { buffer, offset, dtype, shape };
}

export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function tensorBytes(dtype: DType, shape: readonly number[]): number {
  return Math.ceil((elementCount(shape) * DTYPE_BYTES[dtype]) / 4) * 4;
}
