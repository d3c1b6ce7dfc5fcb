/**
 * The cpu device: runs each kernel's slow twin in order, in plain TypeScript. The truth for tests, and the last
 * resort where there is no WebGPU. f32 only.
 */
import type {
  CallTiming,
  CompiledProgram,
  CompileEvent,
  Device,
  DeviceBuffer,
  DeviceLostInfo,
  DeviceTarget,
  TensorView,
} from '../../device.ts';
import { DeviceLostError, elementCount } from '../../device.ts';
import { checkRange } from '../checks.ts';
import { flatCalls, type KernelCall, type ProgramCall } from '../../kernels/calls.ts';
import type { KernelDefinition, KernelRegistry, TwinMemory } from '../../kernels/definition.ts';

interface CpuBuffer extends DeviceBuffer {
  data: ArrayBuffer;
}

export interface CpuDeviceOptions {
  /** The kernels it can run; all of kernels/index.ts when left out. */
  registry?: Partial<KernelRegistry>;
}

/** Largest ArrayBuffer that V8 gives on 64-bit hosts, and far more than a model for this device should have. */
const MAX_BUFFER_BYTES = 2 ** 32;

const TARGET: DeviceTarget = {
  kind: 'cpu',
  name: 'TypeScript on one CPU core',
  vendor: '',
  software: true,
  features: { f16: false, subgroups: false, subgroupMatrix: false, timestamps: true },
  subgroupSize: { min: 1, max: 1 },
  limits: {
    maxStorageBuffers: Infinity,
    maxBindingBytes: MAX_BUFFER_BYTES,
    maxBufferBytes: MAX_BUFFER_BYTES,
    maxWorkgroupBytes: Infinity,
    maxInvocations: Infinity,
    maxWorkgroups: Infinity,
  },
  defaultWorkgroups: 1,
};

export async function createCpuDevice(options: CpuDeviceOptions = {}): Promise<CpuDevice> {
  return new CpuDevice(options.registry ?? (await import('../../kernels/index.ts')).KERNELS);
}

export class CpuDevice implements Device {
  readonly target = TARGET;
  readonly lost: Promise<DeviceLostInfo>;
  /** Bytes of all buffers that were created and not yet destroyed. */
  allocatedBytes = 0;

  private readonly registry: Partial<KernelRegistry>;
  private readonly buffers = new Set<DeviceBuffer>();
  private readonly memory: TwinMemory;
  private reportLost: (info: DeviceLostInfo) => void = () => undefined;
  private destroyed = false;

  constructor(registry: Partial<KernelRegistry>) {
    this.registry = registry;
    this.lost = new Promise((resolve) => (this.reportLost = resolve));
    this.memory = {
      f32: (view) => {
        if (view.dtype !== 'f32') throw dtypeError(view, 'f32');
        return new Float32Array(this.own(view.buffer, 'twin').data, view.offset, elementCount(view.shape));
      },
      u32: (view) => {
        if (view.dtype !== 'u32') throw dtypeError(view, 'u32');
        return new Uint32Array(this.own(view.buffer, 'twin').data, view.offset, elementCount(view.shape));
      },
    };
  }

  createBuffer(label: string, bytes: number): DeviceBuffer {
    this.check();
    if (!(bytes >= 0 && bytes <= MAX_BUFFER_BYTES)) {
      throw new Error(
        `buffer "${label}": got ${bytes} bytes, the cpu device allows 0..${MAX_BUFFER_BYTES}; split it`,
      );
    }
    let data: ArrayBuffer;
    try {
      data = new ArrayBuffer(Math.ceil(bytes / 16) * 16);
    } catch (error) {
      throw new Error(`buffer "${label}": this machine has no room for ${bytes} bytes`, { cause: error });
    }
    const buffer: CpuBuffer = { label, bytes, data };
    this.buffers.add(buffer);
    this.allocatedBytes += bytes;
    return buffer;
  }

  destroyBuffer(buffer: DeviceBuffer): void {
    if (!this.buffers.delete(buffer)) return;
    this.allocatedBytes -= buffer.bytes;
    (buffer as CpuBuffer).data = new ArrayBuffer(0);
  }

  write(buffer: DeviceBuffer, byteOffset: number, data: ArrayBufferView): void {
    this.check();
    const target = this.own(buffer, 'write');
    checkRange('write', buffer, byteOffset, data.byteLength);
    new Uint8Array(target.data, byteOffset).set(
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    );
  }

  async read(buffer: DeviceBuffer, byteOffset: number, bytes: number): Promise<ArrayBuffer> {
    this.check();
    const source = this.own(buffer, 'read');
    checkRange('read', buffer, byteOffset, bytes);
    return source.data.slice(byteOffset, byteOffset + bytes);
  }

  async compile(
    label: string,
    calls: readonly ProgramCall[],
    _onCompile?: (event: CompileEvent) => void,
  ): Promise<CompiledProgram> {
    this.check();
    for (const call of flatCalls(calls)) {
      this.definition(call);
      for (const view of tensorsOf(call)) {
        if (view.dtype === 'f16') throw dtypeError(view, 'f32');
        this.own(view.buffer, `call "${call.label}"`);
        const end = view.offset + elementCount(view.shape) * 4;
        if (end > view.buffer.bytes) {
          throw new Error(
            `call "${call.label}": "${view.buffer.label}" [${view.shape.join(', ')}] ends at byte ${end}, ` +
              `the buffer has ${view.buffer.bytes}`,
          );
        }
      }
    }
    return { label, calls, destroy: () => undefined };
  }

  submit(program: CompiledProgram): void {
    this.check();
    for (const call of flatCalls(program.calls)) this.definition(call).twin(call, this.memory);
  }

  async idle(): Promise<void> {
    this.check();
  }

  async profile(program: CompiledProgram): Promise<CallTiming[]> {
    this.check();
    return flatCalls(program.calls).map((call) => {
      const started = performance.now();
      this.definition(call).twin(call, this.memory);
      return { kernel: call.kernel, label: call.label, microseconds: (performance.now() - started) * 1000 };
    });
  }

  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    for (const buffer of [...this.buffers]) this.destroyBuffer(buffer);
    this.reportLost({ reason: 'destroyed' });
  }

  private check(): void {
    if (this.destroyed) throw new DeviceLostError('the device is lost: destroyed');
  }

  private own(buffer: DeviceBuffer, use: string): CpuBuffer {
    if (!this.buffers.has(buffer)) {
      throw new Error(`${use}: buffer "${buffer.label}" was destroyed or belongs to another device`);
    }
    return buffer as CpuBuffer;
  }

  private definition(call: KernelCall): KernelDefinition<KernelCall['kernel']> {
    const definition = this.registry[call.kernel];
    if (!definition) {
      throw new Error(`call "${call.label}": no kernel "${call.kernel}" in this device's registry`);
    }
    return definition as KernelDefinition<KernelCall['kernel']>;
  }
}

/** All tensors that a call names. */
function tensorsOf(call: KernelCall): TensorView[] {
  return Object.values(call as unknown as Record<string, unknown>).filter(
    (value): value is TensorView => typeof value === 'object' && value !== null && 'dtype' in value,
  );
}

function dtypeError(view: TensorView, expected: string): Error {
  return new Error(
    `the cpu device: got ${view.dtype} for "${view.buffer.label}", expected ${expected}; build the model with f32 storage`,
  );
}
