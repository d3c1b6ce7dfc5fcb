/** The engine in this page: a Web Worker with WebGPU, on the model files that the server (or ?model=) offers. */
import { GenerateError, type EngineClient } from '../../worker/client.ts';
import { createWebClient } from '../../worker/web/client.ts';
import type { LoadProgress } from '../../protocol.ts';
import {
  ChatProblem,
  type AnswerEvent,
  type AnswerOptions,
  type ChatEngine,
  type LoadState,
  type Turn,
} from './engines.ts';
import { authorization } from './server-engine.ts';

/** @throws ChatProblem 'no-webgpu', 'model-not-found' or 'other' */
export async function openBrowserEngine(onProgress: (state: LoadState) => void): Promise<ChatEngine> {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new ChatProblem('no-webgpu', 'navigator.gpu offers no adapter.');
  const url = await modelUrl();
  const config = await fetch(new URL('config.json', url), { headers: authorization() }).catch(
    () => undefined,
  );
  if (config?.status === 401) throw new ChatProblem('unauthorized', `${url} wants an API key.`);
  if (!config?.ok) throw new ChatProblem('model-not-found', `${url}config.json cannot be had.`);
  let client: EngineClient;
  try {
    client = await createWebClient(
      { model: { kind: 'url', url: url.href, headers: authorization() }, device: 'webgpu' },
      (progress) => onProgress(loadState(progress)),
    );
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    // Errors cross from the worker as text.
    throw new ChatProblem(/device (is|was) lost/.test(message) ? 'device-lost' : 'other', message);
  }
  if ((await client.stats()).state === 'lost') {
    await client.dispose();
    throw new ChatProblem('device-lost', 'It went away while the model was loaded.');
  }
  return new BrowserEngine(client);
}

/** ?model=<url>, else the model that this page's server serves, else the embedded one beside the page. */
async function modelUrl(): Promise<URL> {
  const asked = new URLSearchParams(location.search).get('model');
  if (asked) return new URL(asked.endsWith('/') ? asked : `${asked}/`, location.href);
  let name = 'embedded';
  try {
    const list = await fetch('v1/models', { headers: authorization() });
    if (list.status === 401) throw new ChatProblem('unauthorized', 'The server wants an API key.');
    if (list.ok) name = ((await list.json()) as { data: { id: string }[] }).data[0].id;
  } catch (error) {
    if (error instanceof ChatProblem) throw error; // else: a static host without an API
  }
  return new URL(`models/${name.split('/').map(encodeURIComponent).join('/')}/`, location.href);
}

const LABELS: Record<LoadProgress['stage'], string> = {
  device: 'Opening the device',
  tokenizer: 'Reading the tokenizer',
  weights: 'Loading weights',
  compile: 'Compiling kernels',
  ready: 'Ready',
};

function loadState({ stage, done, total, unit, detail }: LoadProgress): LoadState {
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
  return {
    label: LABELS[stage],
    share: total > 0 ? done / total : undefined,
    detail: unit === 'bytes' && total > 1 ? `${megabytes(done)} of ${megabytes(total)} MB` : detail,
  };
}

class BrowserEngine implements ChatEngine {
  readonly #client: EngineClient;
  readonly model: string;
  readonly device: string;

  constructor(client: EngineClient) {
    const { model, device } = client.info;
    this.#client = client;
    this.model = `${model.name} (${(model.parameters / 1e6).toFixed(1)} M parameters, ${model.storage})`;
    this.device = device.name;
  }

  async *answer(turns: Turn[], options: AnswerOptions, signal: AbortSignal): AsyncIterable<AnswerEvent> {
    try {
      const { tokenIds } = await this.#client.encodeChat(turns.map((turn) => ({ ...turn })));
      const events = await this.#client.generate(
        {
          promptTokenIds: tokenIds,
          sampling: {
            temperature: options.temperature,
            topK: 0,
            topP: 1,
            minP: 0,
            presencePenalty: 0,
            frequencyPenalty: 0,
            repetitionPenalty: 1,
            logitBias: [],
          },
          stop: {
            maxTokens: options.maxTokens,
            minTokens: 0,
            ignoreEos: false,
            stopStrings: [],
            stopTokenIds: [],
          },
        },
        { signal },
      );
      let tokens = 0;
      for await (const event of events) {
        if (event.type === 'tokens') {
          tokens += event.tokenIds.length;
          yield { type: 'text', text: event.text, tokens };
        } else yield { type: 'end', reason: event.finishReason, tokens };
      }
    } catch (error) {
      if (!(error instanceof GenerateError)) throw error;
      const { code } = error.error;
      const kind = code === 'device_lost' || code === 'not_ready' ? 'device-lost' : 'refused';
      throw new ChatProblem(code === 'internal' ? 'other' : kind, error.message);
    }
  }

  dispose(): Promise<void> {
    return this.#client.dispose();
  }
}
