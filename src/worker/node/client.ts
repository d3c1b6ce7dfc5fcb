/** The engine in Node: one thread for it, two for text. */
import type { EngineApi, LoadOptions, LoadProgress, TextApi } from '../../protocol.ts';
import { connect, type EngineClient } from '../client.ts';
import { TextClient } from '../textClient.ts';
import { packageRoot, startThread } from './threads.ts';

export { packageRoot } from './threads.ts';

const TEMPLATE_MEGABYTES = 256;

/** Starts the threads and loads the model. Rejects, with all threads ended, when it cannot be served. */
export function createNodeClient(
  options: LoadOptions,
  onProgress: (progress: LoadProgress) => void = () => {},
): Promise<EngineClient> {
  const text = new TextClient({
    startTokenizer: () => startThread<TextApi>('textWorker'),
    startTemplate: () =>
      startThread<TextApi>('textWorker', {
        maxOldGenerationSizeMb: TEMPLATE_MEGABYTES,
        maxYoungGenerationSizeMb: 32,
      }),
  });
  return connect(startThread<EngineApi>('engineWorker'), text, options, onProgress);
}

/** What could serve here, best first. */
export async function listNodeDevices(): ReturnType<EngineApi['devices']> {
  const thread = startThread<EngineApi>('engineWorker');
  try {
    return await thread.api.devices();
  } finally {
    await thread.terminate();
  }
}

/** Directory of the model that comes with the package. */
export function embeddedModel(): string {
  return `${packageRoot()}/models/embedded`;
}
