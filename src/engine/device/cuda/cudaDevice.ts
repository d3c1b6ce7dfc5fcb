/**
 * The cuda device: NVIDIA GPUs through the addon (native.ts). It loads kernels, keeps buffers, and turns programs into
 * CUDA graphs; which kernel runs with what is decided by the kernels' pure choosers (kernels/).
 *
 * Writes and submits are collected and cross to the addon together, at the next read or wait: one crossing for a step.
 */
import type {
  CallTiming,
  CompiledProgram,
  CompileEvent,
  Device,
  DeviceBuffer,
  DeviceLostInfo,
  DeviceMemory,
  FilePart,
  ProfiledItem,
  TensorView,
} from '../../device.ts';
import { DeviceLostError } from '../../device.ts';
import type { ProgramCall } from '../../kernels/calls.ts';
import { checkRange } from '../checks.ts';
import {
  launchSteps,
  programLaunches,
  type CompileHost,
  type LaunchLane,
  type LaunchName,
  type NativeList,
} from './compileProgram.ts';
import type { GemmPolicy } from './gemm/registry.ts';
import type { CudaLaunch, CudaRegistry, CudaTarget } from './launch.ts';
import { moduleName, type ModuleOrigin, type ModuleStore } from './modules.ts';
import type { NativeAddon, NativeDevice, NativeDeviceInfo, NativeProgram } from './native.ts';
import { CODE, RECORD } from './native.ts';
import { profileItems } from './profileItems.ts';
import { cudaTarget } from './target.ts';

export interface CudaDeviceOptions {
  ordinal?: number;
  /** The kernels it can run; all of kernels/index.ts when left out. */
  registry?: Partial<CudaRegistry>;
  /** False: launches one by one instead of CUDA graphs. Default true. */
  graphs?: boolean;
  /** Budgets are chosen as for a GPU with so many SMs; default those it has. */
  multiprocessors?: number;
  /** Only kernels of this family; default the fastest that the GPU has. */
  family?: CudaTarget['cuda']['family'];
  onLog?: (line: string) => void;
}

/** A kernel in use, for `nanoflow devices --modules`. */
export interface LoadedModule {
  name: string;
  origin: ModuleOrigin;
  milliseconds: number;
  registers: number;
  localBytes: number;
}

interface CudaBuffer extends DeviceBuffer {
  address: number;
}

interface CudaProgram extends CompiledProgram {
  native: NativeProgram;
  names: readonly LaunchName[];
  /** Its launches once more, as the host makes them. */
  list(host: CompileHost): Promise<NativeList>;
}

/** Data up to this size is collected; larger writes cross at once. */
const SMALL_WRITE = 1 << 18;
const COLLECTED_BYTES = 4 << 20;
const MOST_RECORDS = 1024;

/** The entry point has the name of the file. */
function entryOf({ source }: CudaLaunch): string {
  return source.slice(source.lastIndexOf('/') + 1);
}

export class CudaDevice implements Device {
  readonly target: CudaTarget;
  readonly lost: Promise<DeviceLostInfo>;
  /** Version of the driver: 13000 = CUDA 13.0. */
  readonly driver: number;
  /** Bytes of all buffers that were created and not yet destroyed. */
  allocatedBytes = 0;

  readonly #native: NativeDevice;
  readonly #registry: Partial<CudaRegistry>;
  readonly #modules: ModuleStore;
  readonly #graphs: boolean;
  readonly #buffers = new Set<DeviceBuffer>();
  readonly #kernels = new Map<string, Promise<number>>();
  readonly #loaded: LoadedModule[] = [];
  readonly #records = new Float64Array(MOST_RECORDS * RECORD);
  readonly #data = new Uint8Array(COLLECTED_BYTES);
  #count = 0;
  #bytes = 0;
  #programs: NativeProgram[] = [];
  #reportLost: (info: DeviceLostInfo) => void = () => undefined;
  #lostReason: string | undefined;

  constructor(
    addon: NativeAddon,
    info: NativeDeviceInfo,
    registry: Partial<CudaRegistry>,
    modules: ModuleStore,
    { graphs = true, family, multiprocessors = info.multiprocessors }: CudaDeviceOptions,
  ) {
    this.#native = new addon.Device(info.ordinal);
    this.#registry = registry;
    this.#modules = modules;
    this.#graphs = graphs;
    const { driver = 0, cublasLt } = addon.probe();
    this.driver = driver;
    this.target = cudaTarget({ ...info, multiprocessors }, family, cublasLt);
    this.lost = new Promise((resolve) => (this.#reportLost = resolve));
  }

  /** Free and all bytes of the GPU's memory. */
  deviceMemory(): DeviceMemory {
    return this.#try(() => this.#native.memory());
  }

  /** Which backends carry out the products of programs that are compiled from now on. */
  useProducts(policy: GemmPolicy): void {
    this.target.cuda.gemm = policy;
  }

  /** Kernels that programs of this device use. */
  get modules(): readonly LoadedModule[] {
    return this.#loaded;
  }

  createBuffer(label: string, bytes: number): DeviceBuffer {
    if (!(bytes >= 0 && Number.isSafeInteger(bytes))) {
      throw new Error(`buffer "${label}": got ${bytes} bytes, expected a whole number from 0 up`);
    }
    let address: number;
    try {
      address = this.#try(() => this.#native.allocate(Math.ceil(bytes / 16) * 16));
    } catch (error) {
      if (error instanceof DeviceLostError) throw error;
      const { free } = this.deviceMemory();
      throw new Error(
        `buffer "${label}": the GPU has no room for ${bytes} bytes (${free} are free): ${(error as Error).message}; ` +
          'lower --kv-memory or --max-batch-tokens',
        { cause: error },
      );
    }
    const buffer: CudaBuffer = { label, bytes, address };
    this.#buffers.add(buffer);
    this.allocatedBytes += bytes;
    return buffer;
  }

  destroyBuffer(buffer: DeviceBuffer): void {
    if (!this.#buffers.delete(buffer)) return;
    this.allocatedBytes -= buffer.bytes;
    if (this.#lostReason !== undefined) return;
    this.#flush();
    this.#try(() => this.#native.free((buffer as CudaBuffer).address));
  }

  write(buffer: DeviceBuffer, byteOffset: number, data: ArrayBufferView): void {
    const { address } = this.#own(buffer, 'write');
    checkRange('write', buffer, byteOffset, data.byteLength);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (bytes.length > SMALL_WRITE) {
      this.#flush();
      this.#try(() => this.#native.write(address + byteOffset, bytes));
      return;
    }
    if (this.#count === MOST_RECORDS || this.#bytes + bytes.length > COLLECTED_BYTES) this.#flush();
    this.#data.set(bytes, this.#bytes);
    this.#record(CODE.write, address + byteOffset, this.#bytes, bytes.length);
    this.#bytes += bytes.length;
  }

  async read(buffer: DeviceBuffer, byteOffset: number, bytes: number): Promise<ArrayBuffer> {
    const { address } = this.#own(buffer, 'read');
    checkRange('read', buffer, byteOffset, bytes);
    this.#flush();
    return this.#wait(() => this.#native.read(address + byteOffset, bytes));
  }

  /**
   * Streams a part of a file to a buffer, through pinned memory and several threads.
   * `parts`: where bytes of the file go.
   */
  async loadFile(
    path: string,
    parts: readonly FilePart[],
    progress: (bytes: number) => void = () => undefined,
  ): Promise<void> {
    this.#flush();
    const places = new Float64Array(parts.length * 3);
    parts.forEach(({ buffer, byteOffset, fileOffset, bytes }, at) => {
      const { address } = this.#own(buffer, 'loadFile');
      if (byteOffset + bytes > buffer.bytes) {
        throw new Error(
          `loadFile "${buffer.label}": ends at byte ${byteOffset + bytes}, the buffer has ${buffer.bytes}`,
        );
      }
      places.set([address + byteOffset, fileOffset, bytes], at * 3);
    });
    return this.#wait(() => this.#native.loadFile(path, places, progress));
  }

  async compile(
    label: string,
    calls: readonly ProgramCall[],
    onCompile?: (event: CompileEvent) => void,
  ): Promise<CompiledProgram> {
    this.#check();
    return this.#program(label, calls, (host) => programLaunches(host, calls, onCompile));
  }

  /** A program of launches that no call stands for: steps in order, the lanes of a step side by side. For benches. */
  async compileLaunches(label: string, steps: readonly (readonly LaunchLane[])[]): Promise<CompiledProgram> {
    this.#check();
    return this.#program(label, [], (host) => launchSteps(host, steps));
  }

  get #host(): CompileHost {
    return {
      target: this.target,
      registry: this.#registry,
      address: (view, use) => this.#address(view, use),
      kernel: (launch, report) => this.#kernel(launch, report),
    };
  }

  async #program(
    label: string,
    calls: readonly ProgramCall[],
    list: CudaProgram['list'],
    change?: CompileHost['change'],
  ): Promise<CompiledProgram> {
    const { launches, names } = await list({ ...this.#host, change });
    const native = this.#try(() => this.#native.createProgram(launches, this.#graphs));
    const program: CudaProgram = {
      label,
      calls,
      native,
      names,
      list,
      destroy: () => {
        if (this.#lostReason !== undefined) return;
        this.#flush();
        native.destroy();
      },
    };
    return program;
  }

  submit(program: CompiledProgram): void {
    this.#check();
    if (this.#count === MOST_RECORDS) this.#flush();
    this.#programs.push((program as CudaProgram).native);
    this.#record(CODE.run, this.#programs.length - 1, 0, 0);
  }

  async idle(): Promise<void> {
    this.#flush();
    return this.#wait(() => this.#native.idle());
  }

  async profile(program: CompiledProgram): Promise<CallTiming[]> {
    this.#flush();
    const { native, names } = program as CudaProgram;
    const times = this.#try(() => this.#native.profile(native));
    return names.map(({ kernel, label, call }, at) => ({
      kernel,
      label,
      call,
      microseconds: times[2 * at + 1] - times[2 * at],
      startNanoseconds: times[2 * at] * 1000,
    }));
  }

  async profileItems(program: CompiledProgram): Promise<ProfiledItem[]> {
    const { label, calls, list } = program as CudaProgram;
    return profileItems(this, label, (change) => this.#program(label, calls, list, change));
  }

  destroy(): void {
    if (this.#lostReason !== undefined) return;
    this.#lose('destroyed');
    this.#buffers.clear();
    this.allocatedBytes = 0;
    this.#native.destroy();
  }

  #record(code: number, a: number, b: number, c: number): void {
    this.#records.set([code, a, b, c], this.#count++ * RECORD);
  }

  /** Hands everything collected to the addon. */
  #flush(): void {
    this.#check();
    if (this.#count === 0) return;
    const programs = this.#programs;
    const count = this.#count;
    this.#count = 0;
    this.#bytes = 0;
    this.#programs = [];
    this.#try(() => this.#native.execute(this.#records, count, this.#data, programs));
  }

  #kernel(launch: CudaLaunch, onCompile?: (event: CompileEvent) => void): Promise<number> {
    const name = moduleName(launch);
    let handle = this.#kernels.get(name);
    if (!handle) {
      handle = this.#load(name, launch, onCompile);
      handle.catch(() => this.#kernels.delete(name));
      this.#kernels.set(name, handle);
    }
    return handle;
  }

  async #load(name: string, launch: CudaLaunch, onCompile?: (event: CompileEvent) => void): Promise<number> {
    const started = performance.now();
    let loaded = await this.#modules.image(launch);
    let kernel;
    try {
      kernel = this.#try(() => this.#native.loadKernel(loaded.image, entryOf(launch)));
    } catch (error) {
      if (loaded.origin !== 'disk' || error instanceof DeviceLostError) throw error;
      // A broken file in the cache: build it again.
      loaded = await this.#modules.image(launch, loaded.file);
      kernel = this.#try(() => this.#native.loadKernel(loaded.image, entryOf(launch)));
    }
    const milliseconds = performance.now() - started;
    const { registers, localBytes } = kernel;
    this.#loaded.push({ name, origin: loaded.origin, milliseconds, registers, localBytes });
    onCompile?.({ kernel: `${launch.source} ${launch.variant} (${loaded.origin})`, milliseconds });
    return kernel.handle;
  }

  #own(buffer: DeviceBuffer, use: string): CudaBuffer {
    this.#check();
    if (!this.#buffers.has(buffer)) {
      throw new Error(`${use}: buffer "${buffer.label}" was destroyed or belongs to another device`);
    }
    return buffer as CudaBuffer;
  }

  #address(view: TensorView, use: string): number {
    return this.#own(view.buffer, use).address + view.offset;
  }

  #check(): void {
    if (this.#lostReason !== undefined) throw new DeviceLostError(`the device is lost: ${this.#lostReason}`);
  }

  #lose(reason: string): void {
    if (this.#lostReason !== undefined) return;
    this.#lostReason = reason;
    this.#reportLost({ reason });
  }

  /** Runs a call of the addon; after a sticky error the device is lost. */
  #try<T>(call: () => T): T {
    this.#check();
    try {
      return call();
    } catch (error) {
      throw this.#failed(error);
    }
  }

  async #wait<T>(call: () => Promise<T>): Promise<T> {
    const pending = this.#try(call);
    try {
      return await pending;
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #failed(error: unknown): unknown {
    if (!(error instanceof Error) || !(error as Error & { sticky?: boolean }).sticky) return error;
    this.#lose(error.message);
    return new DeviceLostError(`the device is lost: ${error.message}`, { cause: error });
  }
}
