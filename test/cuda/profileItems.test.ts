/** Work items of a program over a fake addon: which launches record, where, and what becomes of the records. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { tensor, type DeviceBuffer } from '../../src/engine/device.ts';
import { CudaDevice } from '../../src/engine/device/cuda/cudaDevice.ts';
import { clear } from '../../src/engine/device/cuda/kernels/clear.ts';
import type { CudaRegistry } from '../../src/engine/device/cuda/launch.ts';
import { ModuleStore } from '../../src/engine/device/cuda/modules.ts';
import type { NativeLaunch } from '../../src/engine/device/cuda/native.ts';
import type { ClearCall } from '../../src/engine/kernels/calls.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { fakeAddon, FakeNative, INFO } from './fakeNative.ts';

const EPOCH = 1_763_700_000_000_000_000n;
const layout = stepMetaLayout({
  ...{ tokens: 1, requests: 1, pages: 1, items16: 1, items128: 1, mergeRows: 1 },
  ...{ attentionWorkgroups: 1, adjustments: 1 },
});

/** clear as a kernel that records; `silent`: as it is. */
const recording: Partial<CudaRegistry> = {
  clear: {
    prebuilt: clear.prebuilt,
    launches: (call, target) =>
      clear.launches(call, target).map((launch) => ({
        ...launch,
        ...(call.label !== 'silent' && { ctas: 2, profiles: { records: 2 } }),
      })),
  },
};

let folder: string;
let native: FakeNative;
let device: CudaDevice;
let buffer: DeviceBuffer;
let compiled: string[][];

function open(registry: Partial<CudaRegistry>): void {
  native = new FakeNative();
  compiled = [];
  const addon = fakeAddon(native, () => 'image');
  const compile = addon.compile;
  addon.compile = (source, name, headers, options) => {
    compiled.push(options.filter((option) => option.startsWith('-D')));
    return compile(source, name, headers, options);
  };
  const sources = { source: () => '', headers: {} };
  const modules = new ModuleStore({
    addon,
    sources,
    computeCapability: 90,
    versions: '',
    cacheFolder: folder,
  });
  device = new CudaDevice(addon, INFO, registry, modules, {});
  buffer = device.createBuffer('b', 64);
}

function call(label: string, more: Partial<ClearCall> = {}): ClearCall {
  const out = tensor(buffer, 'u32', [16]);
  return { kernel: 'clear', label, meta: out, layout, out, ...more };
}

interface FakeEvent {
  event: number;
  sm: number;
  number: number;
  begin: number;
  end: number;
}

/** Does what a CTA of a recording kernel does. */
function record(launch: NativeLaunch, cta: number, { event, sm, number, begin, end }: FakeEvent): void {
  const [[, address], [, records]] = launch.args.slice(-2);
  const words = native.wordsAt(address);
  const area = cta * (1 + 3 * records);
  const slot = Number(words[area]++);
  if (slot >= records) return;
  const tag = BigInt(event) | (BigInt(sm) << 8n) | (BigInt(number) << 32n);
  words.set([tag, EPOCH + BigInt(begin), EPOCH + BigInt(end)], area + 1 + 3 * slot);
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nanoflow-profile-'));
  open(recording);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('work items of a program', () => {
  it('are recorded by the same launches on the same streams, built with PROFILE', async () => {
    const calls = [
      call('a', { signal: 'x' }),
      call('silent'),
      call('layers.0.b', { stream: 1, needs: ['x'], signal: 'y', range: 2 }),
      call('c', { needs: ['y'] }),
    ];
    const program = await device.compile('p', calls);
    const before = native.allocations;
    const events: number[] = [];
    native.onRun = (launches) => {
      const [a, silent, b] = launches as NativeLaunch[];
      expect(silent.args).toHaveLength(2);
      record(b, 1, { event: 2, sm: 131, number: 7, begin: 900, end: 1000 });
      record(a, 0, { event: 3, sm: 5, number: 1, begin: 500, end: 700 });
      record(a, 1, { event: 4, sm: 6, number: 2, begin: 450, end: 650 });
      events.push(launches.length);
    };
    const items = await device.profileItems(program);
    const facts = { kernel: 'clear', cta: 0 };
    expect(items).toEqual([
      {
        ...facts,
        label: 'a',
        call: calls[0],
        cta: 1,
        sm: 6,
        event: 'part of a tile',
        number: 2,
        beginNs: 0,
        endNs: 200,
      },
      { ...facts, label: 'a', call: calls[0], sm: 5, event: 'tile', number: 1, beginNs: 50, endNs: 250 },
      {
        ...{ ...facts, label: 'layers.0.b', call: calls[2], cta: 1, sm: 131, event: 'item of 16 rows' },
        ...{ number: 7, beginNs: 450, endNs: 550 },
      },
    ]);
    expect(events, 'it runs once').toEqual([4]);
    const [plain, profiled] = native.programs.map((launches) =>
      (launches as NativeLaunch[]).map(({ args: _, ...launch }) => launch),
    );
    expect(profiled).toEqual(plain);
    expect(compiled).toEqual([[], ['-DPROFILE=1']]);
    expect(native.allocations, 'nothing is left').toBe(before);
    expect(native.calls.filter((name) => name === 'destroyProgram')).toHaveLength(1);
  });

  it('are recorded again with more room where some found none', async () => {
    const program = await device.compile('p', [call('b'), call('a')]);
    const room: number[][] = [];
    native.onRun = (launches) => {
      room.push((launches as NativeLaunch[]).map(({ args }) => args.at(-1)![1]));
      const launch = launches[1];
      for (let i = 0; i < 5; i++)
        record(launch as NativeLaunch, 1, { event: 3, sm: 0, number: i, begin: 10 * i, end: 10 * i + 9 });
    };
    const items = await device.profileItems(program);
    expect(room, 'where it is needed').toEqual([
      [2, 2],
      [2, 5],
    ]);
    expect(items.map(({ number }) => number)).toEqual([0, 1, 2, 3, 4]);
  });

  it('may be none, when there was nothing to do', async () => {
    expect(await device.profileItems(await device.compile('p', [call('a')]))).toEqual([]);
  });

  it('are refused where no kernel records, and nothing is left of the try', async () => {
    const program = await device.compile('head 1', [call('silent')]);
    const before = native.allocations;
    await expect(device.profileItems(program)).rejects.toThrow(
      /program "head 1": none of its kernels can record work items \(clear\)/,
    );
    expect([native.allocations, native.runs]).toEqual([before, 0]);
  });

  it('leave nothing behind when the GPU fails', async () => {
    const program = await device.compile('p', [call('a')]);
    const before = native.allocations;
    native.onRun = () => {
      throw Object.assign(new Error('CUDA_ERROR_INVALID_VALUE (1)'), { sticky: false });
    };
    await expect(device.profileItems(program)).rejects.toThrow('CUDA_ERROR_INVALID_VALUE');
    expect(native.allocations).toBe(before);
  });

  it('come from programs without calls, too', async () => {
    const launches = recording.clear!.launches(call('a'), device.target);
    const program = await device.compileLaunches('bench', [[{ label: 'lane', launches }]]);
    native.onRun = ([launch]) =>
      record(launch as NativeLaunch, 0, { event: 3, sm: 0, number: 0, begin: 0, end: 5 });
    const [item] = await device.profileItems(program);
    expect(item).toMatchObject({ kernel: 'clear', label: 'lane', call: undefined, beginNs: 0, endNs: 5 });
  });
});
