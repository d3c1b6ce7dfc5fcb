/** What stands in front of every route: API key, Host header, CORS, media types, sizes, broken JSON, unknown routes. */
import type { FastifyInstance, InjectOptions } from 'fastify';
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type App, type AppOptions, createApp } from '../../src/server/app.ts';
import { isLoopback } from '../../src/server/guard.ts';
import { checkExposure } from '../../src/server/main.ts';
import { FakeClient } from './fakeClient.ts';

const KEY = 'sk-secret';
const client = new FakeClient();
let page: string;
const apps: App[] = [];

async function start(options: Partial<AppOptions> = {}): Promise<FastifyInstance> {
  const app = await createApp({
    client,
    version: '1.2.3',
    pageDirectory: page,
    modelDirectory: page,
    ...options,
  });
  apps.push(app);
  return app.app;
}

beforeAll(async () => {
  page = await mkdtemp(join(tmpdir(), 'nanoflow-gate-'));
  await mkdir(join(page, 'assets'));
  await writeFile(join(page, 'index.html'), '<!doctype html>page');
  await writeFile(join(page, 'assets', 'main-abc.js'), 'export {}');
  await writeFile(join(page, 'config.json'), '{"secret":"weights"}');
});
afterAll(async () => {
  await Promise.all(apps.map(({ app }) => app.close()));
  await rm(page, { recursive: true });
});

describe('API key', () => {
  let app: FastifyInstance;
  beforeAll(async () => {
    app = await start({ apiKeys: ['other', KEY] });
  });

  const closed = [
    '/v1/models',
    '/v1/models/fake-model',
    '/metrics',
    '/version',
    '/load',
    '/server_info',
    '/models/fake-model/config.json',
  ];
  const posts = ['/v1/completions', '/v1/chat/completions', '/tokenize', '/detokenize'];
  const open = ['/', '/index.html', '/assets/main-abc.js', '/health', '/ready'];

  it.each(open)('GET %s needs none', async (url) => {
    expect((await app.inject({ url })).statusCode).toBe(200);
  });

  it.each(closed)('GET %s needs one of the keys', async (url) => {
    expect((await app.inject({ url })).statusCode).toBe(401);
    for (const key of ['other', KEY]) {
      const response = await app.inject({ url, headers: { authorization: `Bearer ${key}` } });
      expect(response.statusCode).toBe(200);
    }
  });

  /** Spellings of a path that some routers, proxies or middlewares take for the same. */
  function spellings(url: string): string[] {
    return [
      url,
      `${url}/`,
      `/${url}`,
      `//${url.slice(1)}`,
      url.replaceAll('/', '//'),
      url.toUpperCase(),
      `/%2f${url.slice(1)}`,
      url.replace('/v1', '/%76%31'),
      `/health/..${url}`,
      `/assets/../${url.slice(1)}`,
      `/./${url.slice(1)}`,
      `${url}?x=1`,
      `${url}%00`,
      `${url};x`,
      `${url}%20`,
      `\\${url.slice(1)}`,
      url.replaceAll('/', '%2f').replace('%2f', '/'),
    ];
  }
  const methods = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'] as const;

  it.each([...closed, ...posts])('no spelling of %s and no method gets past the key', async (url) => {
    for (const method of methods) {
      for (const path of spellings(url)) {
        for (const authorization of [
          undefined,
          'Bearer wrong',
          `bearer${KEY}`,
          `Basic ${KEY}`,
          `Bearer ${KEY}x`,
        ]) {
          const request: InjectOptions = {
            method,
            url: path,
            headers: authorization ? { authorization } : {},
          };
          const { statusCode, body } = await app.inject(request);
          // 400: not a URL at all; refused before any route.
          expect([401, 400], `${method} ${path} ${authorization}`).toContain(statusCode);
          expect(body).not.toContain('weights');
          expect(body).not.toContain('fake-model"');
        }
      }
    }
  });

  it("answers in OpenAI's shape, and says how", async () => {
    const response = await app.inject({ url: '/v1/models' });
    expect(response.headers['www-authenticate']).toBe('Bearer');
    expect(response.json().error).toMatchObject({
      type: 'authentication_error',
      code: 'invalid_api_key',
      param: null,
    });
  });

  it('asks for the key on routes that do not exist', async () => {
    expect((await app.inject({ url: '/nowhere' })).statusCode).toBe(401);
    const response = await app.inject({ url: '/nowhere', headers: { authorization: `Bearer ${KEY}` } });
    expect(response.statusCode).toBe(404);
    expect(response.json().error.code).toBe('not_found');
  });
});

describe('Host header', () => {
  it.each([
    ['localhost:8000', 200],
    ['127.0.0.1:8000', 200],
    ['127.0.0.1', 200],
    ['[::1]:8000', 200],
    ['LOCALHOST', 200],
    ['app.localhost:1', 200],
    ['my.box:8000', 200],
    ['evil.example', 403],
    ['evil.example:8000', 403],
    ['localhost.evil.example', 403],
    ['127.0.0.1.evil.example', 403],
    ['10.0.0.1:8000', 403],
    ['[::2]', 403],
  ])('on loopback, %s -> %i', async (host, status) => {
    const app = await start({ allowedHosts: ['my.box'] });
    expect((await app.inject({ url: '/v1/models', headers: { host } })).statusCode).toBe(status);
  });

  it('is free on a public address', async () => {
    const app = await start();
    expect((await app.inject({ url: '/v1/models', headers: { host: 'any.example' } })).statusCode).toBe(200);
  });
});

describe('CORS', () => {
  const preflight = (origin: string): InjectOptions => ({
    method: 'OPTIONS',
    url: '/v1/chat/completions',
    headers: {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization',
    },
  });

  it('is off by default', async () => {
    const app = await start();
    const response = await app.inject({ url: '/v1/models', headers: { origin: 'https://page.example' } });
    expect(response.headers).not.toHaveProperty('access-control-allow-origin');
    expect((await app.inject(preflight('https://page.example'))).statusCode).toBe(404);
  });

  it('opens for the named origin only, without its credentials, and still asks for the key', async () => {
    const app = await start({ corsOrigins: ['https://page.example'], apiKeys: [KEY] });
    const good = await app.inject(preflight('https://page.example'));
    expect(good.statusCode).toBe(204);
    expect(good.headers).toMatchObject({
      'access-control-allow-origin': 'https://page.example',
      'access-control-allow-headers': 'authorization',
      vary: 'Origin',
    });
    expect(good.headers).not.toHaveProperty('access-control-allow-credentials');
    const bad = await app.inject(preflight('https://evil.example'));
    expect(bad.headers).not.toHaveProperty('access-control-allow-origin');
    expect(
      (await app.inject({ url: '/v1/models', headers: { origin: 'https://page.example' } })).statusCode,
    ).toBe(401);
  });
});

describe('bodies', () => {
  let app: FastifyInstance;
  beforeAll(async () => {
    app = await start();
  });
  const send = (payload: string | Buffer, contentType: string | undefined) =>
    app.inject({
      method: 'POST',
      url: '/v1/completions',
      payload,
      headers: contentType === undefined ? {} : { 'content-type': contentType },
    });
  const body = '{"prompt":"x","max_tokens":1}';

  it.each([
    ['application/json', 200],
    ['application/json; charset=utf-8', 200],
    ['APPLICATION/JSON', 200],
    ['text/plain', 415],
    ['application/x-www-form-urlencoded', 415],
    ['multipart/form-data; boundary=x', 415],
    ['application/json-evil', 415],
    ['', 415],
    [undefined, 415],
  ])('Content-Type %s -> %i', async (contentType, status) => {
    const response = await send(body, contentType);
    expect(response.statusCode).toBe(status);
    if (status !== 200) expect(response.json().error.type).toBe('invalid_request_error');
  });

  it.each(['application/json\ta', ' application/json', 'application/json\t;', 'application/json ,x'])(
    'an odd Content-Type %j never skips the schema',
    async (contentType) => {
      const response = await send('{"prompt":"x","temperature":"hot"}', contentType);
      expect([400, 415]).toContain(response.statusCode);
    },
  );

  it.each([
    ['', 400],
    ['{', 400],
    ['null', 400],
    ['[]', 400],
    ['"x"', 400],
    ['5', 400],
    ['{"prompt":"x","__proto__":{"admin":1}}', 400],
    ['{"prompt":"x","constructor":{"prototype":{"a":1}}}', 400],
    ['{"prompt":"x","temperature":1e400}', 400],
    ['{"prompt":"x","temperature":NaN}', 400],
    ['{"prompt":"x","seed":99999999999999999999}', 400],
    ['{"prompt":"x","max_tokens":1e308}', 400],
    ['{"prompt":"x","prompt":"y","max_tokens":1}', 200], // the last one counts, as in vLLM
    [`{"prompt":"x","max_tokens":1,"extra":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, 200],
    [`{"prompt":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, 400],
    [`{"logit_bias":${'{"1":'.repeat(50_000)}1${'}'.repeat(50_000)},"prompt":"x"}`, 400],
    ['{"prompt":"nul \\u0000 is text","max_tokens":1}', 200],
  ])('%.60s -> %i', async (payload, status) => {
    const began = performance.now();
    const response = await send(payload, 'application/json');
    expect(response.statusCode).toBe(status);
    if (status === 400) expect(response.json().error).toHaveProperty('message');
    expect(performance.now() - began).toBeLessThan(500);
  });

  it('refuses more than 10 MiB with 413', async () => {
    const response = await send(Buffer.alloc(10 * 1024 * 1024 + 1, 32), 'application/json');
    expect(response.statusCode).toBe(413);
    expect(response.json().error).toMatchObject({ code: 'request_too_large', type: 'invalid_request_error' });
  });

  it('names neither paths nor stacks when something inside fails', async () => {
    const lines: string[] = [];
    const broken = new FakeClient();
    broken.encode = () => Promise.reject(new Error('secret inside /etc/path'));
    const { app: failing } = await createApp({
      client: broken,
      version: '0',
      log: (line) => lines.push(line),
    });
    const response = await failing.inject({
      method: 'POST',
      url: '/v1/completions',
      payload: { prompt: 'x' },
    });
    expect(response.statusCode).toBe(500);
    expect(response.body).not.toContain('secret');
    expect(response.json().error.type).toBe('server_error');
    expect(lines.join()).toContain('secret inside');
    await failing.close();
  });
});

describe('public addresses', () => {
  it.each(['127.0.0.1', '127.5.5.5', 'localhost', '::1'])('%s is loopback', (host) => {
    expect(isLoopback(host)).toBe(true);
    expect(() => checkExposure({ host })).not.toThrow();
  });
  it.each(['0.0.0.0', '::', '192.168.1.2', 'example.org', '127.0.0.1.evil.example'])('%s is not', (host) => {
    expect(isLoopback(host)).toBe(false);
    expect(() => checkExposure({ host })).toThrow('--api-key');
    expect(() => checkExposure({ host, apiKeys: [] })).toThrow('--api-key');
    expect(() => checkExposure({ host, apiKeys: ['k'] })).not.toThrow();
    expect(() => checkExposure({ host, insecure: true })).not.toThrow();
  });
});
