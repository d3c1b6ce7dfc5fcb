import { describe, expect, it } from 'vitest';
import type { Device } from '../../src/engine/device.ts';
import type { AdapterSearch } from '../../src/engine/device/webgpu/adapter.ts';
import type { DeviceChoice } from '../../src/protocol.ts';
import { chooseDevice, rankDevices, type DeviceOpeners } from '../../src/worker/chooseDevice.ts';

const HINT = 'install a driver';
const NO_GPU = { what: 'webgpu on a GPU', reason: 'no GPU with a driver' };
const NO_SOFTWARE = { what: 'webgpu on a software adapter', reason: 'Mesa is too old' };

const adapter = (name: string, software = false) => ({ adapter: { name } as never, name, software });
const device = (name: string) => ({ target: { name } }) as Device;

/** Openers by name of adapter; those in `broken` fail. */
function openers(broken: string[] = []): DeviceOpeners {
  const open = async (name: string): Promise<Device> => {
    if (broken.includes(name)) throw new Error(`${name} refused`);
    return device(name);
  };
  return { webgpu: (found) => open((found as unknown as { name: string }).name), cpu: () => open('cpu') };
}

function choose(choice: DeviceChoice, search: AdapterSearch, broken: string[] = []) {
  const platform = { findAdapters: async () => search, fasterDeviceHint: HINT };
  return chooseDevice(choice, platform, openers(broken));
}

const gpuAndSoftware: AdapterSearch = {
  candidates: [adapter('H100'), adapter('llvmpipe', true)],
  rejected: [],
};
const onlySoftware: AdapterSearch = { candidates: [adapter('llvmpipe', true)], rejected: [NO_GPU] };
const nothing: AdapterSearch = {
  candidates: [],
  rejected: [{ what: 'webgpu', reason: 'libvulkan is missing' }],
};

describe('order of devices', () => {
  it('is cuda, GPUs, software adapters, cpu, with what is missing at its place', () => {
    const names = (search: AdapterSearch) => rankDevices(search, openers()).map(({ name }) => name);
    expect(names(gpuAndSoftware)).toEqual(['cuda', 'H100', 'llvmpipe', 'cpu']);
    expect(names(onlySoftware)).toEqual(['cuda', NO_GPU.what, 'llvmpipe', 'cpu']);
    expect(names({ candidates: [adapter('H100')], rejected: [NO_SOFTWARE] })).toEqual([
      'cuda',
      'H100',
      NO_SOFTWARE.what,
      'cpu',
    ]);
    expect(names(nothing)).toEqual(['cuda', 'webgpu', 'cpu']);
  });

  it('gives each a reason, and a way to open it only where there is one', () => {
    for (const option of rankDevices(onlySoftware, openers())) {
      expect(option.reason).not.toBe('');
      expect(option.open !== undefined).toBe(['llvmpipe', 'cpu'].includes(option.name));
    }
  });
});

describe('--device auto', () => {
  it('takes the GPU, and says that cuda is missing', async () => {
    const { report, device: opened } = await choose('auto', gpuAndSoftware);
    expect(opened.target.name).toBe('H100');
    expect(report).toMatchObject({ kind: 'webgpu', name: 'H100', rejected: [{ kind: 'cuda' }] });
    expect(report.hint).toBeUndefined();
  });

  it('takes the software adapter when there is no GPU, with the reason for each better one', async () => {
    const { report } = await choose('auto', onlySoftware);
    expect(report).toMatchObject({ kind: 'webgpu', name: 'llvmpipe' });
    expect(report.rejected.map(({ reason }) => reason)).toEqual([expect.any(String), NO_GPU.reason]);
    expect(report.reason).toMatch(/software/);
  });

  it('takes the cpu when there is no adapter, and says how to get a faster one', async () => {
    const { report } = await choose('auto', nothing);
    expect(report).toMatchObject({ kind: 'cpu', name: 'cpu', hint: HINT });
    expect(report.rejected.at(-1)).toEqual({
      kind: 'webgpu',
      name: 'webgpu',
      reason: 'libvulkan is missing',
    });
  });

  it('goes on to the next best when one cannot be opened, with the reason', async () => {
    const { report } = await choose('auto', gpuAndSoftware, ['H100']);
    expect(report.name).toBe('llvmpipe');
    expect(report.rejected.at(-1)).toMatchObject({
      name: 'H100',
      reason: expect.stringContaining('H100 refused'),
    });
    expect((await choose('auto', gpuAndSoftware, ['H100', 'llvmpipe'])).report.kind).toBe('cpu');
  });

  it('fails with every reason when nothing at all can be opened', async () => {
    await expect(choose('auto', nothing, ['cpu'])).rejects.toThrow(
      /^no device .*libvulkan is missing.*cpu refused/,
    );
  });
});

describe('a device by name', () => {
  it('is never replaced by another: what is missing is an error that says why and what to do', async () => {
    await expect(choose('cuda', gpuAndSoftware)).rejects.toThrow(/no cuda device .*addon.*--device auto/);
    await expect(choose('webgpu', nothing)).rejects.toThrow(/no webgpu device .*libvulkan is missing.*auto/);
    await expect(choose('webgpu', gpuAndSoftware, ['H100', 'llvmpipe'])).rejects.toThrow(
      /H100 refused.*llvmpipe refused/,
    );
  });

  it('webgpu takes the software adapter when it is all there is', async () => {
    const { report } = await choose('webgpu', onlySoftware);
    expect(report).toMatchObject({ name: 'llvmpipe', rejected: [{ name: NO_GPU.what }] });
  });

  it('cpu looks for no adapters, and gives no hint to who asked for it', async () => {
    const findAdapters = () => Promise.reject(new Error('the driver crashed'));
    const { report } = await chooseDevice('cpu', { findAdapters, fasterDeviceHint: HINT }, openers());
    expect(report).toEqual({ kind: 'cpu', name: 'cpu', reason: expect.any(String), rejected: [] });
  });
});
