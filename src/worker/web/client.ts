/** The engine in a browser: Web Workers for it and for text. */
import * as Comlink from 'comlink';
import type { EngineApi, LoadOptions, LoadProgress, TextApi } from '../../protocol.ts';
import { connect, type EngineClient } from '../client.ts';
import { TextClient } from '../textClient.ts';

/** Starts the workers and loads the model. Rejects, with all workers ended, when it cannot be served. */
export function createWebClient(
  options: LoadOptions,
  onProgress: (progress: LoadProgress) => void = () => {},
): Promise<EngineClient> {
  const startText = () =>
    thread<TextApi>(
      new Worker(new URL('./textWorker.ts', import.meta.url), { type: 'module', name: 'text' }),
    );
  const text = new TextClient({ startTokenizer: startText, startTemplate: startText });
  const engine = thread<EngineApi>(
    new Worker(new URL('./engineWorker.ts', import.meta.url), { type: 'module', name: 'engine' }),
  );
  return connect(engine, text, options, onProgress);
}

function thread<Api>(worker: Worker) {
  const crashed = new Promise<string>((resolve) => {
    worker.addEventListener('error', (event) => {
      event.preventDefault();
      resolve(event.message || 'the worker could not be loaded');
    });
  });
  return {
    api: Comlink.wrap<Api>(worker),
    crashed,
    terminate: async () => worker.terminate(),
  };
}
