/** The engine's host in Node. */
import { findNodeAdapters } from '../../engine/device/webgpu/gpu.node.ts';
import { openModelDirectory } from '../../engine/model/modelFilesNode.ts';
import { openModelUrl } from '../../engine/model/modelFilesWeb.ts';
import type { Platform } from '../platform.ts';

export const nodePlatform: Platform = {
  openModel: async (source) =>
    source.kind === 'directory'
      ? openModelDirectory(source.path)
      : openModelUrl(source.url, { headers: source.headers }),
  findAdapters: () => findNodeAdapters(),
  fasterDeviceHint:
    process.platform === 'linux'
      ? 'for a faster device install a Vulkan driver: `sudo apt-get install libvulkan1 mesa-vulkan-drivers` (Debian 12: with `-t bookworm-backports`)'
      : 'for a faster device install a current GPU driver',
  yieldToMessages: () => new Promise((resolve) => setImmediate(resolve)),
};
