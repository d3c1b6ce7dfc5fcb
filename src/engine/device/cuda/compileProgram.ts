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
  type NativeLaunch,
  type NativePlace,
  type NativeProduct,
  type NativeProductLaunch,
} from './native.ts';

export interface CompileHost {
  target: CudaTarget;
  registry: Partial<CudaRegistry>;
  /** The address of a view; throws when its buffer is not of this device. */
  address(view: TensorView, use: string): number;
  /** Handle of the loaded kernel. */
  kernel(launch: CudaLaunch, onCompile?: (event: CompileEvent) => void): Promise<number>;
  /** Puts another launch in the place of each, for profiles. */
  change?(launch: CudaLaunch, name: LaunchName): CudaLaunch;
}

/** One launch of a program, for profiles. */
export interface LaunchName {
  callIndex: number;
  kernel: string; // source and variant
  label: string;
  call?: KernelCall; // undefined for benches that bring their own launches
}

/** A program as the addon takes it. */
export interface NativeList {
  launches: (NativeLaunch | NativeProductLaunch)[];
  names: LaunchName[];
}

/** Launches of one lane, for benches that bring their own. */
export interface LaunchLane {
  label: string;
  launches: readonly CudaLaunch[];
  /** SMs of the green context that it runs in; default the whole GPU. */
  multiprocessors?: number;
}

/** For launches that no call stands for: steps one after the other, the lanes of a step side by side. */
export async function launchSteps(
  host: CompileHost,
  steps: readonly (readonly LaunchLane[])[],
): Promise<NativeList> {
  const list = new LaunchList(host);
  for (const [callIndex, lanes] of steps.entries()) {
    await list.sideBySide(lanes.map((lane) => ({ ...lane, callIndex })));
  }
  return list;
}

/** @throws Error naming the call for anything that the GPU could not run. */
export async function programLaunches(
  host: CompileHost,
  calls: readonly ProgramCall[],
  onCompile?: (event: CompileEvent) => void,
): Promise<NativeList> {
  const list = new LaunchList(host, onCompile);
  for (const [callIndex, call] of calls.entries()) {
    const lane = (part: KernelCall): Lane => ({
      label: part.label,
      launches: launchesOf(host, part),
      callIndex,
      call: part,
      multiprocessors: part.contextCores,
    });
    if (call.kernel === 'joined') await list.sideBySide(call.parts.map(lane));
    else {
      const { stream = 0, needs = [], signal } = call;
      await list.add(
        lane(call),
        stream,
        needs.map((name) => list.event(name)),
        signal,
      );
    }
  }
  return list;
}

interface Lane extends LaunchLane {
  callIndex: number;
  call?: KernelCall;
}

/** Launches with their streams and events, as they are added. */
class LaunchList implements NativeList {
  readonly launches: NativeList['launches'] = [];
  readonly names: LaunchName[] = [];
  readonly #host: CompileHost;
  readonly #onCompile?: (event: CompileEvent) => void;
  readonly #events = new Map<string, number>();
  #eventCount = 0;
  /** Events that the next launch of the main stream waits for: ends of the lanes beside it. */
  #ends: number[] = [];

  constructor(host: CompileHost, onCompile?: (event: CompileEvent) => void) {
    this.#host = host;
    this.#onCompile = onCompile;
  }

  /** Number of a named event. @throws Error for one that no call before signals. */
  event(name: string): number {
    const event = this.#events.get(name);
    if (event !== undefined) return event;
    throw new Error(
      `a call needs "${name}", which no call before it signals; put it later, or name the signal`,
    );
  }

  /** Lane i on stream i, after everything before; what comes next waits for all of them. */
  async sideBySide(lanes: readonly Lane[]): Promise<void> {
    const before = lanes.length > 1 ? this.#mark() : undefined;
    const ends: number[] = [];
    for (const [stream, lane] of lanes.entries()) {
      if (lane.launches.length === 0) continue;
      const waits = stream > 0 && before !== undefined ? [before] : [];
      await this.add(lane, stream, waits);
      if (stream > 0) ends.push(this.#signalLast());
    }
    this.#ends.push(...ends);
  }

  async add(lane: Lane, stream: number, waits: number[], signal?: string): Promise<void> {
    const { label, launches, multiprocessors = 0, callIndex, call } = lane;
    for (const [at, chosen] of launches.entries()) {
      const moved = this.#contextChange(stream, multiprocessors);
      check(chosen, label, this.#host.target);
      const name = { callIndex, kernel: `${chosen.source} ${chosen.variant}`.trim(), label, call };
      this.names.push(name);
      const launch = this.#host.change?.(chosen, name) ?? chosen;
      const ends = stream === 0 ? this.#ends : [];
      const place: NativePlace = {
        stream,
        multiprocessors,
        waits: [...(at === 0 ? [...waits, ...ends] : []), ...moved],
        signal: -1,
      };
      if (stream === 0) this.#ends = [];
      this.launches.push(
        launch.product
          ? { ...place, product: nativeProduct(this.#host, launch.product, label) }
          : { ...place, ...(await nativeLaunch(this.#host, launch, label, this.#onCompile)) },
      );
    }
    if (signal !== undefined && launches.length > 0) this.#events.set(signal, this.#signalLast());
  }

  /** A stream has one CUDA stream for each green context; its order goes on from one to the other by events. */
  #contextChange(stream: number, multiprocessors: number): number[] {
    const last = this.launches.findLast((launch) => launch.stream === stream);
    if (!last || last.multiprocessors === multiprocessors) return [];
    if (last.signal < 0) last.signal = this.#eventCount++;
    return [last.signal];
  }

  /** The event that the last launch of the main stream signals; undefined when there is none. */
  #mark(): number | undefined {
    const last = this.launches.findLast(({ stream }) => stream === 0);
    if (!last) return undefined;
    if (last.signal < 0) last.signal = this.#eventCount++;
    return last.signal;
  }

  #signalLast(): number {
    const last = this.launches.at(-1)!;
    if (last.signal < 0) last.signal = this.#eventCount++;
    return last.signal;
  }
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
): Promise<Omit<NativeLaunch, keyof NativePlace>> {
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
