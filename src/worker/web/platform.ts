/** The engine's host in a browser's Web Worker. */
import { findAdapters } from '../../engine/device/webgpu/adapter.ts';
import { openModelUrl } from '../../engine/model/modelFilesWeb.ts';
import type { Platform } from '../platform.ts';

// setTimeout is clamped to 4 ms after a few rounds, and to a second in hidden tabs; messages are neither.
const channel = new MessageChannel();
const resumers: (() => void)[] = [];
channel.port1.onmessage = () => resumers.shift()?.();

export const webPlatform: Platform = {
  openModel: async (source) => {
    if (source.kind !== 'url') throw new Error('a page reads models by URL; it has no directories');
    return openModelUrl(source.url, { headers: source.headers });
  },
  findAdapters: () => findAdapters(navigator.gpu),
  fasterDeviceHint: 'for a faster device use a browser with WebGPU on a GPU',
  yieldToMessages: () =>
    new Promise((resolve) => {
      resumers.push(resolve);
      channel.port2.postMessage(0);
    }),
};
