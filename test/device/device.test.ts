/** What every device promises, on the cpu and on the device under test; a kernel (silu_mul) serves as the work. */
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { CompileEvent, Device, TensorView } from '../../src/engine/device.ts';
import { DeviceLostError, tensor } from '../../src/engine/device.ts';
import { CUDA_KERNELS } from '../../src/engine/device/cuda/kernels/index.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { findNodeAdapters } from '../../src/engine/device/webgpu/gpu.node.ts';
import { createWebgpuDevice, type WebgpuDevice } from '../../src/engine/device/webgpu/webgpuDevice.ts';
import type { KernelCall, SiluMulCall } from '../../src/engine/kernels/calls.ts';
import { siluMul } from '../../src/engine/kernels/silu_mul.ts';
import { stepMetaLayout, writeCounts } from '../../src/engine/plan/stepMeta.ts';
import { compareWithTwin, poisoned, random, type TwinCase } from './harness.ts';
import { ON_CUDA, onlyOnWebgpu, openCuda, openWebgpu } from './testDevice.ts';

const registry = { silu_mul: siluMul };

const newWebgpu = (): Promise<WebgpuDevice> => openWebgpu(registry);

type CountingDevice = Device & { readonly allocatedBytes: number };

const underTest = ON_CUDA
  ? (['cuda', () => openCuda({ silu_mul: CUDA_KERNELS.silu_mul }) as Promise<CountingDevice>] as const)
  : (['webgpu', newWebgpu] as const);

const layout = stepMetaLayout({
  tokens: 8,
  requests: 1,
  pages: 1,
  items16: 1,
  items128: 1,
  mergeRows: 1,
  attentionWorkgroups: 1,
  adjustments: 1,
});

function metaWords(tokens: number): Uint32Array {
  const words = new Uint32Array(layout.words);
  writeCounts(layout, words, tokens, 0);
  return words;
}

/** Metadata that says how many tokens there are. */
function metadata(device: Device, tokens: number): TensorView {
  const buffer = device.createBuffer('meta', layout.words * 4);
  device.write(buffer, 0, metaWords(tokens));
  return tensor(buffer, 'u32', [layout.words]);
}

function siluCall(meta: TensorView, gateUp: TensorView, out: TensorView): SiluMulCall {
  return { kernel: 'silu_mul', label: 'layers.0.silu', meta, layout, gateUp, out, rowsPerToken: 1 };
}

const floats = async (device: Device, view: TensorView, count: number): Promise<number[]> => [
  ...new Float32Array(await device.read(view.buffer, view.offset, count * 4)),
];

const silu = (gate: number, up: number): number => (gate / (1 + Math.exp(-gate))) * up;

describe.each([['cpu', () => createCpuDevice({ registry })], underTest] as const)(
  'the %s device',
  (kind, create: () => Promise<CountingDevice>) => {
    let device: CountingDevice;
    beforeAll(async () => {
      device = await create();
    });
    afterAll(() => device.destroy());

    it('says what it is', () => {
      expect(device.target.kind).toBe(kind);
      expect(device.target.name).not.toBe('');
      expect(device.target.defaultWorkgroups).toBeGreaterThan(0);
    });

    it('gives buffers of zeros', async () => {
      const buffer = device.createBuffer('zeros', 1000);
      expect(new Uint8Array(await device.read(buffer, 0, 1000)).every((byte) => byte === 0)).toBe(true);
      device.destroyBuffer(buffer);
    });

    it('reads what was last written, whatever the caller does with the data afterwards', async () => {
      const words = 256;
      const buffer = device.createBuffer('words', words * 4);
      const model = new Uint32Array(words);
      const write = fc.record({
        at: fc.nat(words - 1),
        values: fc.uint32Array({ minLength: 1, maxLength: 40 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(write, { maxLength: 6 }), fc.nat(words - 1), async (writes, from) => {
          for (const { at, values } of writes) {
            const data = values.slice(0, words - at);
            model.set(data, at);
            device.write(buffer, at * 4, data);
            data.fill(0xbad);
          }
          const read = new Uint32Array(await device.read(buffer, from * 4, (words - from) * 4));
          expect(read).toEqual(model.slice(from));
        }),
        { numRuns: 25 },
      );
      device.destroyBuffer(buffer);
    });

    it('orders writes, submits and reads', async () => {
      const meta = metadata(device, 1);
      const gateUp = tensor(device.createBuffer('gateUp', 8), 'f32', [1, 2]);
      const out = tensor(device.createBuffer('out', 4), 'f32', [1, 1]);
      const program = await device.compile('order', [siluCall(meta, gateUp, out)]);
      const results: Promise<ArrayBuffer>[] = [];
      for (let round = 1; round <= 20; round++) {
        device.write(gateUp.buffer, 0, Float32Array.of(round, 2));
        device.submit(program);
        results.push(device.read(out.buffer, 0, 4));
      }
      for (const [index, result] of (await Promise.all(results)).entries()) {
        expect(new Float32Array(result)[0]).toBeCloseTo(silu(index + 1, 2), 4);
      }
      program.destroy();
      for (const view of [meta, gateUp, out]) device.destroyBuffer(view.buffer);
    });

    it('runs the calls of a long program in order, each seeing the results of those before', async () => {
      const meta = metadata(device, 1);
      const a = device.createBuffer('a', 8);
      const b = device.createBuffer('b', 8);
      device.write(a, 0, Float32Array.of(1.5, 1.25));
      device.write(b, 0, Float32Array.of(0, 1.26));
      const view = (buffer: typeof a, length: number): TensorView => tensor(buffer, 'f32', [1, length]);
      const calls: KernelCall[] = [];
      const model = { a: [1.5, 1.25], b: [0, 1.26] };
      for (let i = 0; i < 150; i++) {
        calls.push(siluCall(meta, view(a, 2), view(b, 1)), siluCall(meta, view(b, 2), view(a, 1)));
        model.b[0] = silu(model.a[0], model.a[1]);
        model.a[0] = silu(model.b[0], model.b[1]);
      }
      const program = await device.compile('long', calls);
      device.submit(program);
      await device.idle();
      const [got] = await floats(device, view(a, 2), 1);
      expect(Math.abs(got - model.a[0])).toBeLessThanOrEqual(1e-3 * Math.abs(model.a[0]));
      program.destroy();
      for (const buffer of [a, b, meta.buffer]) device.destroyBuffer(buffer);
    });

    it('reads the counters anew at each submit', async () => {
      const meta = metadata(device, 0);
      const gateUp = tensor(device.createBuffer('gateUp', 4 * 8), 'f32', [4, 2]);
      const out = tensor(device.createBuffer('out', 4 * 4), 'f32', [4, 1]);
      device.write(gateUp.buffer, 0, new Float32Array(8).fill(1));
      const program = await device.compile('counters', [siluCall(meta, gateUp, out)]);
      for (const tokens of [0, 3, 4]) {
        device.write(meta.buffer, 0, metaWords(tokens));
        device.write(out.buffer, 0, new Float32Array(4).fill(-1));
        device.submit(program);
        const rows = await floats(device, out, 4);
        expect(rows.filter((value) => value > 0)).toHaveLength(tokens);
        expect(rows.slice(tokens)).toEqual(Array.from({ length: 4 - tokens }, () => -1));
      }
      program.destroy();
      for (const view of [meta, gateUp, out]) device.destroyBuffer(view.buffer);
    });

    it('times each call of a program', async () => {
      const meta = metadata(device, 1);
      const gateUp = tensor(device.createBuffer('gateUp', 8192), 'f32', [1, 2048]);
      const out = tensor(device.createBuffer('out', 4096), 'f32', [1, 1024]);
      const call = siluCall(meta, gateUp, out);
      const program = await device.compile('profile', [call, { ...call, label: 'layers.1.silu' }]);
      const timings = await device.profile(program);
      expect(timings.map(({ label }) => label)).toEqual(['layers.0.silu', 'layers.1.silu']);
      for (const { microseconds } of timings) expect(microseconds).toBeGreaterThan(0);
      program.destroy();
      for (const view of [meta, gateUp, out]) device.destroyBuffer(view.buffer);
    });

    it('refuses ranges outside of a buffer or between words', async () => {
      const buffer = device.createBuffer('small', 64);
      expect(() => device.write(buffer, 60, new Float32Array(2))).toThrow(
        /"small": got bytes 60..68, the buffer has 64/,
      );
      expect(() => device.write(buffer, -4, new Float32Array(1))).toThrow(/"small"/);
      expect(() => device.write(buffer, 0, new Uint8Array(3))).toThrow(/multiples of 4/);
      expect(() => device.write(buffer, 2, new Float32Array(1))).toThrow(/multiples of 4/);
      await expect(device.read(buffer, 0, 68)).rejects.toThrow(/the buffer has 64/);
      device.destroyBuffer(buffer);
    });

    it('refuses buffers that it does not have', async () => {
      const buffer = device.createBuffer('gone', 64);
      device.destroyBuffer(buffer);
      device.destroyBuffer(buffer); // twice is harmless
      await expect(device.read(buffer, 0, 4)).rejects.toThrow(
        /"gone" was destroyed or belongs to another device/,
      );
      const meta = metadata(device, 1);
      const view = tensor(buffer, 'f32', [1, 2]);
      await expect(device.compile('gone', [siluCall(meta, view, view)])).rejects.toThrow(/gone/);
      device.destroyBuffer(meta.buffer);
    });

    it('refuses a buffer that is too large, with label, bytes and limit', () => {
      const bytes = 2 ** 52;
      expect(() => device.createBuffer('huge', bytes)).toThrow(
        new RegExp(`"huge".*${bytes}${ON_CUDA ? '' : `.*${device.target.limits.maxBufferBytes}`}`),
      );
      expect(() => device.createBuffer('negative', -1)).toThrow(/"negative"/);
    });

    it('refuses calls of kernels that it does not have, and tensors that leave their buffer', async () => {
      const meta = metadata(device, 1);
      const out = tensor(device.createBuffer('out', 16), 'f32', [1, 4]);
      const unknown = { ...siluCall(meta, out, out), kernel: 'merge' } as unknown as KernelCall;
      await expect(device.compile('bad', [unknown])).rejects.toThrow(/no kernel "merge"/);
      const long = tensor(out.buffer, 'f32', [4, 8]);
      await expect(device.compile('bad', [siluCall(meta, long, out)])).rejects.toThrow(/the buffer has 16/);
      for (const view of [meta, out]) device.destroyBuffer(view.buffer);
    });

    it('counts the bytes of its buffers', () => {
      const before = device.allocatedBytes;
      const buffers = [100, 0, 4096].map((bytes) => device.createBuffer('counted', bytes));
      expect(device.allocatedBytes - before).toBe(4196);
      for (const buffer of buffers) device.destroyBuffer(buffer);
      expect(device.allocatedBytes).toBe(before);
      expect(before).toBe(0); // the tests above have freed theirs
    });

    it('throws DeviceLostError from every call once it is gone', async () => {
      const lost = await create();
      const meta = metadata(lost, 1);
      const gateUp = tensor(lost.createBuffer('gateUp', 8), 'f32', [1, 2]);
      const out = tensor(lost.createBuffer('out', 4), 'f32', [1, 1]);
      const program = await lost.compile('program', [siluCall(meta, gateUp, out)]);
      lost.destroy();
      lost.destroy();
      expect((await lost.lost).reason).not.toBe('');
      expect(lost.allocatedBytes).toBe(0);
      expect(() => lost.createBuffer('late', 4)).toThrow(DeviceLostError);
      expect(() => lost.write(out.buffer, 0, new Float32Array(1))).toThrow(DeviceLostError);
      expect(() => lost.submit(program)).toThrow(DeviceLostError);
      await expect(lost.read(out.buffer, 0, 4)).rejects.toThrow(DeviceLostError);
      await expect(lost.compile('late', [])).rejects.toThrow(DeviceLostError);
      await expect(lost.idle()).rejects.toThrow(DeviceLostError);
      await expect(lost.profile(program)).rejects.toThrow(DeviceLostError);
      lost.destroyBuffer(out.buffer); // clean-up code may still run
    });
  },
);

describe('the cpu device', () => {
  it('refuses f16 tensors', async () => {
    const device = await createCpuDevice({ registry });
    const meta = metadata(device, 1);
    const view = tensor(device.createBuffer('half', 64), 'f16', [1, 2]);
    await expect(device.compile('f16', [siluCall(meta, view, view)])).rejects.toThrow(/got f16 for "half"/);
    device.destroy();
  });
});

describe('the webgpu device', () => {
  let device: WebgpuDevice;
  beforeAll(async () => {
    if (!ON_CUDA) device = await newWebgpu();
  });
  beforeEach((context) => onlyOnWebgpu(context, 'the device itself'));
  afterAll(() => device?.destroy());

  it('reports each pipeline once', async () => {
    const meta = metadata(device, 1);
    const gateUp = tensor(device.createBuffer('gateUp', 32), 'f32', [1, 8]);
    const out = tensor(device.createBuffer('out', 16), 'f32', [1, 4]);
    const events: CompileEvent[] = [];
    const call = siluCall(meta, gateUp, out);
    await Promise.all(
      ['a', 'b'].map((label) => device.compile(label, [call, call], (event) => events.push(event))),
    );
    await device.compile('c', [call], (event) => events.push(event));
    expect(events.map(({ kernel }) => kernel)).toEqual(['silu_mul f32 f32 x4']);
    expect(events[0].milliseconds).toBeGreaterThan(0);
  });

  it('refuses a buffer that one dispatch would read and write', async () => {
    const meta = metadata(device, 1);
    const buffer = device.createBuffer('arena', 1024);
    const call = siluCall(meta, tensor(buffer, 'f32', [1, 8]), tensor(buffer, 'f32', [1, 4], 512));
    await expect(device.compile('alias', [call])).rejects.toThrow(
      /layers\.0\.silu.*"arena".*for reading and for writing in one dispatch/,
    );
  });

  it('shows the compiler message, the kernel and the lines of a shader that does not compile', async () => {
    const broken = await newBroken({ IN: 'f64' });
    await expect(broken.run).rejects.toThrow(
      /kernel "silu_mul broken" does not compile: line \d+: .*f64x4[\s\S]*> +\d+ \| .*f64x4/,
    );
    broken.device.destroy();
  });

  it('refuses more workgroups than a dispatch can have', async () => {
    const broken = await newBroken({}, 70000);
    await expect(broken.run).rejects.toThrow(/got 70000 workgroups, expected 1\.\.65535/);
    broken.device.destroy();
  });

  it('reports errors that WebGPU finds after the call has returned', async () => {
    const own = await newWebgpu();
    const meta = metadata(own, 1);
    const gateUp = tensor(own.createBuffer('gateUp', 32), 'f32', [1, 8]);
    const out = tensor(own.createBuffer('out', 16), 'f32', [1, 4]);
    const program = await own.compile('late', [siluCall(meta, gateUp, out)]);
    own.destroyBuffer(out.buffer);
    own.submit(program);
    await expect(own.idle()).rejects.toThrow(/WebGPU error: .*out/);
    await own.idle(); // reported once; the device still works
    expect(await floats(own, gateUp, 8)).toEqual(Array.from({ length: 8 }, () => 0));
    own.destroy();
  });

  it('rejects reads that are under way when the device goes', async () => {
    const own = await newWebgpu();
    const buffer = own.createBuffer('pending', 1024);
    const pending = own.read(buffer, 0, 1024);
    own.destroy();
    await expect(pending).rejects.toThrow(DeviceLostError);
  });

  /** A device whose silu_mul launches with other defines. */
  async function newBroken(
    defines: Record<string, string>,
    workgroups?: number,
  ): Promise<{ device: WebgpuDevice; run: Promise<unknown> }> {
    const { candidates } = await findNodeAdapters();
    const made = await createWebgpuDevice(candidates[0].adapter, {
      registry: {
        silu_mul: {
          ...siluMul,
          launches: (call, target) =>
            siluMul.launches({ ...call, workgroups }, target).map((launch) => ({
              ...launch,
              variant: 'broken',
              defines: { ...launch.defines, ...defines },
            })),
        },
      },
    });
    const meta = metadata(made, 1);
    const gateUp = tensor(made.createBuffer('gateUp', 32), 'f32', [1, 8]);
    const out = tensor(made.createBuffer('out', 16), 'f32', [1, 4]);
    return { device: made, run: made.compile('broken', [siluCall(meta, gateUp, out)]) };
  }
});

describe('the twin harness', () => {
  const sound: TwinCase<'silu_mul', 'gateUp' | 'out'> = {
    definition: siluMul,
    counts: { tokens: 2 },
    budgets: [1],
    tensors: { gateUp: random('f32', [3, 16]), out: poisoned('f32', [3, 8]) },
    call: ({ gateUp, out }) => ({ kernel: 'silu_mul', gateUp, out, rowsPerToken: 1 }),
  };
  const withTwin = (twin: typeof siluMul.twin): typeof sound => ({
    ...sound,
    definition: { ...siluMul, twin },
  });

  it('accepts a sound kernel', () => compareWithTwin(sound));

  it('sees a wrong value', async () => {
    const wrong = withTwin((call, memory) => {
      siluMul.twin(call, memory);
      memory.f32(call.out)[11] *= 1.001;
    });
    await expect(compareWithTwin(wrong)).rejects.toThrow(/out\[1, 3\]: got .*, expected/);
  });

  it('sees an element that the kernel did not write', async () => {
    const wrong = withTwin((call, memory) => {
      siluMul.twin(call, memory);
      memory.f32(call.out)[20] = 1;
    });
    await expect(compareWithTwin(wrong)).rejects.toThrow(/out\[2, 4\]: got NaN, expected 1/);
  });

  it('sees a write where the twin writes nothing', async () => {
    await expect(compareWithTwin(withTwin(() => undefined))).rejects.toThrow(
      /out\[0, 0\] was written, the twin leaves it untouched/,
    );
  });
});
