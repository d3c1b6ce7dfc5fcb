/** The engine's host in Node. */
import { readFile } from 'node:fs/promises';
import { findNodeAdapters } from '../../engine/device/webgpu/gpu.node.ts';
import { findCudaDevices } from '../../engine/device/cuda/openCuda.ts';
import { listModules } from '../../engine/device/cuda/listModules.ts';
import { openModelDirectory } from '../../engine/model/modelFilesNode.ts';
import { openModelUrl } from '../../engine/model/modelFilesWeb.ts';
import type { Platform } from '../platform.ts';
import { prepareProducts } from './cudaProducts.ts';
import packageJson from '../../../package.json' with { type: 'json' };
import { tableKey } from '../../engine/search/table.ts';
import { tableFile } from '../../engine/search/tableFileNode.ts';

export const nodePlatform: Platform = {
  openModel: async (source) =>
    source.kind === 'directory'
      ? openModelDirectory(source.path)
      : openModelUrl(source.url, { headers: source.headers }),
  readPipelines: async (subject, file) => {
    if (file !== undefined) return readFile(file, 'utf8');
    const key = tableKey({ ...subject, engineVersion: packageJson.version });
    return readFile(tableFile(key), 'utf8').catch(() => undefined);
  },
  findAdapters: () => findNodeAdapters(),
  findCuda: async () => findCudaDevices(),
  kernelModules: async () => listModules(),
  prepareRunner: prepareProducts,
  fasterDeviceHint:
    process.platform === 'linux'
      ? 'for a faster device install a Vulkan driver: `sudo apt-get install libvulkan1 mesa-vulkan-drivers` (Debian 12: with `-t bookworm-backports`)'
      : 'for a faster device install a current GPU driver',
  yieldToMessages: () => new Promise((resolve) => setImmediate(resolve)),
};
