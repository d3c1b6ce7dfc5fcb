/** A listening server on the embedded model, the device that serves here by default, and the official client. */
import OpenAI from 'openai';
import { type Server, startServer } from '../../src/server/main.ts';
import type { LoadOptions } from '../../src/protocol.ts';
import { createNodeClient, embeddedModel } from '../../src/worker/node/client.ts';
import type { EngineClient, EngineStats } from '../../src/worker/types.ts';

export interface EmbeddedServer {
  client: EngineClient;
  server: Server;
  url: string;
  openai: OpenAI;
  /** The engine's state right behind each abort that the server told it. */
  aborts: Promise<EngineStats>[];
  stop(): Promise<void>;
}

export async function startEmbedded(options: Partial<LoadOptions> = {}): Promise<EmbeddedServer> {
  const model = { kind: 'directory', path: embeddedModel() } as const;
  const client = await createNodeClient({ model, device: 'auto', ...options });
  const aborts: Promise<EngineStats>[] = [];
  const watched: EngineClient = {
    info: client.info,
    encode: (...args) => client.encode(...args),
    decode: (...args) => client.decode(...args),
    encodeChat: (...args) => client.encodeChat(...args),
    stats: (...args) => client.stats(...args),
    dispose: () => client.dispose(),
    async generate(request, generateOptions) {
      const events = await client.generate(request, generateOptions);
      // Listeners run in their order, and so do messages: the client's abort is in front of this question.
      generateOptions?.signal?.addEventListener('abort', () => aborts.push(client.stats()));
      return events;
    },
  };
  const server = await startServer({ client: watched, version: '0', host: '127.0.0.1', port: 0 });
  const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0, timeout: 170_000 });
  return {
    client,
    server,
    url: server.url,
    openai,
    aborts,
    async stop() {
      await server.stop(0);
      await client.dispose();
    },
  };
}

export async function postJson(url: string, body: object, signal?: AbortSignal): Promise<Response> {
  const headers = { 'content-type': 'application/json' };
  return fetch(url, { method: 'POST', headers, body: JSON.stringify(body), signal });
}

/** Polls until the condition holds. */
export async function until(condition: () => Promise<boolean>, ms = 20_000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${ms} ms in vain`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
