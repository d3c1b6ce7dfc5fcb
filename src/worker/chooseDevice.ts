/** Which device serves, and why not a better one. Order: cuda, webgpu on a GPU, webgpu on a software adapter, cpu. */
import { createCpuDevice } from '../engine/device/cpu/cpuDevice.ts';
import { createWebgpuDevice } from '../engine/device/webgpu/webgpuDevice.ts';
import type { Device } from '../engine/device.ts';
import type { DeviceCandidate, DeviceChoice, DeviceReport } from '../protocol.ts';
import type { Platform } from './platform.ts';

interface Option extends DeviceCandidate {
  open?: () => Promise<Device>;
}

/** Everything that could serve here, best first; those without `open` cannot. */
async function options(platform: Platform): Promise<Option[]> {
  const { candidates, rejected } = await platform.findAdapters();
  const missing = (software: boolean): Option[] =>
    rejected
      .filter(({ what }) => what.includes('software') === software)
      .map(({ what, reason }) => ({ kind: 'webgpu', name: what, reason }));
  const found = (software: boolean): Option[] =>
    candidates
      .filter((candidate) => candidate.software === software)
      .map(({ adapter, name }) => ({
        kind: 'webgpu',
        name,
        reason: software ? 'a software WebGPU adapter: the kernels run on CPU cores' : 'a GPU through WebGPU',
        open: () => createWebgpuDevice(adapter),
      }));
  return [
    { kind: 'cuda', name: 'cuda', reason: 'the native CUDA addon is not part of this build' },
    ...found(false),
    ...missing(false),
    ...found(true),
    ...missing(true),
    {
      kind: 'cpu',
      name: 'cpu',
      reason: 'plain TypeScript on one core; always there',
      open: () => createCpuDevice(),
    },
  ];
}

export async function listDevices(platform: Platform): Promise<DeviceCandidate[]> {
  return (await options(platform)).map(({ kind, name, reason }) => ({ kind, name, reason }));
}

/** @throws Error that says why the device that was asked for is not to be had, and what is. */
export async function chooseDevice(
  choice: DeviceChoice,
  platform: Platform,
): Promise<{ device: Device; report: DeviceReport }> {
  const all = await options(platform);
  const rejected: DeviceCandidate[] = [];
  for (const { kind, name, reason, open } of all) {
    if (choice !== 'auto' && kind !== choice) continue;
    if (!open) {
      rejected.push({ kind, name, reason });
      continue;
    }
    try {
      const device = await open();
      const hint = kind === 'cpu' && choice === 'auto' ? platform.fasterDeviceHint : undefined;
      return {
        device,
        report: { kind, name: kind === 'cpu' ? name : device.target.name, reason, rejected, hint },
      };
    } catch (error) {
      rejected.push({ kind, name, reason: `it could not be opened: ${messageOf(error)}` });
    }
  }
  const reasons = rejected.map(({ name, reason }) => `${name}: ${reason}`).join('; ');
  throw new Error(`no ${choice} device here (${reasons}); try --device auto`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
