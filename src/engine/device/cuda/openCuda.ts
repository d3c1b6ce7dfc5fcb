/** Finds NVIDIA GPUs and opens them. */
import { loadAddon, nativeFolder } from './addon.ts';
import { CudaDevice, type CudaDeviceOptions } from './cudaDevice.ts';
import { CUDA_KERNELS } from './kernels/index.ts';
import { kernelSources, ModuleStore } from './modules.ts';
import type { NativeAddon } from './native.ts';

/** @throws Error when there is no such GPU, or the addon is missing. */
export async function createCudaDevice(options: CudaDeviceOptions = {}): Promise<CudaDevice> {
  const addon = loadAddon();
  const { devices, problem } = addon.probe();
  const ordinal = options.ordinal ?? 0;
  const info = devices.find((device) => device.ordinal === ordinal);
  if (!info) {
    const which = devices.length > 0 ? `GPU ${ordinal} of ${devices.length}` : 'no NVIDIA GPU';
    throw new Error(`cuda: ${which}${problem ? ` (${problem})` : ''}`);
  }
  if (info.computeCapability < 80) {
    throw new Error(
      `cuda: ${info.name} has compute capability ${info.computeCapability / 10}, expected 8.0 or newer; use --device webgpu`,
    );
  }
  const registry = options.registry ?? CUDA_KERNELS;
  const modules = openModules(addon, info.computeCapability, options.onLog);
  return new CudaDevice(addon, info, registry, modules, options);
}

/** The kernels of this installation for GPUs of a compute capability. */
export function openModules(
  addon: NativeAddon,
  computeCapability: number,
  onLog: (line: string) => void = (line) => void process.stderr.write(`${line}\n`),
): ModuleStore {
  return new ModuleStore({
    addon,
    sources: kernelSources(`${nativeFolder()}/kernels`),
    computeCapability,
    versions: `nvrtc ${addon.probe().nvrtc ?? 'none'}`,
    jit: process.env.NANOFLOW_CUDA_JIT !== 'off',
    onLog,
  });
}

/** The GPUs of this machine, each with a way to open it; `problem` says why there are none. */
export function findCudaDevices(): {
  devices: { name: string; open: () => Promise<CudaDevice> }[];
  problem?: string;
} {
  try {
    const { devices, problem } = loadAddon().probe();
    return {
      devices: devices.map(({ name, ordinal }) => ({ name, open: () => createCudaDevice({ ordinal }) })),
      problem,
    };
  } catch (error) {
    return { devices: [], problem: (error as Error).message };
  }
}
