/** Finds and loads the addon. Node only. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NativeAddon } from './native.ts';

let loaded: NativeAddon | undefined;

/** The native-cuda folder: beside src/ in a clone, beside dist/ in the package; NANOFLOW_CUDA names another. */
export function nativeFolder(): string {
  if (process.env.NANOFLOW_CUDA) return process.env.NANOFLOW_CUDA;
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const candidate = join(folder, 'native-cuda');
    if (existsSync(join(candidate, 'kernels'))) return candidate;
    const parent = dirname(folder);
    if (parent === folder) throw new Error('the folder native-cuda was not found; set NANOFLOW_CUDA to it');
    folder = parent;
  }
}

/** @throws Error when the addon was not built for this machine. */
export function loadAddon(): NativeAddon {
  if (loaded) return loaded;
  const file = join(nativeFolder(), 'build', 'nanoflow_cuda.node');
  if (!existsSync(file)) {
    throw new Error(
      `the CUDA addon is not built: no ${file}; run npm run build:cuda on a machine with nvcc, or use --device webgpu`,
    );
  }
  return (loaded = createRequire(import.meta.url)(file) as NativeAddon);
}
