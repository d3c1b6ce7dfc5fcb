/**
 * A list of kernel calls made ready for replay: pipelines, bind groups and one uniform buffer with the params of all
 * launches. Everything is built here once; a submit only encodes.
 */
import type { CompiledProgram, CompileEvent, DeviceBuffer, DeviceTarget, TensorView } from '../../device.ts';
import { DTYPE_BYTES, elementCount } from '../../device.ts';
import type { JoinedCall, KernelCall, ProgramCall } from '../../kernels/calls.ts';
import type { KernelDefinition, KernelRegistry, Launch } from '../../kernels/definition.ts';
import { joinParts } from './joinParts.ts';
import { joinedSource, launchSource, type PipelineCache, type PipelineSource } from './pipelines.ts';
import { BUFFER_USAGE } from './staging.ts';

/** Space between the params of two launches: WebGPU's default uniform offset alignment, and their largest size. */
const PARAMS_STRIDE = 256;

/** A DeviceBuffer of this device. `allocated` is `bytes` rounded up to whole vec4 elements. */
export interface WebgpuBuffer extends DeviceBuffer {
  readonly buffer: GPUBuffer;
  readonly allocated: number;
}

/** One dispatch. */
export interface Step {
  pipeline: GPUComputePipeline;
  bindGroup: GPUBindGroup;
  workgroups: number;
  callIndex: number;
  kernel: string; // shader and variant
}

export interface WebgpuProgram extends CompiledProgram {
  readonly steps: readonly Step[];
  /** Joined calls whose parts run one after the other here, and why: each reason once. */
  readonly apart: readonly { label: string; reason: string }[];
  /** Commands of the next run, when they were encoded ahead of it. */
  ahead?: GPUCommandBuffer[];
  destroyed: boolean;
}

/** All launches of a call, checked against what WebGPU would refuse later with less to say. */
export function launchesOf(
  registry: Partial<KernelRegistry>,
  call: KernelCall,
  target: DeviceTarget,
): Launch[] {
  const definition = registry[call.kernel] as KernelDefinition<KernelCall['kernel']> | undefined;
  if (!definition)
    throw new Error(`call "${call.label}": no kernel "${call.kernel}" in this device's registry`);
  const launches = definition.launches(call, target);
  for (const launch of launches) checkLaunch(launch, call, target);
  return launches;
}

function checkLaunch(launch: Launch, call: KernelCall, target: DeviceTarget): void {
  const name = `${launch.shader} ${launch.variant} in call "${call.label}"`;
  const { workgroups } = launch;
  if (!Number.isInteger(workgroups) || workgroups < 1 || workgroups > target.limits.maxWorkgroups) {
    throw new Error(`${name}: got ${workgroups} workgroups, expected 1..${target.limits.maxWorkgroups}`);
  }
  if (launch.params.length * 4 > PARAMS_STRIDE) {
    throw new Error(`${name}: got ${launch.params.length} params, expected at most ${PARAMS_STRIDE / 4}`);
  }
  const limit = target.limits.maxStorageBuffers;
  if (launch.bindings.length > limit) {
    throw new Error(`${name}: got ${launch.bindings.length} bindings, the device allows ${limit}`);
  }
  launch.bindings.forEach(({ view, access }, index) => {
    const bytes = elementCount(view.shape) * DTYPE_BYTES[view.dtype];
    const what = `${name}: binding ${index + 1} ("${view.buffer.label}", ${view.dtype} [${view.shape.join(', ')}])`;
    if (view.offset % 256 !== 0) {
      throw new Error(`${what}: got offset ${view.offset}, expected a multiple of 256`);
    }
    if (view.offset + bytes > view.buffer.bytes) {
      throw new Error(`${what}: ends at byte ${view.offset + bytes}, the buffer has ${view.buffer.bytes}`);
    }
    if (bytes > target.limits.maxBindingBytes) {
      throw new Error(
        `${what}: got ${bytes} bytes, the device binds at most ${target.limits.maxBindingBytes}; split the tensor`,
      );
    }
    for (const other of launch.bindings.slice(0, index)) {
      if (other.view.buffer !== view.buffer) continue;
      if (other.access !== access) {
        throw new Error(
          `${what}: the buffer is bound for reading and for writing in one dispatch; use two buffers`,
        );
      }
      const otherBytes = elementCount(other.view.shape) * DTYPE_BYTES[other.view.dtype];
      const apart = other.view.offset + otherBytes <= view.offset || view.offset + bytes <= other.view.offset;
      if (access === 'read_write' && !apart) {
        throw new Error(`${what}: two writable bindings overlap in one dispatch; use two buffers`);
      }
    }
  });
}

/** Contents of the params uniform: u32 and f32 words. */
function paramWords(params: Launch['params']): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(PARAMS_STRIDE / 4);
  const floats = new Float32Array(words.buffer);
  params.forEach((param, index) => {
    if (typeof param === 'number') words[index] = param;
    else floats[index] = param.f32;
  });
  return words;
}

export interface ProgramHost {
  gpu: GPUDevice;
  target: DeviceTarget;
  pipelines: PipelineCache;
  registry: Partial<KernelRegistry>;
  gpuBuffer(view: TensorView, label: string): WebgpuBuffer;
}

/** What one dispatch is made of, before anything of the device exists. */
interface Dispatch {
  callIndex: number;
  label: string;
  source: PipelineSource;
  params: Launch['params'][];
  bindings: Launch['bindings'];
  workgroups: number;
}

function single(launch: Launch, callIndex: number, label: string): Dispatch {
  const { bindings, params, workgroups } = launch;
  return { callIndex, label, source: launchSource(launch), params: [params], bindings, workgroups };
}

/** One dispatch when the parts of the call can be joined; else one for each, and the reason. */
function joinedDispatches(
  { registry, target }: ProgramHost,
  call: JoinedCall,
  callIndex: number,
): { dispatches: Dispatch[]; reason?: string } {
  const result = joinParts(call, target, (part, seen) => launchesOf(registry, part, seen));
  if ('joined' in result) {
    const { joined } = result;
    return { dispatches: [{ ...joined, callIndex, label: call.label, source: joinedSource(joined) }] };
  }
  return {
    reason: result.reason,
    dispatches: result.launches.flatMap((launches, part) =>
      launches.map((launch) => single(launch, callIndex, call.parts[part].label)),
    ),
  };
}

/** @throws Error naming the call for anything the device could not run. */
export async function buildProgram(
  host: ProgramHost,
  label: string,
  calls: readonly ProgramCall[],
  onCompile?: (event: CompileEvent) => void,
): Promise<WebgpuProgram> {
  const { gpu } = host;
  const apart = new Map<string, { label: string; reason: string }>();
  const dispatches = calls.flatMap((call, callIndex) => {
    if (call.kernel !== 'joined') {
      return launchesOf(host.registry, call, host.target).map((launch) =>
        single(launch, callIndex, call.label),
      );
    }
    const { dispatches: made, reason } = joinedDispatches(host, call, callIndex);
    if (reason !== undefined && !apart.has(reason)) apart.set(reason, { label: call.label, reason });
    return made;
  });
  const pipelines = await Promise.all(dispatches.map(({ source }) => host.pipelines.get(source, onCompile)));

  const slots = dispatches.reduce((sum, { params }) => sum + params.length, 0);
  const uniform = gpu.createBuffer({
    label: `${label} params`,
    size: Math.max(1, slots) * PARAMS_STRIDE,
    usage: BUFFER_USAGE.UNIFORM | BUFFER_USAGE.COPY_DST,
  });
  const words = new Uint32Array((slots * PARAMS_STRIDE) / 4);
  dispatches
    .flatMap(({ params }) => params)
    .forEach((params, slot) => words.set(paramWords(params), (slot * PARAMS_STRIDE) / 4));
  gpu.queue.writeBuffer(uniform, 0, words);

  let slot = 0;
  const steps = dispatches.map(
    ({ callIndex, label: name, source, params, bindings, workgroups }, index): Step => {
      const { pipeline, layout } = pipelines[index];
      const entries: GPUBindGroupEntry[] = params.map((_, binding) => ({
        binding,
        resource: { buffer: uniform, offset: slot++ * PARAMS_STRIDE, size: PARAMS_STRIDE },
      }));
      bindings.forEach(({ view }, at) => {
        const { buffer, allocated } = host.gpuBuffer(view, name);
        const bytes = elementCount(view.shape) * DTYPE_BYTES[view.dtype];
        // Whole vec4 elements, so that the last elements of an odd-sized tensor can be loaded as part of one.
        const size = Math.min(
          Math.ceil(bytes / 16) * 16,
          allocated - view.offset,
          host.target.limits.maxBindingBytes,
        );
        entries.push({ binding: params.length + at, resource: { buffer, offset: view.offset, size } });
      });
      return {
        pipeline,
        bindGroup: gpu.createBindGroup({ label: name, layout, entries }),
        workgroups,
        callIndex,
        kernel: source.label,
      };
    },
  );
  const program: WebgpuProgram = {
    label,
    calls,
    steps,
    apart: [...apart.values()],
    destroyed: false,
    destroy() {
      program.destroyed = true;
      program.ahead = undefined;
      uniform.destroy();
    },
  };
  return program;
}

/** Pipelines are set only when they change: neighbouring calls often share one. */
export function encodeSteps(
  pass: GPUComputePassEncoder,
  steps: readonly Step[],
  from: number,
  to: number,
): void {
  let current: GPUComputePipeline | undefined;
  for (let at = from; at < to; at++) {
    const step = steps[at];
    if (step.pipeline !== current) pass.setPipeline(step.pipeline);
    current = step.pipeline;
    pass.setBindGroup(0, step.bindGroup);
    pass.dispatchWorkgroups(step.workgroups);
  }
}
