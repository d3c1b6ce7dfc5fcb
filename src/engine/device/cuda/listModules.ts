/** What `nanoflow devices --modules` shows: every kernel of the engine's set, and those in the disk cache. */
import type { KernelName } from '../../kernels/calls.ts';
import { loadAddon } from './addon.ts';
import { CUDA_KERNELS } from './kernels/index.ts';
import type { CudaModule } from './launch.ts';
import { architecture, moduleName, type ModuleOrigin } from './modules.ts';
import { openModules } from './openCuda.ts';
import { familyOf } from './target.ts';

export interface ListedModule {
  name: string;
  architecture: string;
  origin: ModuleOrigin;
  bytes: number;
}

/** For the first GPU; without one for compute capability 9.0. @throws Error when the addon is not built. */
export function listModules(): ListedModule[] {
  const addon = loadAddon();
  const computeCapability = addon.probe().devices[0]?.computeCapability ?? 90;
  const store = openModules(addon, computeCapability);
  const family = familyOf(computeCapability);
  const modules = new Map<string, CudaModule>();
  for (const kernel of Object.keys(CUDA_KERNELS) as KernelName[]) {
    for (const module of CUDA_KERNELS[kernel]!.prebuilt(family)) modules.set(moduleName(module), module);
  }
  const arch = architecture(computeCapability);
  const listed = [...modules].map(([name, module]) => ({
    name,
    architecture: arch,
    ...store.origin(module),
  }));
  for (const [name, bytes] of store.cached()) {
    if (!modules.has(name)) listed.push({ name, architecture: arch, origin: 'disk', bytes });
  }
  return listed.sort((a, b) => (a.name < b.name ? -1 : 1));
}
