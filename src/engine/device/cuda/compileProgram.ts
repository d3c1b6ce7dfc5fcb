/** From kernel calls to what the addon launches: choosers, modules, addresses. */
import { DTYPE_BYTES, elementCount, type CompileEvent, type TensorView } from '../../device.ts';
import type { KernelCall, ProgramCall } from '../../kernels/calls.ts';
import type {
  CudaArgument,
  CudaKernel,
  CudaLaunch,
  CudaRegistry,
  CudaTarget,
  TensorMapSpec,
} from './launch.ts';
import {
  ELEMENT,
  KIND,
  type NativeLane,
  type NativeLaunch,
  type NativeProduct,
  type NativeStep,
} from './native.ts';

export interface CompileHost {
  target: CudaTarget;
  registry: Partial<CudaRegistry>;
  /** The address of a view; throws when its buffer is not of this device. */
  address(view: TensorView, use: string): number;
  /** Handle of the loaded kernel. */
  kernel(launch: CudaLaunch, onCompile?: (event: CompileEvent) => void): Promise<number>;
}

/** One launch of a program, for profiles. */
export interface LaunchName {
  callIndex: number;
  kernel: string; // source and variant
  label: string;
}

export interface NativeSteps {
  steps: NativeStep[];
  names: LaunchName[];
}

/** Launches of one lane, for benches that bring their own. */
export interface LaunchLane {
  label: string;
  launches: readonly CudaLaunch[];
  /** SMs of the green context that it runs in; default the whole GPU. */
  multiprocessors?: number;
}

/** As nativeSteps(), for launches that no call stands for: steps one after the other, the lanes of a step side by side. */
export async function nativeLaunchSteps(
  host: CompileHost,
  steps: readonly (readonly LaunchLane[])[],
): Promise<NativeSteps> {
  const names: LaunchName[] = [];
  const made: NativeStep[] = [];
  for (const [callIndex, lanes] of steps.entries()) {
    const step: NativeStep = [];
    for (const { label, launches, multiprocessors = 0 } of lanes) {
      step.push({ multiprocessors, launches: await laneLaunches(host, launches, label, callIndex, names) });
    }
    made.push(step);
  }
  return { steps: made, names };
}

async function laneLaunches(
  host: CompileHost,
  launches: readonly CudaLaunch[],
  label: string,
  callIndex: number,
  names: LaunchName[],
  onCompile?: (event: CompileEvent) => void,
): Promise<NativeLane['launches']> {
  const made: NativeLane['launches'] = [];
  for (const launch of launches) {
    check(launch, label, host.target);
    names.push({ callIndex, kernel: `${launch.source} ${launch.variant}`.trim(), label });
    made.push(
      launch.product
        ? { product: nativeProduct(host, launch.product, label) }
        : await nativeLaunch(host, launch, label, onCompile),
    );
  }
  return made;
}

/** @throws Error naming the call for anything that the GPU could not run. */
export async function nativeSteps(
  host: CompileHost,
  calls: readonly ProgramCall[],
  onCompile?: (event: CompileEvent) => void,
): Promise<NativeSteps> {
  const names: LaunchName[] = [];
  const lane = async (call: KernelCall, callIndex: number): Promise<NativeLane> => ({
    multiprocessors: 0,
    launches: await laneLaunches(host, launchesOf(host, call), call.label, callIndex, names, onCompile),
  });
  const steps: NativeStep[] = [];
  for (const [callIndex, call] of calls.entries()) {
    if (call.kernel === 'joined') {
      const lanes: NativeLane[] = [];
      for (const part of call.parts) lanes.push(await lane(part, callIndex));
      steps.push(lanes);
    } else {
      const made = await lane(call, callIndex);
      // Calls one after the other make one lane.
      const last = steps.at(-1);
      if (last?.length === 1) last[0].launches.push(...made.launches);
      else steps.push([made]);
    }
  }
  return { steps, names };
}

function launchesOf({ registry, target }: CompileHost, call: KernelCall): CudaLaunch[] {
  const kernel = registry[call.kernel] as CudaKernel<KernelCall['kernel']> | undefined;
  if (!kernel) throw new Error(`call "${call.label}": no kernel "${call.kernel}" in this device's registry`);
  return kernel.launches(call, target);
}

const MOST_CTAS = 2 ** 31 - 1;

function check(
  { source, variant, ctas, threads, cluster = 1, sharedBytes = 0 }: CudaLaunch,
  label: string,
  { cuda }: CudaTarget,
): void {
  const fail = (what: string): never => {
    throw new Error(`${source} ${variant} in call "${label}": ${what}`);
  };
  if (!Number.isInteger(ctas) || ctas < 1 || ctas > MOST_CTAS)
    fail(`got ${ctas} CTAs, expected 1..${MOST_CTAS}`);
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024)
    fail(`got ${threads} threads, expected 1..1024`);
  if (ctas % cluster !== 0) fail(`got ${ctas} CTAs in clusters of ${cluster}, expected a multiple`);
  if (sharedBytes > cuda.sharedBytesPerCta) {
    fail(`got ${sharedBytes} bytes of shared memory, the GPU has ${cuda.sharedBytesPerCta} for a CTA`);
  }
}

async function nativeLaunch(
  host: CompileHost,
  launch: CudaLaunch,
  label: string,
  onCompile?: (event: CompileEvent) => void,
): Promise<NativeLaunch> {
  return {
    kernel: await host.kernel(launch, onCompile),
    ctas: launch.ctas,
    threads: launch.threads,
    cluster: launch.cluster ?? 1,
    sharedBytes: launch.sharedBytes ?? 0,
    early: launch.early ?? true,
    args: launch.args.map((argument) => nativeArgument(host, argument, label)),
  };
}

function nativeArgument(host: CompileHost, argument: CudaArgument, label: string): number[] {
  if ('u32' in argument) return [KIND.u32, argument.u32];
  if ('f32' in argument) return [KIND.f32, argument.f32];
  if ('counters' in argument) return [KIND.counters, argument.counters];
  if ('scratch' in argument) return [KIND.scratch, argument.scratch];
  if ('map' in argument) return nativeMap(host, argument.map, label);
  return [KIND.address, argument.pointer ? addressOf(host, argument.pointer, label) : 0];
}

function nativeMap(
  host: CompileHost,
  { view, sizes, strides, box, swizzle }: TensorMapSpec,
  label: string,
): number[] {
  const rank = sizes.length;
  const wrong =
    box.length !== rank || strides.length !== rank - 1 || rank < 2 || rank > 5
      ? `rank ${rank} with ${box.length} box sizes and ${strides.length} strides`
      : box.some((size) => size < 1 || size > 256)
        ? `box [${box}]`
        : strides.some((stride) => stride % 16 !== 0)
          ? `strides [${strides}] that are no multiples of 16 bytes`
          : swizzle > 0 && box[0] * DTYPE_BYTES[view.dtype] > swizzle
            ? `a box row of ${box[0] * DTYPE_BYTES[view.dtype]} bytes for a swizzle of ${swizzle}`
            : undefined;
  if (wrong)
    throw new Error(
      `call "${label}": tensor map of "${view.buffer.label}" with ${wrong}; TMA cannot do that`,
    );
  return [
    KIND.map,
    addressOf(host, view, label),
    ELEMENT[view.dtype],
    swizzle,
    rank,
    ...sizes,
    ...strides,
    ...box,
  ];
}

function nativeProduct(
  host: CompileHost,
  product: NonNullable<CudaLaunch['product']>,
  label: string,
): NativeProduct {
  const { a, w, out, m, outColumn, add } = product;
  const [n, k] = w.shape;
  return {
    a: addressOf(host, a, label),
    w: addressOf(host, w, label),
    out: addressOf(host, out, label) + outColumn * DTYPE_BYTES[out.dtype],
    m,
    n,
    k,
    ldc: out.shape.at(-1)!,
    inType: ELEMENT[a.dtype],
    outType: ELEMENT[out.dtype],
    add,
  };
}

function addressOf(host: CompileHost, view: TensorView, label: string): number {
  const end = view.offset + elementCount(view.shape) * DTYPE_BYTES[view.dtype];
  if (end > view.buffer.bytes) {
    throw new Error(
      `call "${label}": "${view.buffer.label}" [${view.shape.join(', ')}] ends at byte ${end}, the buffer has ${view.buffer.bytes}`,
    );
  }
  return host.address(view, `call "${label}"`);
}
