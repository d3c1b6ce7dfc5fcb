/** What only a real connection shows: streaming, hanging up, not reading, errors after the headers, shutting down. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { createApp } from '../../src/server/app.ts';
import { MAX_UNSENT_BYTES } from '../../src/server/limits.ts';
import { checkAddress, type Server, type ServerOptions, startServer } from '../../src/server/main.ts';
import { FakeClient, type FakeOptions } from './fakeClient.ts';

const servers: Server[] = [];
const sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(servers.splice(0).map((server) => server.stop(0)));
});

async function start(fake: FakeOptions = {}, options: Partial<ServerOptions> = {}) {
  const client = new FakeClient(fake);
  const server = await startServer({ client, version: '0', host: '127.0.0.1', port: 0, ...options });
  servers.push(server);
  return { client, server, url: server.url };
}

function post(url: string, body: object, signal?: AbortSignal): Promise<Response> {
  return fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'x', ...body }),
    signal,
  });
}

/** A connection whose other end decides what is read and when it closes. */
async function raw(url: string, body: object): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  sockets.push(socket);
  const json = JSON.stringify({ prompt: 'x', ...body });
  socket.write(
    `POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${json.length}\r\n\r\n${json}`,
  );
  await once(socket, 'connect');
  return socket;
}

async function until(condition: () => boolean, ms = 15_000): Promise<number> {
  const began = performance.now();
  while (!condition()) {
    expect(performance.now() - began, 'waited too long').toBeLessThan(ms);
    await sleep(2);
  }
  return performance.now() - began;
}

describe('streams', () => {
  it('arrive token by token', async () => {
    const { url } = await start({ tokenMs: 20, say: () => 'abcdef' });
    const response = await post(url, { stream: true, max_tokens: 6 });
    const times: number[] = [];
    for await (const _ of response.body!) times.push(performance.now());
    expect(times.length).toBeGreaterThanOrEqual(6);
    expect(times.at(-1)! - times[0]).toBeGreaterThan(60);
  });

  it('send a comment while nothing else is sent', async () => {
    const { url } = await start({ tokenMs: 300, say: () => 'a' }, { keepAliveMs: 50 });
    const text = await (await post(url, { stream: true, max_tokens: 1 })).text();
    expect(text.match(/^: keep-alive$/gm)!.length).toBeGreaterThanOrEqual(3);
    expect(text).toContain('data: [DONE]');
  });

  it('end with an error event when the engine fails after the headers', async () => {
    const { url, client } = await start({
      failAfter: ({ sampling }) =>
        sampling.seed === 8
          ? { tokens: 3, error: { code: 'device_lost', message: 'The device is lost.' } }
          : undefined,
    });
    const response = await post(url, { stream: true, n: 2, seed: 7, max_tokens: 500, ignore_eos: true });
    expect(response.status).toBe(200);
    const events = (await response.text()).trim().split('\n\n');
    expect(JSON.parse(events.at(-1)!.slice(6))).toEqual({
      error: {
        message: 'The device is lost.',
        type: 'service_unavailable_error',
        param: null,
        code: 'device_lost',
      },
    });
    expect(events).not.toContain('data: [DONE]');
    // The other choice was cancelled, not left to run.
    await until(() => client.live === 0);
    expect(client.aborted).toBe(1);
  });

  it('answer with a status when the engine fails before', async () => {
    const { url, client } = await start({
      refuse: ({ sampling }) =>
        sampling.seed === 9 ? { code: 'queue_full', message: 'Full.', retryAfterSeconds: 3 } : undefined,
    });
    const response = await post(url, { stream: true, n: 3, seed: 7, max_tokens: 500, ignore_eos: true });
    expect(response.status).toBe(429);
    expect(response.headers.get('retry-after')).toBe('3');
    expect(await response.json()).toEqual({
      error: { message: 'Full.', type: 'rate_limit_error', param: null, code: 'queue_full' },
    });
    await until(() => client.live === 0);
  });

  it.each([
    ['prompt_too_long', 400],
    ['invalid', 400],
    ['not_ready', 503],
    ['device_lost', 503],
    ['internal', 500],
  ] as const)('an engine that says %s is a %i', async (code, status) => {
    const { url } = await start({ refuse: () => ({ code, message: 'No.', param: 'sampling.topK' }) });
    const response = await post(url, {});
    expect(response.status).toBe(status);
    expect((await response.json()).error.param).toBe('top_k');
  });
});

describe('a client that hangs up', () => {
  it.each([true, false])('ends its request at once (stream: %s)', async (stream) => {
    const { client, url } = await start({ tokenMs: 2, maxModelLen: 1e6 });
    const abort = new AbortController();
    const response = post(url, { stream, n: 4, max_tokens: 100_000, ignore_eos: true }, abort.signal);
    response.catch(() => {});
    await until(() => client.live === 4 && client.generationTokens > 20);
    abort.abort();
    await until(() => client.live === 0, 2000);
    expect(client.aborted).toBe(4);
  });

  it('a thousand of them leave nothing behind', async () => {
    const { client, url } = await start({ tokenMs: 5, maxModelLen: 1e6 });
    const body = { stream: true, max_tokens: 100_000, ignore_eos: true };
    for (let round = 0; round < 10; round++) {
      const open = await Promise.all(Array.from({ length: 100 }, () => raw(url, body)));
      await sleep(Math.random() * 20);
      for (const socket of open) socket.destroy();
    }
    await until(() => client.live === 0);
    expect((await post(url, { max_tokens: 1 })).status).toBe(200);
  });
});

describe('a client that does not read', () => {
  it('is cut off at the cap, and its request ends', async () => {
    const { client, url } = await start({ maxModelLen: 1e7 });
    const socket = await raw(url, { stream: true, n: 4, max_tokens: 1_000_000, ignore_eos: true });
    socket.pause();
    const closed = once(socket, 'close').catch(() => {});
    await until(() => client.requests.length === 4);
    await until(() => client.live === 0, 20_000);
    expect(client.aborted).toBe(4);
    socket.resume();
    await closed;
    expect(socket.bytesRead).toBeGreaterThan(0);
    // The cap, plus what the two kernels buffer between the processes.
    expect(socket.bytesRead).toBeLessThan(MAX_UNSENT_BYTES + 16 * 1024 * 1024);
  });
});

describe('shutting down', () => {
  it('lets running answers finish and refuses new ones', async () => {
    const { server, url, client } = await start({ tokenMs: 5, say: () => 'a'.repeat(60) });
    const running = post(url, { stream: true, max_tokens: 60 }).then((response) => response.text());
    await until(() => client.live === 1);
    const stopped = server.stop(5000);
    const refused = await post(url, {});
    expect(refused.status).toBe(503);
    expect(refused.headers.get('connection')).toBe('close');
    expect((await fetch(`${url}/ready`)).status).toBe(503);
    expect(await running).toMatch(/"finish_reason":"length"[^\n]*\n\ndata: \[DONE\]/);
    expect(await stopped).toBe(0);
    await expect(fetch(`${url}/health`)).rejects.toThrow('fetch failed');
  });

  it('after the grace period ends the rest with finish_reason abort and an error', async () => {
    const { server, url, client } = await start({ tokenMs: 5, maxModelLen: 1e6 });
    const body = { max_tokens: 100_000, ignore_eos: true };
    const streamed = post(url, { ...body, stream: true }).then((response) => response.text());
    const whole = post(url, body);
    await until(() => client.live === 2);
    expect(await server.stop(50)).toBe(2);
    const text = await streamed;
    expect(text).toContain('"finish_reason":"abort"');
    expect(text.trim().split('\n').at(-1)).toMatch(/^data: {"error":.*shutting_down/);
    expect((await whole).status).toBe(503);
  });
});

describe('addresses', () => {
  it('a port in use is one clear line', async () => {
    const { server } = await start();
    const port = Number(new URL(server.url).port);
    const message = `port ${port} on 127.0.0.1 is in use: stop the other program, or choose another with --port`;
    await expect(checkAddress('127.0.0.1', port)).rejects.toThrow(message);
    const second = startServer({ client: new FakeClient(), version: '0', host: '127.0.0.1', port });
    await expect(second).rejects.toThrow(message);
    await expect(checkAddress('127.0.0.1', 0)).resolves.toBeUndefined();
  });

  it('a public one needs a key', async () => {
    const open = startServer({ client: new FakeClient(), version: '0', host: '0.0.0.0', port: 0 });
    await expect(open).rejects.toThrow('--api-key');
  });

  it('a foreign Host header is refused on loopback', async () => {
    const { url } = await start();
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    sockets.push(socket);
    socket.write('GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n');
    const [data] = (await once(socket, 'data')) as [Buffer];
    expect(data.toString()).toMatch(/^HTTP\/1.1 403 /);
  });
});

describe('createApp', () => {
  it('does not listen by itself', async () => {
    const { app } = await createApp({ client: new FakeClient(), version: '0' });
    expect(app.server.listening).toBe(false);
    await app.close();
  });
});
