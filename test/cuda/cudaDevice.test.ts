/** The device over a fake addon: what crosses the border, and what happens when CUDA fails. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DeviceLostError, tensor, type DeviceBuffer } from '../../src/engine/device.ts';
import { CudaDevice } from '../../src/engine/device/cuda/cudaDevice.ts';
import { clear } from '../../src/engine/device/cuda/kernels/clear.ts';
import type { CudaLaunch, CudaRegistry } from '../../src/engine/device/cuda/launch.ts';
import { ModuleStore } from '../../src/engine/device/cuda/modules.ts';
import { KIND, type NativeLaunch, type NativeProductLaunch } from '../../src/engine/device/cuda/native.ts';
import type { ClearCall, JoinedCall } from '../../src/engine/kernels/calls.ts';
import { cudaTarget } from '../../src/engine/device/cuda/target.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { fakeAddon, FakeNative, INFO } from './fakeNative.ts';

let folder: string;
let native: FakeNative;
let device: CudaDevice;
let image: string;

function open(registry: Partial<CudaRegistry> = { clear }): CudaDevice {
  native = new FakeNative();
  image = 'good';
  const addon = fakeAddon(native, () => image);
  const modules = new ModuleStore({
    addon,
    sources: { source: () => '', headers: {} },
    computeCapability: 90,
    versions: '',
    cacheFolder: folder,
  });
  return new CudaDevice(addon, INFO, registry, modules, {});
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nanoflow-cuda-'));
  device = open();
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const layout = stepMetaLayout({
  tokens: 1,
  requests: 1,
  pages: 1,
  items16: 1,
  items128: 1,
  mergeRows: 1,
  attentionWorkgroups: 1,
  adjustments: 1,
});

function clearCall(buffer: DeviceBuffer, words = 16): ClearCall {
  const out = tensor(buffer, 'u32', [words]);
  return { kernel: 'clear', label: 'zero', meta: out, layout, out };
}

describe('a step', () => {
  it('crosses the border once for its writes and submits, in order, and once for its read', async () => {
    const buffer = device.createBuffer('b', 64);
    const program = await device.compile('p', [clearCall(buffer)]);
    native.calls = [];
    device.write(buffer, 0, new Uint32Array([1, 2]));
    device.write(buffer, 8, new Uint32Array([3]));
    device.submit(program);
    device.submit(program);
    expect(native.calls).toEqual([]);
    const words = new Uint32Array(await device.read(buffer, 0, 16));
    expect([...words]).toEqual([1, 2, 3, 0]);
    expect(native.calls).toEqual(['execute', 'read']);
    expect(native.runs).toBe(2);
  });

  it('sends large data at once, after what was collected before', async () => {
    const buffer = device.createBuffer('b', 1 << 20);
    device.write(buffer, 0, new Uint32Array([9]));
    device.write(buffer, 0, new Uint8Array(1 << 20).fill(5));
    expect(native.calls).toEqual(['allocate', 'execute', 'write']);
    expect(new Uint8Array(await device.read(buffer, 0, 4))[0]).toBe(5);
  });

  it('may be of any number of writes', async () => {
    const buffer = device.createBuffer('b', 4 * 5000);
    for (let i = 0; i < 5000; i++) device.write(buffer, 4 * i, new Uint32Array([i]));
    expect([...new Uint32Array(await device.read(buffer, 0, 4 * 5000))]).toEqual([...Array(5000).keys()]);
  });
});

describe('a program', () => {
  const places = (launches: readonly (NativeLaunch | NativeProductLaunch)[]) =>
    launches.map(({ stream, waits, signal }) => [stream, waits.join(), signal]);

  it('is one stream for calls in order, and a stream for each part of a joined call, which what follows waits for', async () => {
    const [a, b] = [device.createBuffer('a', 64), device.createBuffer('b', 64)];
    const joined: JoinedCall = { kernel: 'joined', label: 'j', parts: [clearCall(a), clearCall(b)] };
    await device.compile('p', [clearCall(a), clearCall(b), joined, clearCall(a), clearCall(b)]);
    expect(places(native.programs[0])).toEqual([
      [0, '', -1],
      [0, '', 0],
      [0, '', -1],
      [1, '0', 1],
      [0, '1', -1],
      [0, '', -1],
    ]);
  });

  it('begins side streams with what it begins with, when a joined call is the first', async () => {
    const [a, b] = [device.createBuffer('a', 64), device.createBuffer('b', 64)];
    await device.compile('p', [{ kernel: 'joined', label: 'j', parts: [clearCall(a), clearCall(b)] }]);
    expect(places(native.programs[0])).toEqual([
      [0, '', -1],
      [1, '', 0],
    ]);
  });

  it('follows streams, signals and needs of calls', async () => {
    const buffer = device.createBuffer('a', 64);
    const one = clearCall(buffer);
    await device.compile('p', [
      { ...one, signal: 'x' },
      { ...one, stream: 1, needs: ['x'], signal: 'y' },
      one,
      { ...one, needs: ['y', 'x'] },
    ]);
    expect(places(native.programs[0])).toEqual([
      [0, '', 0],
      [1, '0', 1],
      [0, '', -1],
      [0, '1,0', -1],
    ]);
    await expect(device.compile('p', [{ ...one, needs: ['later'] }])).rejects.toThrow(
      /needs "later", which no call before/,
    );
  });

  it('goes on in order from one green context to another and back', async () => {
    const buffer = device.createBuffer('a', 64);
    const one = clearCall(buffer);
    const green = { ...one, contextCores: 100 };
    await device.compile('p', [
      { ...one, signal: 'x' },
      green,
      { ...green, stream: 1, needs: ['x'] },
      green,
      one,
    ]);
    const launches = native.programs[0];
    expect(launches.map(({ multiprocessors }) => multiprocessors)).toEqual([0, 100, 100, 100, 0]);
    expect(places(launches)).toEqual([
      [0, '', 0],
      [0, '0', -1],
      [1, '0', -1],
      [0, '', 1],
      [0, '1', -1],
    ]);
  });

  it('passes addresses, numbers, working memory and tensor maps', async () => {
    const launch: CudaLaunch = {
      source: 'clear',
      variant: '',
      defines: {},
      args: [],
      ctas: 4,
      threads: 128,
      cluster: 2,
      sharedBytes: 1000,
    };
    device = open({
      clear: {
        prebuilt: () => [],
        launches: ({ out }) => [
          {
            ...launch,
            args: [
              { pointer: { ...out, offset: 256, shape: [4] } },
              { pointer: undefined },
              { u32: 5 },
              { f32: 0.5 },
              { counters: 64 },
              { scratch: 128 },
              { map: { view: out, sizes: [16, 2], strides: [32], box: [8, 2], swizzle: 32 } },
            ],
          },
        ],
      },
    });
    const buffer = device.createBuffer('a', 1024);
    await device.compile('p', [clearCall(buffer)]);
    expect(native.programs[0]).toEqual([
      {
        stream: 0,
        multiprocessors: 0,
        waits: [],
        signal: -1,
        kernel: 7,
        ctas: 4,
        threads: 128,
        cluster: 2,
        sharedBytes: 1000,
        early: true,
        args: [
          [KIND.address, 4096 + 256],
          [KIND.address, 0],
          [KIND.u32, 5],
          [KIND.f32, 0.5],
          [KIND.counters, 64],
          [KIND.scratch, 128],
          [KIND.map, 4096, 3, 32, 2, 16, 2, 32, 8, 2],
        ],
      },
    ]);
  });

  it('is refused with the name of the call when the GPU could not run it', async () => {
    const bad = (change: Partial<CudaLaunch>) =>
      open({
        clear: {
          prebuilt: () => [],
          launches: (call, target) => [{ ...clear.launches(call, target)[0], ...change }],
        },
      });
    const compile = (made: CudaDevice) => made.compile('p', [clearCall(made.createBuffer('b', 64))]);
    await expect(compile(bad({ ctas: 0 }))).rejects.toThrow(/clear .*"zero": got 0 CTAs, expected 1/);
    await expect(compile(bad({ threads: 2000 }))).rejects.toThrow(/got 2000 threads, expected 1..1024/);
    await expect(compile(bad({ ctas: 3, cluster: 2 }))).rejects.toThrow(/3 CTAs in clusters of 2/);
    await expect(compile(bad({ sharedBytes: 1e6 }))).rejects.toThrow(
      /1000000 bytes of shared memory, the GPU has 232448/,
    );
    const small = open();
    await expect(small.compile('p', [clearCall(small.createBuffer('b', 8))])).rejects.toThrow(
      /ends at byte 64.*has 8/,
    );
    await expect(
      device.compile('p', [{ ...clearCall(device.createBuffer('b', 64)), kernel: 'embed' } as never]),
    ).rejects.toThrow(/no kernel "embed"/);
    const foreign = open().createBuffer('foreign', 64);
    device = open();
    await expect(device.compile('p', [clearCall(foreign)])).rejects.toThrow(
      /"foreign" was destroyed or belongs to another/,
    );
  });
});

describe('failures', () => {
  it('leave the device alive when the context is', async () => {
    native.failNext = { message: 'CUDA_ERROR_OUT_OF_MEMORY (2)', sticky: false };
    expect(() => device.createBuffer('huge', 2 ** 40)).toThrow(
      /"huge": the GPU has no room for 1099511627776 bytes \(1000 are free\)/,
    );
    expect(device.createBuffer('small', 16).bytes).toBe(16);
  });

  it('that are sticky report the device lost, and every later call says so', async () => {
    const buffer = device.createBuffer('b', 16);
    native.failNext = { message: 'CUDA_ERROR_ILLEGAL_ADDRESS (700)', sticky: true };
    await expect(device.read(buffer, 0, 16)).rejects.toThrow(DeviceLostError);
    expect(await device.lost).toEqual({ reason: 'CUDA_ERROR_ILLEGAL_ADDRESS (700)' });
    expect(() => device.write(buffer, 0, new Uint32Array(1))).toThrow(
      /the device is lost: CUDA_ERROR_ILLEGAL_ADDRESS/,
    );
    expect(() => device.destroyBuffer(buffer)).not.toThrow();
    expect(() => device.destroy()).not.toThrow();
  });

  it('of a kernel from the disk cache are mended by building it again', async () => {
    const buffer = device.createBuffer('b', 64);
    await device.compile('p', [clearCall(buffer)]);
    expect(device.modules.map(({ origin }) => origin)).toEqual(['jit']);
    device = open();
    native.badImages.add('good');
    image = 'better';
    await device.compile('p', [clearCall(device.createBuffer('b', 64))]);
    expect(device.modules.map(({ origin }) => origin)).toEqual(['jit']);
    device = open();
    await device.compile('p', [clearCall(device.createBuffer('b', 64))]);
    expect(device.modules.map(({ origin }) => origin)).toEqual(['disk']);
  });
});

describe('the target', () => {
  it('takes the family of the architecture, unless another is wanted', () => {
    expect(cudaTarget(INFO).cuda.family).toBe('hopper');
    expect(cudaTarget({ ...INFO, computeCapability: 89 }).cuda.family).toBe('portable');
    expect(cudaTarget({ ...INFO, computeCapability: 100 }).cuda.family).toBe('portable');
    expect(cudaTarget(INFO, 'portable').cuda.family).toBe('portable');
  });
});
