/** The engine in a browser: Web Workers for it and for text. */
import * as Comlink from 'comlink';
import type { EngineApi, LoadOptions, LoadProgress, TextApi } from '../../protocol.ts';
import { connect, type EngineClient } from '../client.ts';
import { TextClient } from '../textClient.ts';
import type { Thread } from '../thread.ts';

/** Starts the workers and loads the model. Rejects, with all workers ended, when it cannot be served. */
export async function createWebClient(
  options: LoadOptions,
  onProgress: (progress: LoadProgress) => void = () => {},
): Promise<EngineClient> {
  // A browser gives workers no memory limit; it ends the page's process when one takes too much.
  const startText = (): Thread<TextApi> =>
    thread(new Worker(new URL('./textWorker.ts', import.meta.url), { type: 'module', name: 'text' }));
  const text = new TextClient({ startTokenizer: startText, startTemplate: startText });
  const engine = thread<EngineApi>(
    new Worker(new URL('./engineWorker.ts', import.meta.url), { type: 'module', name: 'engine' }),
  );
  return connect(engine, text, options, onProgress);
}

function thread<Api>(worker: Worker): Thread<Api> {
  const crashed = new Promise<string>((resolve) => {
    worker.addEventListener('error', (event) => {
      event.preventDefault();
      worker.terminate(); // a worker outlives what it does not catch, in an unknown state
      resolve(event.message || 'the worker could not be loaded');
    });
    worker.addEventListener('messageerror', () => resolve('a message of the worker could not be read'));
  });
  return { api: Comlink.wrap<Api>(worker), crashed, terminate: async () => worker.terminate() };
}
