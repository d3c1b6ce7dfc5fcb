/**
 * Compares a kernel on the device under test (testDevice.ts) with its slow twin on the cpu device, on the same random
 * data. On WebGPU the test's own KernelDefinition runs; on cuda the kernel of that name does, with every tensor that the
 * test calls f16 once as f16 and once as bf16, and where the portable family has a kernel of its own, with that too.
 *
 * Every tensor of the call is looked at afterwards, inputs too: an element that the twin did not touch must keep its
 * exact bits on the device (outputs start as NaN poison, and a poisoned tail follows every tensor, so a write out of
 * bounds shows), and an element that the twin wrote must be close.
 *
 *   await compareWithTwin({
 *     definition: siluMul,
 *     counts: { tokens: 5 },
 *     tensors: { gateUp: random('f16', [8, 2 * f]), out: poisoned('f32', [8, f]) },
 *     call: ({ gateUp, out }) => ({ kernel: 'silu_mul', gateUp, out, rowsPerToken: 1 }),
 *   });
 */
import { afterAll, expect } from 'vitest';
import type { Device, DeviceTarget, DType, TensorView } from '../../src/engine/device.ts';
import { DTYPE_BYTES, elementCount, tensor } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import type { CudaKernel, CudaLaunch, CudaTarget } from '../../src/engine/device/cuda/launch.ts';
import { CUDA_KERNELS } from '../../src/engine/device/cuda/kernels/index.ts';
import type { CallOf, KernelName } from '../../src/engine/kernels/calls.ts';
import type { KernelDefinition, KernelRegistry } from '../../src/engine/kernels/definition.ts';
import {
  RANGE_WORDS,
  stepMetaLayout,
  writeCounts,
  writeRange,
  type COUNT,
  type StepMetaCapacity,
  type StepMetaLayout,
} from '../../src/engine/plan/stepMeta.ts';
import { firstDifference, type Tolerance } from './difference.ts';
import { HALF } from './half.ts';
import { HALF_TYPES, ON_CUDA, openCuda, openWebgpu, type HalfType } from './testDevice.ts';

/** Workgroup budgets that every kernel must give the same result for; undefined is the kernel's own choice. */
export const BUDGETS: readonly (number | undefined)[] = [undefined, 1, 2, 3, 7, 1024];

const POISON_F32 = 0x7fc0dead; // a NaN
const POISON_U32 = 0xdeadbeef;
/** Words of poison after every tensor. */
const TAIL_WORDS = 16;

export type Random = () => number;

/** Seeded generator of floats in [0, 1) (mulberry32). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** An integer in [low, high]. */
export function randomInt(random: Random, low: number, high: number): number {
  return low + Math.floor(random() * (high - low + 1));
}

export interface TensorSpec {
  dtype: DType;
  shape: number[];
  /**
   * Value of each element at the start; undefined = poison. f16 tensors (bf16 in turn, on cuda) are rounded, so both
   * devices see the same.
   */
  fill?: (index: number, random: Random) => number;
}

/** Uniform in [-scale, scale]. */
export function random(dtype: 'f32' | 'f16', shape: number[], scale = 1): TensorSpec {
  return { dtype, shape, fill: (_, next) => (next() * 2 - 1) * scale };
}

export function poisoned(dtype: DType, shape: number[]): TensorSpec {
  return { dtype, shape };
}

export function filled(
  dtype: DType,
  shape: number[],
  fill: (index: number, random: Random) => number,
): TensorSpec {
  return { dtype, shape, fill };
}

type Views<T extends string> = Record<T, TensorView>;

/** Budgets for calls on a part of the rows; the whole batch has seen the others. */
export const PART_BUDGETS: readonly (number | undefined)[] = [undefined, 1, 5, 700];

/** A sub-range of the rows, [start, end). */
export interface Part {
  tokens?: readonly [start: number, end: number];
  logitRows?: readonly [start: number, end: number];
}

/** Some of `count` rows, with rows left out on both sides where there are enough. */
export function partOf(random: Random, count: number): [start: number, end: number] {
  const start = randomInt(random, Math.min(1, count - 1), Math.floor((count - 1) / 2));
  return [start, randomInt(random, Math.min(start + 1, count - 1), Math.max(start + 1, count - 1))];
}

/** The tensor with poison in all rows (of the first axis) but [start, end): a kernel that reads them shows it. */
export function onlyRows(spec: TensorSpec, [start, end]: readonly [number, number]): TensorSpec {
  const length = elementCount(spec.shape) / spec.shape[0];
  const { fill } = spec;
  if (!fill) return spec;
  return {
    ...spec,
    fill: (index, random) => {
      const value = fill(index, random);
      const row = Math.floor(index / length);
      return row >= start && row < end ? value : spec.dtype === 'u32' ? POISON_U32 : NaN;
    },
  };
}

/** Slots of the ranges in tests with a part, and the one that the part stands in. */
const RANGE_SLOTS = 8;
const PART_SLOT = 5;

const FAMILIES = ['hopper', 'portable'] as const;

export interface TwinCase<K extends KernelName, T extends string> {
  definition: KernelDefinition<K>;
  tensors: Record<T, TensorSpec>;
  /** The call without the fields that the harness adds (label, meta, layout, workgroups). */
  call(views: Views<T>): Omit<CallOf<K>, 'label' | 'meta' | 'layout' | 'workgroups'>;
  /** Room of the metadata's sections; what is left out holds 16. */
  capacity?: Partial<StepMetaCapacity>;
  /** Counters at the start of the metadata. */
  counts?: Partial<Record<keyof typeof COUNT, number>>;
  /** Rows that the call works on, when not all: they stand in a slot of the ranges among poisoned ones. */
  part?: Part;
  /** Workgroup size that the call wants. */
  invocations?: number;
  /** Fills other sections of the metadata. */
  meta?: (words: Uint32Array, layout: StepMetaLayout, random: Random) => void;
  budgets?: readonly (number | undefined)[];
  /** Largest |got - expected| allowed: absolute + relative * |expected|. Default by the tensor's dtype. */
  tolerance?: { absolute: number; relative: number };
  /**
   * Facts that the kernel's chooser sees instead of the adapter's: reaches variants for other adapters. Not on cuda.
   */
  target?: Partial<DeviceTarget>;
  /** On cuda: multiprocessors that the chooser sees, as it goes by how many CTAs it needs. */
  multiprocessors?: number;
  /** On cuda: kernels of which families; default of all that differ. */
  families?: readonly CudaTarget['cuda']['family'][];
  seed?: number;
}

const TOLERANCE = {
  f32: { absolute: 2e-5, relative: 2e-5 },
  f16: { absolute: 5e-4, relative: 1.2e-3 }, // half has 11 bits
  bf16: { absolute: 4e-3, relative: 1e-2 }, // 8 bits
};

/** What the device under test and the cpu device run: entries change from test to test. */
const registry: Partial<Record<KernelName, unknown>> = {};
const twins: Partial<Record<KernelName, unknown>> = {};
let opened: Promise<Device> | undefined;
let cpu: Promise<Device> | undefined;

/** The device under test, made once for each test file. */
function testDevice(): Promise<Device> {
  opened ??= ON_CUDA
    ? openCuda(registry as typeof CUDA_KERNELS)
    : openWebgpu(registry as Partial<KernelRegistry>);
  return opened;
}

function cpuDevice(): Promise<Device> {
  cpu ??= createCpuDevice({ registry: twins as Partial<KernelRegistry> });
  return cpu;
}

afterAll(async () => {
  const devices = [await opened?.catch(() => undefined), await cpu];
  // In a bundle of all files (scripts/bundle-tests.js) the next one opens its own.
  opened = cpu = undefined;
  for (const device of devices) device?.destroy();
});

/** Bytes of a tensor at the start, with its tail. `dtype` is how the device stores it, `half` what f16 stands for. */
function initialBytes(spec: TensorSpec, dtype: DType, half: HalfType, seed: number): Uint8Array {
  const count = elementCount(spec.shape);
  const bodyBytes = Math.ceil((count * DTYPE_BYTES[dtype]) / 4) * 4;
  const bytes = new Uint8Array(bodyBytes + TAIL_WORDS * 4);
  const next = seededRandom(seed);
  const halves = spec.dtype === 'f16';
  const { toBits, toFloat, poison } = HALF[half];
  if (dtype === half) {
    const values = new Uint16Array(bytes.buffer).fill(poison);
    if (spec.fill) for (let i = 0; i < count; i++) values[i] = toBits(spec.fill(i, next));
  } else if (dtype === 'f32') {
    new Uint32Array(bytes.buffer).fill(POISON_F32);
    const values = new Float32Array(bytes.buffer);
    if (spec.fill) {
      for (let i = 0; i < count; i++) {
        const value = spec.fill(i, next);
        values[i] = halves ? toFloat(toBits(value)) : value;
      }
    }
  } else {
    const values = new Uint32Array(bytes.buffer).fill(POISON_U32);
    if (spec.fill) for (let i = 0; i < count; i++) values[i] = spec.fill(i, next);
  }
  return bytes;
}

/** How a run stores its tensors and what its metadata says. */
interface Setting {
  storedAs: (spec: TensorSpec) => DType;
  metaWords: Uint32Array;
  layout: StepMetaLayout;
  workgroups?: number;
  /** Asked after the program was compiled: whether it need not run. */
  skip?: () => boolean;
}

/** Runs the call once on a device and returns the bytes of every tensor afterwards. */
async function runOn<K extends KernelName, T extends string>(
  device: Device,
  test: TwinCase<K, T>,
  start: Record<T, Uint8Array>,
  { storedAs, metaWords, layout, workgroups, skip }: Setting,
): Promise<Record<T, Uint8Array> | undefined> {
  const names = Object.keys(test.tensors) as T[];
  const views = {} as Views<T>;
  for (const name of names) {
    const spec = test.tensors[name];
    const buffer = device.createBuffer(name, start[name].byteLength);
    device.write(buffer, 0, start[name]);
    views[name] = tensor(buffer, storedAs(spec), spec.shape);
  }
  const metaBuffer = device.createBuffer('meta', metaWords.byteLength);
  device.write(metaBuffer, 0, metaWords);
  const free = (): void => {
    for (const name of names) device.destroyBuffer(views[name].buffer);
    device.destroyBuffer(metaBuffer);
  };
  const meta = tensor(metaBuffer, 'u32', [layout.words]);
  const range = test.part && PART_SLOT;
  const { invocations } = test;
  const common = { label: 'test', meta, layout, range, invocations, workgroups };
  const call = { ...test.call(views), ...common } as unknown as CallOf<K>;
  const program = await device.compile('test', [call]);
  if (skip?.()) {
    program.destroy();
    free();
    return undefined;
  }
  device.submit(program);
  const result = {} as Record<T, Uint8Array>;
  for (const name of names) {
    result[name] = new Uint8Array(await device.read(views[name].buffer, 0, start[name].byteLength));
  }
  program.destroy();
  free();
  return result;
}

/** Fails with tensor, index and both values at the first element that differs too much. */
export async function compareWithTwin<K extends KernelName, T extends string>(
  test: TwinCase<K, T>,
): Promise<void> {
  const seed = test.seed ?? 1;
  const layout = stepMetaLayout({
    tokens: Math.max(16, test.counts?.tokens ?? 0),
    requests: Math.max(16, test.counts?.logitRows ?? 0),
    pages: 16,
    ranges: RANGE_SLOTS,
    items16: 16,
    items128: 16,
    mergeRows: 16,
    attentionWorkgroups: 16,
    adjustments: 16,
    ...test.capacity,
  });
  const metaWords = new Uint32Array(layout.words);
  metaWords.fill(POISON_U32, layout.ranges, layout.ranges + RANGE_SLOTS * RANGE_WORDS);
  writeCounts(layout, metaWords, test.counts?.tokens ?? 0, test.counts?.logitRows ?? 0);
  if (test.part) {
    const { tokens = [0, 0], logitRows = [0, 0] } = test.part;
    writeRange(layout, metaWords, PART_SLOT, tokens, logitRows);
  }
  test.meta?.(metaWords, layout, seededRandom(seed + 7));

  const names = Object.keys(test.tensors) as T[];
  const specs = Object.values<TensorSpec>(test.tensors);
  const hasHalves = specs.some(({ dtype }) => dtype === 'f16');
  twins[test.definition.kernel] = test.definition;
  const device = await testDevice();
  for (const half of hasHalves ? HALF_TYPES : HALF_TYPES.slice(0, 1)) {
    const startFor = (storedAs: (spec: TensorSpec) => DType): Record<T, Uint8Array> =>
      Object.fromEntries(
        names.map((name, at) => [
          name,
          initialBytes(test.tensors[name], storedAs(test.tensors[name]), half, seed * 1000 + at),
        ]),
      ) as Record<T, Uint8Array>;
    const twinType = (spec: TensorSpec): DType => (spec.dtype === 'f16' ? 'f32' : spec.dtype);
    const ownType = (spec: TensorSpec): DType => (spec.dtype === 'f16' ? half : spec.dtype);
    const twinStart = startFor(twinType);
    const ownStart = startFor(ownType);
    const expected = await runOn(await cpuDevice(), test, twinStart, {
      storedAs: twinType,
      metaWords,
      layout,
    });
    for (const workgroups of test.budgets ?? BUDGETS) {
      for (const { name: variant, skip } of installKernel(test)) {
        const setting = { storedAs: ownType, metaWords, layout, workgroups, skip };
        const got = await runOn(device, test, ownStart, setting);
        if (!got) continue;
        for (const name of names) {
          const spec = test.tensors[name];
          const wrong = firstDifference(
            { spec, half, tolerance: toleranceFor(test, spec, half, hasHalves) },
            {
              twinStart: twinStart[name],
              expected: expected![name],
              ownStart: ownStart[name],
              got: got[name],
            },
          );
          const what = `${test.definition.kernel}${variant}${hasHalves ? ` ${half}` : ''}`;
          if (wrong) expect.fail(`${what}, ${workgroups ?? 'default'} workgroups: ${name}${wrong}`);
        }
      }
    }
  }
}

interface KernelChoice {
  name: string;
  skip?: () => boolean;
}

/** Puts the kernel into the registry of the device under test; on cuda once for each family that differs. */
function* installKernel<K extends KernelName, T extends string>(
  test: TwinCase<K, T>,
): Generator<KernelChoice> {
  const { definition } = test;
  if (!ON_CUDA) {
    registry[definition.kernel] = {
      ...definition,
      launches: (call: CallOf<K>, target: DeviceTarget) =>
        definition.launches(call, { ...target, ...test.target }),
    };
    yield { name: '' };
    return;
  }
  const kernel = CUDA_KERNELS[definition.kernel] as CudaKernel<K> | undefined;
  if (!kernel) throw new Error(`kernel "${definition.kernel}" is not there on cuda`);
  const seen = new Set<string>();
  let fresh = true;
  for (const family of test.families ?? FAMILIES) {
    registry[definition.kernel] = {
      ...kernel,
      launches(call: CallOf<K>, target: CudaTarget): CudaLaunch[] {
        const cuda = {
          ...target.cuda,
          family: family === 'hopper' ? target.cuda.family : family,
          multiprocessors: test.multiprocessors ?? target.cuda.multiprocessors,
        };
        const launches = kernel.launches(call, { ...target, cuda });
        const key = JSON.stringify(launches.map(({ source, defines }) => [source, defines]));
        fresh = !seen.has(key);
        seen.add(key);
        return launches;
      },
    };
    yield { name: family === 'hopper' ? '' : ' (portable)', skip: () => !fresh };
  }
}

/** What may differ: bf16 has 8 bits where f16 has 11, and tensor cores take attention's weights in 16 bits. */
function toleranceFor<K extends KernelName, T extends string>(
  test: TwinCase<K, T>,
  { dtype }: TensorSpec,
  half: HalfType,
  hasHalves: boolean,
): Tolerance | undefined {
  if (dtype === 'u32') return undefined;
  const inHalves = ON_CUDA && hasHalves && test.definition.kernel === 'attention';
  const stored = dtype === 'f16' || inHalves ? half : dtype;
  if (!test.tolerance || inHalves) return TOLERANCE[stored];
  if (stored !== 'bf16') return test.tolerance;
  return { absolute: 8 * test.tolerance.absolute, relative: 8 * test.tolerance.relative };
}
