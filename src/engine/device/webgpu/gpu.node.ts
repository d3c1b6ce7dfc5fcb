/**
 * WebGPU in Node: dawn-node from the `webgpu` package, and what the machine says when it has no adapter.
 *
 * The objects that `create()` returns stay referenced in this module for ever: once the collector takes one, the
 * process aborts at random times (https://issues.chromium.org/issues/387965810).
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { findAdapters, type AdapterSearch, type HostReasons } from './adapter.ts';

export interface NodeGpuOptions {
  /** 'null' runs the WGSL front end and all validation without any device: for tests of shaders. */
  backend?: 'vulkan' | 'metal' | 'd3d12' | 'null';
  /**
   * Keep Dawn's clamping of array indices and its zeroing of workgroup memory. Off by default: our kernels guard
   * their own accesses, and both cost time in inner loops.
   */
  robust?: boolean;
}

/** Dawn toggles of our kernels (https://dawn.googlesource.com/dawn/+/refs/heads/main/src/dawn/native/Toggles.cpp). */
const ENABLED = [
  'allow_unsafe_apis', // subgroup matrices
  'use_vulkan_memory_model', // the same
  'vulkan_enable_f16_on_nvidia', // shader-f16 there is off by default
];
const ENABLED_WHEN_TRUSTED = ['disable_robustness', 'disable_workgroup_init'];
const DISABLED = ['timestamp_quantization']; // steps of 65.5 us would hide most kernels

const instances = new Map<string, GPU>();

/** @throws Error when the `webgpu` package has no binary for this platform. */
export async function nodeGpu(options: NodeGpuOptions = {}): Promise<GPU> {
  const enabled = options.robust ? ENABLED : [...ENABLED, ...ENABLED_WHEN_TRUSTED];
  const flags = [
    `enable-dawn-features=${enabled.join(',')}`,
    `disable-dawn-features=${DISABLED.join(',')}`,
    ...(options.backend ? [`backend=${options.backend}`] : []),
  ];
  const key = flags.join(' ');
  let gpu = instances.get(key);
  if (!gpu) {
    const { create } = await import('webgpu');
    gpu = create(flags);
    instances.set(key, gpu);
  }
  return gpu;
}

/**
 * Adapters of this machine, best first, and the reasons for those that are missing. Never throws.
 */
export async function findNodeAdapters(options: NodeGpuOptions = {}): Promise<AdapterSearch> {
  try {
    const search = await findAdapters(await nodeGpu(options), nodeReasons());
    const missing =
      search.candidates.length === 0 && process.platform === 'linux' ? missingVulkan() : undefined;
    return missing ? { candidates: [], rejected: [{ what: 'webgpu', reason: missing }] } : search;
  } catch (error) {
    const reason = `the "webgpu" package does not load here: ${error instanceof Error ? error.message : error}`;
    return { candidates: [], rejected: [{ what: 'webgpu', reason }] };
  }
}

const LIBRARY_FOLDERS = [
  ...(process.env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean),
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/usr/lib64',
  '/usr/lib',
  '/lib',
  '/usr/local/lib',
];
const DRIVER_FOLDERS = ['/usr/share/vulkan/icd.d', '/etc/vulkan/icd.d', '/usr/local/share/vulkan/icd.d'];

/** What of Vulkan this Linux machine lacks, as far as the usual folders tell. */
function missingVulkan(): string | undefined {
  if (!LIBRARY_FOLDERS.some((folder) => existsSync(join(folder, 'libvulkan.so.1')))) {
    return 'libvulkan.so.1 is not installed (Debian, Ubuntu: apt-get install libvulkan1 mesa-vulkan-drivers)';
  }
  if (vulkanDrivers().length === 0) {
    return 'no Vulkan driver is installed (Debian, Ubuntu: apt-get install mesa-vulkan-drivers, Mesa 23 or newer)';
  }
  return undefined;
}

/** Driver manifests that the Vulkan loader would read. */
function vulkanDrivers(): string[] {
  const forced = process.env.VK_DRIVER_FILES ?? process.env.VK_ICD_FILENAMES;
  if (forced) return forced.split(':').filter((file) => existsSync(file));
  return DRIVER_FOLDERS.flatMap((folder) => {
    try {
      return readdirSync(folder).filter((file) => file.endsWith('.json'));
    } catch {
      return [];
    }
  });
}

function nodeReasons(): HostReasons {
  if (process.platform !== 'linux') {
    return { noGpu: 'no GPU driver that Dawn accepts', noSoftware: 'this system has no software adapter' };
  }
  const drivers = vulkanDrivers()
    .map((file) => file.split('/').pop())
    .join(', ');
  return {
    noGpu: `no GPU with a Vulkan driver that Dawn accepts (drivers: ${drivers})`,
    noSoftware:
      `no software driver that Dawn accepts (drivers: ${drivers}; ` +
      'Mesa lavapipe must be 23 or newer: Debian 12 has it in bookworm-backports, package mesa-vulkan-drivers)',
  };
}
