/**
 * The contract with the addon (native-cuda/): everything that TypeScript sees of it. The C++ classes have the same
 * names and methods. Device addresses, handles and byte counts are plain numbers (all below 2^53).
 *
 * Every call throws an Error that carries the CUDA error's name, number and text, and the place in the addon; one whose
 * `sticky` is true has put the device out of use.
 */

/** A GPU as the driver lists it. */
export interface NativeDeviceInfo {
  ordinal: number;
  name: string;
  uuid: string;
  computeCapability: number; // 90 = 9.0
  multiprocessors: number;
  sharedBytesPerCta: number; // with opt-in
  l2Bytes: number;
  memoryBytes: number;
}

/** What the machine has. Never throws: `problem` says why there are no devices. */
export interface NativeProbe {
  driver?: number; // 13000 = CUDA 13.0
  nvrtc?: number;
  cublasLt?: number;
  devices: NativeDeviceInfo[];
  problem?: string;
}

/** A kernel ready to be launched. */
export interface NativeKernel {
  handle: number;
  registers: number; // of a thread
  localBytes: number; // of a thread: spills and stack
}

/**
 * One parameter of a launch as a few numbers: [KIND.address, a], [KIND.u32, v], [KIND.f32, v], [KIND.counters, bytes],
 * [KIND.scratch, bytes], [KIND.map, address, element bytes-and-type code, swizzle, rank, sizes, strides, box].
 */
export const KIND = { address: 0, u32: 1, f32: 2, counters: 3, scratch: 4, map: 5 } as const;
/** Element types of tensor maps. */
export const ELEMENT = { f32: 0, f16: 1, bf16: 2, u32: 3 } as const;

/** Where a launch runs, and what it waits for beyond the launches before it on its stream. */
export interface NativePlace {
  /** 0 is the main stream, which runs begin and end on. Working memory belongs to a stream. */
  stream: number;
  /** SMs of the green context of stream 0; other streams have the rest. 0: no contexts. */
  multiprocessors: number;
  /** Events that must have been signalled: numbers from 0 up. */
  waits: number[];
  /** Event that it signals when it has ended; -1: none. */
  signal: number;
}

export interface NativeLaunch extends NativePlace {
  kernel: number; // NativeKernel.handle
  ctas: number;
  threads: number;
  cluster: number;
  sharedBytes: number;
  early: boolean;
  args: number[][];
}

/** A product instead of a kernel. */
export interface NativeProductLaunch extends NativePlace {
  product: NativeProduct;
}

/** A product that cuBLASLt carries out: out = a w^T, row-major, f32 accumulation. */
export interface NativeProduct {
  a: number;
  w: number;
  out: number;
  m: number;
  n: number;
  k: number;
  ldc: number;
  /** Element types (ELEMENT). */
  inType: number;
  outType: number;
  add: boolean;
}

export interface NativeProgram {
  /** Kernel launches of one run. */
  readonly launches: number;
  destroy(): void;
}

/** Operations of NativeDevice.execute: records of RECORD numbers, [code, ...]. */
export const RECORD = 4;
export const CODE = {
  write: 0, // address, offset in data, bytes
  run: 1, // index in programs
} as const;

export interface NativeDevice {
  readonly info: NativeDeviceInfo;
  /** Free and all bytes of device memory now. */
  memory(): { free: number; total: number };
  /** Memory that starts as zeros, aligned to 256 bytes. */
  allocate(bytes: number): number;
  free(address: number): void;
  /** @param image cubin, fatbin or PTX text with a final zero */
  loadKernel(image: Uint8Array, entry: string): NativeKernel;
  /**
   * Captures the launches as one CUDA graph; `graph` false: they are launched one by one. They are in an order that is
   * right one after the other, too.
   */
  createProgram(launches: (NativeLaunch | NativeProductLaunch)[], graph: boolean): NativeProgram;
  /** Carries out records in order on the device's main stream: one crossing for a step. */
  execute(records: Float64Array, count: number, data: Uint8Array, programs: NativeProgram[]): void;
  /** Writes now, through pinned memory; returns when `data` may change. */
  write(address: number, data: Uint8Array): void;
  /** Bytes after everything enqueued so far. */
  read(address: number, bytes: number): Promise<ArrayBuffer>;
  /** Resolves when everything enqueued so far has finished. */
  idle(): Promise<void>;
  /** Runs the program launch by launch; [begin, end] of each in microseconds from the first. Blocks. */
  profile(program: NativeProgram): Float64Array;
  /**
   * Streams bytes of a file to device memory through pinned buffers, reading ahead; resolves when all are enqueued.
   * `to` lists [address, file offset, bytes] three by three.
   */
  loadFile(path: string, to: Float64Array, progress: (bytes: number) => void): Promise<void>;
  destroy(): void;
}

export interface NativeAddon {
  probe(): NativeProbe;
  /** Archive of the prebuilt modules (modules.ts reads it); empty when built without nvcc. */
  prebuilt(): Uint8Array;
  /** NVRTC: CUDA C++ to cubin. Rejects with the compiler's log. */
  compile(
    source: string,
    name: string,
    headers: Record<string, string>,
    options: string[],
  ): Promise<Uint8Array>;
  Device: new (ordinal: number) => NativeDevice;
}
