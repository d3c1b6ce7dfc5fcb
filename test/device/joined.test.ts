/** One dispatch of several kernels gives the bits that the kernels give one after the other, however it is divided. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DTYPE_BYTES, elementCount, tensor, type Device, type TensorView } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { joinParts } from '../../src/engine/device/webgpu/joinParts.ts';
import { launchesOf, type WebgpuProgram } from '../../src/engine/device/webgpu/program.ts';
import type { WebgpuDevice } from '../../src/engine/device/webgpu/webgpuDevice.ts';
import type { JoinedCall, KernelCall, ProgramCall } from '../../src/engine/kernels/calls.ts';
import type { KernelRegistry } from '../../src/engine/kernels/definition.ts';
import { KERNELS } from '../../src/engine/kernels/index.ts';
import { floatToHalf } from './half.ts';
import { randomInt, seededRandom, type TensorSpec } from './harness.ts';
import { CASES, TOKENS, type JoinedCase } from './joinedCases.ts';
import { ON_CUDA, onlyOnWebgpu, openWebgpu } from './testDevice.ts';

const TAIL_WORDS = 16;
const POISON = 0x7e5a7e5a; // NaNs of f16

/** Bytes of a tensor at the start: its values, or poison, and a poisoned tail. */
function initialBytes({ dtype, shape, fill }: TensorSpec, seed: number, floats: boolean): Uint8Array {
  const stored = floats && dtype === 'f16' ? 'f32' : dtype;
  const count = elementCount(shape);
  const words = Math.ceil((count * DTYPE_BYTES[stored]) / 4) + TAIL_WORDS;
  const data = new Uint32Array(words).fill(POISON);
  const next = seededRandom(seed);
  const values = fill ? Array.from({ length: count }, (_, i) => fill(i, next)) : [];
  if (stored === 'f16') new Uint16Array(data.buffer).set(values.map(floatToHalf));
  else if (stored === 'f32') new Float32Array(data.buffer).set(values);
  else data.set(values);
  return new Uint8Array(data.buffer);
}

/** A case's tensors on a device. */
class Bench {
  readonly device: Device;
  readonly parts: KernelCall[];
  readonly #start: { view: TensorView; bytes: Uint8Array }[];

  constructor(device: Device, { tensors, layout, words, calls }: JoinedCase) {
    this.device = device;
    const floats = device.target.kind === 'cpu';
    const views: Record<string, TensorView> = {};
    this.#start = Object.entries(tensors).map(([name, spec], i) => {
      const bytes = initialBytes(spec, i + 1, floats);
      const dtype = floats && spec.dtype === 'f16' ? 'f32' : spec.dtype;
      views[name] = tensor(device.createBuffer(name, bytes.byteLength), dtype, spec.shape);
      return { view: views[name], bytes };
    });
    const meta = device.createBuffer('meta', words.byteLength);
    device.write(meta, 0, words);
    this.parts = calls(views, tensor(meta, 'u32', [layout.words]));
  }

  /** All tensors after a run that starts from the same bytes each time. */
  async run(calls: readonly ProgramCall[]): Promise<Uint8Array[]> {
    const program = await this.device.compile('run', calls);
    for (const { view, bytes } of this.#start) this.device.write(view.buffer, 0, bytes);
    this.device.submit(program);
    const results = await Promise.all(
      this.#start.map(async ({ view, bytes }) => this.device.read(view.buffer, 0, bytes.byteLength)),
    );
    program.destroy();
    return results.map((bytes) => new Uint8Array(bytes));
  }

  /** Tensors that a run changes. */
  changed(after: readonly Uint8Array[]): number {
    return this.#start.filter(({ bytes }, i) => Buffer.compare(bytes, after[i]) !== 0).length;
  }
}

/** The registry as it is, and with the choices for GPUs: kernels with barriers and workgroup memory. */
const gpuKernels = Object.fromEntries(
  Object.entries(KERNELS).map(([name, definition]) => [
    name,
    {
      ...definition,
      launches: (call: never, target: Device['target']) =>
        definition.launches(call, {
          ...target,
          software: false,
          features: { ...target.features, subgroups: false, subgroupMatrix: false },
        }),
    },
  ]),
) as unknown as KernelRegistry;

/** Software drivers take many seconds to compile the GPU's GEMM, or attention of many rows: once each. */
const GPU_CASES = ['gated GEMM, prefill attention', 'norm, merge', 'rope, norm'];
const OWN_CASES = Object.keys(CASES).filter((name) => name !== GPU_CASES[0]);

describe.each([
  ['as on this adapter', KERNELS, OWN_CASES],
  ['as on a GPU without subgroups', gpuKernels, GPU_CASES],
])('joined calls, kernels %s', (_, registry, names) => {
  let device: WebgpuDevice;
  beforeAll(async () => {
    if (!ON_CUDA) device = await openWebgpu(registry);
  });
  afterAll(() => device?.destroy());

  it.for(names)('%s', async (name, context) => {
    onlyOnWebgpu(context, 'dispatches of several kernels');
    const bench = new Bench(device, CASES[name]);
    const next = seededRandom(name.length);
    const cut = (): number => randomInt(next, 1, 9);
    const plain = joinParts(
      { kernel: 'joined', label: name, parts: bench.parts },
      device.target,
      (part, on) => launchesOf(registry, part, on),
    );
    if ('reason' in plain) throw new Error(plain.reason);
    // The order of sums may depend on the size of a workgroup, so parts that run alone get that of the dispatch.
    const invocations = Number(/@workgroup_size\((\d+)\)/.exec(plain.joined.code())![1]);
    const alone = bench.parts.map((part) => ({ ...part, invocations, workgroups: 3 }));
    const expected = await bench.run(alone);
    expect(bench.changed(expected)).toBeGreaterThanOrEqual(bench.parts.length);
    for (const layout of ['blocks', 'spread', 'blocks', 'spread'] as const) {
      const parts = bench.parts.map((part) => ({ ...part, workgroups: cut() }));
      const call: JoinedCall = { kernel: 'joined', label: name, parts, layout };
      const program = (await device.compile(name, [call])) as WebgpuProgram;
      expect(program.apart).toEqual([]);
      expect(program.steps).toHaveLength(1);
      program.destroy();
      const got = await bench.run([call]);
      const shares = parts.map((part) => part.workgroups).join(' + ');
      got.forEach((bytes, i) =>
        expect(Buffer.compare(bytes, expected[i]), `${layout} ${shares}: tensor ${i} differs`).toBe(0),
      );
    }
  });

  it('parts that cannot be joined run in order, and the program says why', async (context) => {
    onlyOnWebgpu(context, 'dispatches of several kernels');
    const bench = new Bench(device, CASES['rope, norm']);
    const [rope, norm] = bench.parts as [KernelCall & { q: TensorView }, KernelCall];
    const x = tensor(rope.q.buffer, 'f32', [TOKENS, 64]);
    const weight = tensor(device.createBuffer('weight', 256), 'f32', [64]);
    device.write(weight.buffer, 0, new Float32Array(64).fill(2));
    const out = tensor(device.createBuffer('out', TOKENS * 64 * 2), 'f16', [TOKENS, 64]);
    // The norm reads what rope writes.
    const parts = [rope, { ...norm, x, residual: undefined, weight, out } as KernelCall];
    const call: JoinedCall = { kernel: 'joined', label: 'dependent', parts };
    const program = (await device.compile('dependent', [call, { ...call, label: 'again' }])) as WebgpuProgram;
    expect(program.apart).toEqual([
      { label: 'dependent', reason: '"0.q" is written by one part and used by another' },
    ]);
    expect(program.steps).toHaveLength(4);
    program.destroy();
    const read = async (): Promise<string> =>
      Buffer.from(await device.read(out.buffer, 0, TOKENS * 64 * 2)).toString('hex');
    await bench.run(parts);
    const expected = await read();
    device.write(out.buffer, 0, new Uint8Array(TOKENS * 64 * 2));
    await bench.run([call]);
    expect(await read()).toBe(expected);
    expect(expected).not.toMatch(/^0*$/);
  });

  it('a profile has one timing for a joined call', async (context) => {
    onlyOnWebgpu(context, 'dispatches of several kernels');
    const bench = new Bench(device, CASES['norm, merge']);
    const joinedCall: JoinedCall = { kernel: 'joined', label: 'layers.0: norm | merge', parts: bench.parts };
    const program = await device.compile('profile', [bench.parts[0], joinedCall, bench.parts[1]]);
    const timings = await device.profile(program);
    program.destroy();
    if (!device.target.features.timestamps) return expect(timings).toEqual([]);
    expect(timings.map(({ label }) => label)).toEqual(['part 0', 'layers.0: norm | merge', 'part 1']);
    expect(timings[1].kernel).toMatch(/rms_norm.*\|.*merge/);
  });
});

describe('joined calls on the cpu device', () => {
  it.each(Object.keys(CASES))('%s: as one after the other', async (name) => {
    const device = await createCpuDevice({ registry: KERNELS });
    const bench = new Bench(device, CASES[name]);
    const expected = await bench.run(bench.parts);
    const got = await bench.run([{ kernel: 'joined', label: name, parts: bench.parts }]);
    expect(bench.changed(expected)).toBeGreaterThanOrEqual(bench.parts.length);
    got.forEach((bytes, i) => expect(Buffer.compare(bytes, expected[i])).toBe(0));
    device.destroy();
  });
});
