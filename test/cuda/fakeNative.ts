/** An addon without a GPU: what crosses the border is written down. */
import {
  CODE,
  RECORD,
  type NativeAddon,
  type NativeDevice,
  type NativeDeviceInfo,
  type NativeLaunch,
  type NativeProductLaunch,
  type NativeProgram,
} from '../../src/engine/device/cuda/native.ts';

export const INFO: NativeDeviceInfo = {
  ordinal: 0,
  name: 'Fake H100',
  uuid: '00',
  computeCapability: 90,
  multiprocessors: 132,
  sharedBytesPerCta: 232448,
  l2Bytes: 50 << 20,
  memoryBytes: 80e9,
};

/** Memory is one map from address to bytes; programs are only counted, but for what `onRun` makes of them. */
export class FakeNative implements NativeDevice {
  readonly info = INFO;
  calls: string[] = [];
  programs: (NativeLaunch | NativeProductLaunch)[][] = [];
  runs = 0;
  /** Stands for the kernels: called with the launches of each run. */
  onRun: (launches: (NativeLaunch | NativeProductLaunch)[]) => void = () => undefined;
  failNext: { message: string; sticky: boolean } | undefined;
  badImages = new Set<string>();
  readonly #launches = new Map<NativeProgram, (NativeLaunch | NativeProductLaunch)[]>();
  #next = 4096;
  #memory = new Map<number, Uint8Array>();

  #enter(name: string): void {
    this.calls.push(name);
    const failure = this.failNext;
    this.failNext = undefined;
    if (failure) throw Object.assign(new Error(failure.message), { sticky: failure.sticky });
  }
  memory() {
    return { free: 1000, total: 80e9 };
  }
  allocate(bytes: number): number {
    this.#enter('allocate');
    const address = this.#next;
    this.#next += Math.ceil(bytes / 256) * 256;
    this.#memory.set(address, new Uint8Array(bytes));
    return address;
  }
  free(address: number): void {
    this.#enter('free');
    this.#memory.delete(address);
  }
  /** Allocations that were not freed. */
  get allocations(): number {
    return this.#memory.size;
  }
  loadKernel(image: Uint8Array) {
    this.#enter('loadKernel');
    if (this.badImages.has(new TextDecoder().decode(image)))
      throw new Error('CUDA_ERROR_INVALID_IMAGE (200)');
    return { handle: 7, registers: 8, localBytes: 0 };
  }
  createProgram(launches: (NativeLaunch | NativeProductLaunch)[]): NativeProgram {
    this.#enter('createProgram');
    this.programs.push(launches);
    const program = { launches: 1, destroy: () => this.calls.push('destroyProgram') };
    this.#launches.set(program, launches);
    return program;
  }
  execute(records: Float64Array, count: number, data: Uint8Array, programs: NativeProgram[]): void {
    this.#enter('execute');
    for (let at = 0; at < count * RECORD; at += RECORD) {
      if (records[at] === CODE.run) {
        this.runs++;
        this.onRun(this.#launches.get(programs[records[at + 1]])!);
      } else this.#put(records[at + 1], data.subarray(records[at + 2], records[at + 2] + records[at + 3]));
    }
  }
  write(address: number, data: Uint8Array): void {
    this.#enter('write');
    this.#put(address, data);
  }
  #find(address: number): [Uint8Array, number] {
    for (const [start, bytes] of this.#memory)
      if (address >= start && address < start + bytes.length) return [bytes, address - start];
    throw new Error(`no memory at ${address}`);
  }
  #put(address: number, data: Uint8Array): void {
    const [bytes, at] = this.#find(address);
    bytes.set(data, at);
  }
  /** The allocation at an address as words of 64 bits. */
  wordsAt(address: number): BigUint64Array {
    const [bytes, at] = this.#find(address);
    return new BigUint64Array(bytes.buffer, at);
  }
  async read(address: number, length: number): Promise<ArrayBuffer> {
    this.#enter('read');
    const [bytes, at] = this.#find(address);
    return bytes.slice(at, at + length).buffer as ArrayBuffer;
  }
  async idle(): Promise<void> {
    this.#enter('idle');
  }
  profile(): Float64Array {
    return Float64Array.of(0, 5, 5, 9);
  }
  async loadFile(): Promise<void> {
    this.#enter('loadFile');
  }
  destroy(): void {
    this.calls.push('destroy');
  }
}

/** @param image what its compiler makes of every source */
export function fakeAddon(native: FakeNative, image: () => string): NativeAddon {
  return {
    probe: () => ({ devices: [INFO] }),
    prebuilt: () => new Uint8Array(0),
    compile: async () => new TextEncoder().encode(image()),
    Device: function () {
      return native;
    },
  } as unknown as NativeAddon;
}
