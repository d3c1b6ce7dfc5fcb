/** Which device serves, and why not a better one. Order: cuda, webgpu on a GPU, webgpu on a software adapter, cpu. */
import { createCpuDevice } from '../engine/device/cpu/cpuDevice.ts';
import type { AdapterSearch } from '../engine/device/webgpu/adapter.ts';
import { createWebgpuDevice } from '../engine/device/webgpu/webgpuDevice.ts';
import type { Device } from '../engine/device.ts';
import type { DeviceCandidate, DeviceChoice, DeviceReport } from '../protocol.ts';
import type { CudaSearch, Platform } from './platform.ts';

/** Something that could serve; without `open` it cannot, and `reason` says why. */
export interface DeviceOption extends DeviceCandidate {
  open?: () => Promise<Device>;
}

export interface ChosenDevice {
  device: Device;
  report: DeviceReport;
}

/** How devices are opened; tests hand in their own. */
export interface DeviceOpeners {
  webgpu: (adapter: GPUAdapter) => Promise<Device>;
  cpu: () => Promise<Device>;
}

const OPENERS: DeviceOpeners = { webgpu: createWebgpuDevice, cpu: () => createCpuDevice() };

/** All devices, best first, from what the search for adapters found. Pure: opens nothing. */
export function rankDevices(
  { candidates, rejected }: AdapterSearch,
  open: DeviceOpeners,
  cuda: CudaSearch = { devices: [], problem: 'the CUDA addon needs Node' },
): DeviceOption[] {
  const found = (software: boolean): DeviceOption[] =>
    candidates
      .filter((candidate) => candidate.software === software)
      .map(({ adapter, name }) => ({
        kind: 'webgpu',
        name,
        reason: software ? 'a software WebGPU adapter: the kernels run on CPU cores' : 'a GPU through WebGPU',
        open: () => open.webgpu(adapter),
      }));
  const missing = (software: boolean): DeviceOption[] =>
    rejected
      .filter(({ what }) => what.includes('software') === software)
      .map(({ what, reason }) => ({ kind: 'webgpu', name: what, reason }));
  return [
    ...cudaOptions(cuda),
    ...found(false),
    ...missing(false),
    ...found(true),
    ...missing(true),
    { kind: 'cpu', name: 'cpu', reason: 'plain TypeScript on one core; always there', open: open.cpu },
  ];
}

function cudaOptions({ devices, problem }: CudaSearch): DeviceOption[] {
  if (devices.length === 0) return [{ kind: 'cuda', name: 'cuda', reason: problem ?? 'no NVIDIA GPU' }];
  return devices.map(({ name, open }) => ({
    kind: 'cuda',
    name,
    reason: 'an NVIDIA GPU through the CUDA addon',
    open,
  }));
}

/**
 * Opens the best device of the chosen kind ('auto': of all); one that cannot be opened is passed over, with the reason.
 * @throws Error that says why there is none, and what to do
 */
export async function openBest(
  options: readonly DeviceOption[],
  choice: DeviceChoice,
  fasterDeviceHint: string,
): Promise<ChosenDevice> {
  const rejected: DeviceCandidate[] = [];
  for (const { kind, name, reason, open } of options) {
    if (choice !== 'auto' && kind !== choice) continue;
    if (!open) {
      rejected.push({ kind, name, reason });
      continue;
    }
    try {
      const device = await open();
      const hint = kind === 'cpu' && choice === 'auto' ? fasterDeviceHint : undefined;
      const opened = kind === 'cpu' ? name : device.target.name;
      return { device, report: { kind, name: opened, reason, rejected, hint } };
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      rejected.push({ kind, name, reason: `it could not be opened: ${message}` });
    }
  }
  const what = choice === 'auto' ? 'no device' : `no ${choice} device`;
  const remedy = choice === 'auto' ? '' : '; --device auto takes the best there is';
  const reasons = rejected.map(({ name, reason }) => `${name}: ${reason}`).join('; ');
  throw new Error(`${what} can be used here (${reasons})${remedy}`);
}

/** @throws as openBest() */
export async function chooseDevice(
  choice: DeviceChoice,
  platform: Pick<Platform, 'findAdapters' | 'findCuda' | 'fasterDeviceHint'>,
  openers: DeviceOpeners = OPENERS,
): Promise<ChosenDevice> {
  // Who asks for the cpu may do so because the search for adapters crashes there.
  const needsSearch = choice === 'auto' || choice === 'webgpu';
  const search = needsSearch ? await platform.findAdapters() : { candidates: [], rejected: [] };
  const cuda = choice === 'auto' || choice === 'cuda' ? await platform.findCuda?.() : undefined;
  return openBest(rankDevices(search, openers, cuda), choice, platform.fasterDeviceHint);
}

/** What could serve here, best first, each with why or why not. */
export async function listDevices(
  platform: Pick<Platform, 'findAdapters' | 'findCuda'>,
): Promise<DeviceCandidate[]> {
  const options = rankDevices(await platform.findAdapters(), OPENERS, await platform.findCuda?.());
  return options.map(({ kind, name, reason }) => ({ kind, name, reason }));
}
