/**
 * The webgpu device: the same code in browsers and in Node, over a GPUAdapter that somebody else found (adapter.ts,
 * gpu.node.ts). It carries out launches; it has no code for single kernels.
 *
 * Dawn orders dispatches by barriers on whole buffers that one of them writes, so inputs are bound read-only and
 * independent outputs belong into different buffers.
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
import { DeviceLostError } from '../../device.ts';
import { checkRange } from '../checks.ts';
import type { ProgramCall } from '../../kernels/calls.ts';
import type { KernelRegistry } from '../../kernels/definition.ts';
import { PipelineCache } from './pipelines.ts';
import { buildProgram, encodeSteps, type WebgpuBuffer, type WebgpuProgram } from './program.ts';
import { needsPoliteWait, waitPolitely } from './politeWait.ts';
import { profileSteps } from './profile.ts';
import { BUFFER_USAGE, StagingPool } from './staging.ts';
import { describeTarget, maximumLimits, WANTED_FEATURES, type TargetOverrides } from './target.ts';

export interface WebgpuDeviceOptions extends TargetOverrides {
  /** The kernels it can run; all of kernels/index.ts when left out. */
  registry?: Partial<KernelRegistry>;
}

/**
 * Dispatches of one submit. Drivers record a submit before the device sees any of it, so on GPUs the first one is short
 * and each is twice the one before, as the device works while the next is recorded. A bound, because a long program
 * must not run into the time limit that operating systems set for one submit.
 */
const FIRST_SUBMIT = 24;
const STEPS_PER_SUBMIT = 128;
/** A software adapter takes the core that would record the next one. */
const STEPS_PER_SUBMIT_SOFTWARE = 256;

/** Bytes of one queue.writeBuffer; the queue is flushed between them so that staging memory is reused. */
const WRITE_CHUNK = 32 << 20;

/** @throws Error when the adapter gives no device. */
export async function createWebgpuDevice(
  adapter: GPUAdapter,
  options: WebgpuDeviceOptions = {},
): Promise<WebgpuDevice> {
  const registry = options.registry ?? (await import('../../kernels/index.ts')).KERNELS;
  const gpu = await adapter.requestDevice({
    label: 'nanoflow',
    requiredFeatures: WANTED_FEATURES.filter((name) => adapter.features.has(name)) as GPUFeatureName[],
    requiredLimits: maximumLimits(adapter.limits),
  });
  return new WebgpuDevice(gpu, describeTarget(adapter.info, gpu, options), registry);
}

export class WebgpuDevice implements Device {
  readonly target: DeviceTarget;
  readonly lost: Promise<DeviceLostInfo>;
  /** Bytes of all buffers that were created and not yet destroyed. */
  allocatedBytes = 0;

  private readonly gpu: GPUDevice;
  private readonly registry: Partial<KernelRegistry>;
  private readonly pipelines: PipelineCache;
  private readonly staging: StagingPool;
  private readonly polite: boolean;
  private readonly buffers = new Set<DeviceBuffer>();
  private lostReason: string | undefined;
  /** An error that WebGPU reported after the call that caused it had returned; thrown by the next call. */
  private failure: Error | undefined;

  constructor(gpu: GPUDevice, target: DeviceTarget, registry: Partial<KernelRegistry>) {
    this.gpu = gpu;
    this.target = target;
    this.registry = registry;
    this.pipelines = new PipelineCache(gpu);
    this.staging = new StagingPool(gpu);
    this.polite = needsPoliteWait(target.software);
    this.lost = gpu.lost.then((info) => {
      this.lostReason ??= info.message || info.reason;
      return { reason: this.lostReason };
    });
    gpu.addEventListener('uncapturederror', (event) => {
      event.preventDefault();
      this.failure ??= new Error(`WebGPU error: ${event.error.message}`);
    });
  }

  createBuffer(label: string, bytes: number): WebgpuBuffer {
    this.check();
    const allocated = Math.max(16, Math.ceil(bytes / 16) * 16);
    const { maxBufferBytes } = this.target.limits;
    if (!(bytes >= 0) || allocated > maxBufferBytes) {
      throw new Error(
        `buffer "${label}": got ${bytes} bytes, the device allows 0..${maxBufferBytes}; split it`,
      );
    }
    this.gpu.pushErrorScope('out-of-memory');
    const buffer = this.gpu.createBuffer({
      label,
      size: allocated,
      usage: BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_SRC | BUFFER_USAGE.COPY_DST,
    });
    this.gpu.popErrorScope().then(
      (error) => {
        if (error) {
          this.failure ??= new Error(
            `buffer "${label}": the device has no room for ${bytes} bytes (${error.message})`,
          );
        }
      },
      () => undefined, // the device is lost, which says more
    );
    const made: WebgpuBuffer = { label, bytes, buffer, allocated };
    this.buffers.add(made);
    this.allocatedBytes += bytes;
    return made;
  }

  destroyBuffer(buffer: DeviceBuffer): void {
    if (!this.buffers.delete(buffer)) return;
    this.allocatedBytes -= buffer.bytes;
    (buffer as WebgpuBuffer).buffer.destroy();
  }

  write(buffer: DeviceBuffer, byteOffset: number, data: ArrayBufferView): void {
    this.check();
    const { buffer: target } = this.own(buffer, 'write');
    checkRange('write', buffer, byteOffset, data.byteLength);
    for (let at = 0; at < data.byteLength; at += WRITE_CHUNK) {
      const bytes = Math.min(WRITE_CHUNK, data.byteLength - at);
      this.gpu.queue.writeBuffer(
        target,
        byteOffset + at,
        data.buffer as ArrayBuffer,
        data.byteOffset + at,
        bytes,
      );
      if (bytes === WRITE_CHUNK) this.gpu.queue.submit([]);
    }
  }

  async read(buffer: DeviceBuffer, byteOffset: number, bytes: number): Promise<ArrayBuffer> {
    this.check();
    const { buffer: source } = this.own(buffer, 'read');
    checkRange('read', buffer, byteOffset, bytes);
    if (bytes === 0) return new ArrayBuffer(0);
    return this.wait(this.staging.read(source, byteOffset, bytes));
  }

  async compile(
    label: string,
    calls: readonly ProgramCall[],
    onCompile?: (event: CompileEvent) => void,
  ): Promise<WebgpuProgram> {
    this.check();
    const host = {
      gpu: this.gpu,
      target: this.target,
      pipelines: this.pipelines,
      registry: this.registry,
      gpuBuffer: (view: TensorView, call: string) => this.own(view.buffer, `call "${call}"`),
    };
    return this.guard(buildProgram(host, label, calls, onCompile));
  }

  submit(program: CompiledProgram): void {
    this.check();
    const made = program as WebgpuProgram;
    for (const commands of made.ahead ?? this.encode(made)) this.gpu.queue.submit([commands]);
    made.ahead = undefined;
    // A program that ran once will run again: its next run is encoded while the device is busy with this one, after
    // the caller has submitted what it has (2 us a dispatch in Node, twice that in browsers).
    queueMicrotask(() => {
      if (this.lostReason === undefined && !made.destroyed) made.ahead ??= [...this.encode(made)];
    });
  }

  /** Command buffers of one run, each as soon as it is made: the device can start on the first. */
  private *encode({ label, steps }: WebgpuProgram): Iterable<GPUCommandBuffer> {
    const { software } = this.target;
    let size = software ? STEPS_PER_SUBMIT_SOFTWARE : FIRST_SUBMIT;
    for (let from = 0; from < steps.length;) {
      const to = Math.min(from + size, steps.length);
      const encoder = this.gpu.createCommandEncoder({ label });
      const pass = encoder.beginComputePass({ label });
      encodeSteps(pass, steps, from, to);
      pass.end();
      yield encoder.finish();
      from = to;
      if (!software) size = Math.min(2 * size, STEPS_PER_SUBMIT);
    }
  }

  async idle(): Promise<void> {
    this.check();
    await this.wait(this.gpu.queue.onSubmittedWorkDone());
  }

  async profile(program: CompiledProgram): Promise<CallTiming[]> {
    this.check();
    if (!this.target.features.timestamps) {
      this.submit(program);
      await this.idle();
      return [];
    }
    return this.wait(profileSteps(this.gpu, this.staging, program as WebgpuProgram));
  }

  destroy(): void {
    this.lostReason ??= 'destroyed';
    this.staging.destroy();
    for (const buffer of [...this.buffers]) this.destroyBuffer(buffer);
    this.gpu.destroy();
  }

  /** Throws when the device is gone or something failed since the last call. */
  private check(): void {
    if (this.lostReason !== undefined) throw new DeviceLostError(`the device is lost: ${this.lostReason}`);
    const failure = this.failure;
    this.failure = undefined;
    if (failure) throw failure;
  }

  /** The work's result, or the reason why the device could not give it. */
  private async guard<T>(work: Promise<T>): Promise<T> {
    try {
      const result = await work;
      this.check();
      return result;
    } catch (error) {
      this.check();
      throw error;
    }
  }

  /** guard() for work of the queue: a software adapter gets this thread's core meanwhile. */
  private wait<T>(work: Promise<T>): Promise<T> {
    return this.guard(this.polite ? waitPolitely(work) : work);
  }

  private own(buffer: DeviceBuffer, use: string): WebgpuBuffer {
    if (!this.buffers.has(buffer)) {
      throw new Error(`${use}: buffer "${buffer.label}" was destroyed or belongs to another device`);
    }
    return buffer as WebgpuBuffer;
  }
}
