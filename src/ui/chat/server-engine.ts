/** The server of this page, through its OpenAI API. */
import { ChatProblem, type AnswerEvent, type AnswerOptions, type ChatEngine, type Turn } from './engines.ts';
import { serverSentEvents } from './server-sent-events.ts';

const KEY = 'nanoflow.apiKey';

export function rememberApiKey(key: string): void {
  sessionStorage.setItem(KEY, key);
}

export function authorization(): Record<string, string> {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
}

interface ServerInfo {
  model: { name: string; parameters: number; storage: string };
  device: { name: string };
}

interface Chunk {
  choices?: { delta: { content?: string | null }; finish_reason: string | null }[];
  usage?: { completion_tokens: number } | null;
  error?: { message: string };
}

/** @throws ChatProblem 'no-server', 'unauthorized' or 'other' */
export async function openServerEngine(): Promise<ChatEngine> {
  const response = await call('server_info', { headers: authorization() });
  if (!response.headers.get('content-type')?.includes('json')) {
    throw new ChatProblem('no-server', 'This page came from a host that is no nanoflow server.');
  }
  return new ServerEngine((await response.json()) as ServerInfo);
}

class ServerEngine implements ChatEngine {
  readonly model: string;
  readonly device: string;
  readonly #name: string;

  constructor({ model, device }: ServerInfo) {
    this.#name = model.name;
    this.model = `${model.name} (${(model.parameters / 1e6).toFixed(1)} M parameters, ${model.storage})`;
    this.device = device.name;
  }

  async *answer(turns: Turn[], options: AnswerOptions, signal: AbortSignal): AsyncIterable<AnswerEvent> {
    let tokens = 0;
    try {
      const response = await call('v1/chat/completions', {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...authorization() },
        body: JSON.stringify({
          model: this.#name,
          messages: turns,
          stream: true,
          stream_options: { include_usage: true, continuous_usage_stats: true },
          max_completion_tokens: options.maxTokens,
          temperature: options.temperature,
        }),
        signal,
      });
      let reason: 'stop' | 'length' = 'stop';
      for await (const data of serverSentEvents(response.body!)) {
        if (data === '[DONE]') break;
        const chunk = JSON.parse(data) as Chunk;
        if (chunk.error) throw new ChatProblem('other', chunk.error.message);
        const choice = chunk.choices?.[0];
        tokens = chunk.usage?.completion_tokens ?? tokens;
        if (choice?.delta.content) yield { type: 'text', text: choice.delta.content, tokens };
        if (choice?.finish_reason === 'length') reason = 'length';
      }
      yield { type: 'end', reason, tokens };
    } catch (error) {
      if (!signal.aborted) throw error;
      yield { type: 'end', reason: 'abort', tokens };
    }
  }

  async dispose(): Promise<void> {}
}

async function call(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ChatProblem('no-server', error instanceof Error ? error.message : String(error));
  }
  if (response.ok) return response;
  const body = (await response.json().catch(() => undefined)) as
    { error?: { message?: string; code?: string } } | undefined;
  const message = body?.error?.message ?? `HTTP status ${response.status}`;
  if (response.status === 401 || response.status === 403) throw new ChatProblem('unauthorized', message);
  if (response.status === 429) throw new ChatProblem('busy', message);
  if (response.status === 404)
    throw new ChatProblem(path === 'server_info' ? 'no-server' : 'model-not-found', message);
  if (response.status === 503 && body?.error?.code === 'device_lost')
    throw new ChatProblem('device-lost', message);
  throw new ChatProblem(response.status < 500 ? 'refused' : 'other', message);
}
