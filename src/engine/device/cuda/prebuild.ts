/** What the addon's build compiles ahead of time (scripts/build-cuda.js bundles and calls this). */
import type { KernelName } from '../../kernels/calls.ts';
import { CUDA_KERNELS } from './kernels/index.ts';
import type { AotShapes, CudaModule, CudaTarget } from './launch.ts';
import { kernelSources, macros, moduleName, sourceHash } from './modules.ts';
import { writeArchive, type PrebuiltImage } from './prebuiltArchive.ts';

export { writeArchive };

export interface PrebuildItem {
  name: string;
  hash: string;
  source: string;
  macros: string[];
}

/** The modules of a family, each once, in the order of their names. */
export function prebuildItems(
  family: CudaTarget['cuda']['family'],
  kernelFolder: string,
  shapes: AotShapes = {},
): PrebuildItem[] {
  const sources = kernelSources(kernelFolder);
  const items = new Map<string, PrebuildItem>();
  for (const kernel of Object.keys(CUDA_KERNELS) as KernelName[]) {
    const modules: readonly CudaModule[] = CUDA_KERNELS[kernel]!.prebuilt(family, shapes);
    for (const module of modules) {
      const name = moduleName(module);
      items.set(name, {
        name,
        hash: sourceHash(sources, module.source),
        source: module.source,
        macros: macros(module.defines),
      });
    }
  }
  return [...items.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

export type { PrebuiltImage };
