/** The engine in Node: a thread for it, one for the tokenizer, a process for the chat template. */
import type { Remote } from 'comlink';
import type { EngineApi, LoadOptions, LoadProgress, TextApi } from '../../protocol.ts';
import { connect, type EngineClient } from '../client.ts';
import { TextClient } from '../textClient.ts';
import { ThreadCalls } from '../thread.ts';
import { bundle, packageRoot, startProcess, startThread } from './threads.ts';

export { packageRoot } from './threads.ts';

const TEMPLATE_MEGABYTES = 256;

/** Starts the threads and loads the model. Rejects, with all threads ended, when it cannot be served. */
export async function createNodeClient(
  options: LoadOptions,
  onProgress: (progress: LoadProgress) => void = () => {},
): Promise<EngineClient> {
  const text = new TextClient({
    startTokenizer: () => startThread<TextApi>(bundle('textWorker'), 'tokenizer'),
    startTemplate: () => startProcess<TextApi>(bundle('textWorker'), 'chat template', TEMPLATE_MEGABYTES),
  });
  return connect(startThread<EngineApi>(bundle('engineWorker'), 'engine'), text, options, onProgress);
}

/** What could serve here, best first. */
export function listNodeDevices(): ReturnType<EngineApi['devices']> {
  return askEngine((api) => api.devices());
}

/** Kernels of the cuda device, and whether they are prebuilt, cached or yet to be compiled. */
export function listKernelModules(): ReturnType<EngineApi['kernelModules']> {
  return askEngine((api) => api.kernelModules());
}

/** One question to an engine's thread that has no model. */
async function askEngine<T>(ask: (api: Remote<EngineApi>) => PromiseLike<T>): Promise<T> {
  const calls = new ThreadCalls(startThread<EngineApi>(bundle('engineWorker'), 'engine'));
  try {
    return await calls.call(ask);
  } finally {
    await calls.terminate('done');
  }
}

/** Directory of the model that comes with the package. */
export function embeddedModel(): string {
  return `${packageRoot()}/models/embedded`;
}
