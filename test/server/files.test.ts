/** The page and the model's files: types, caching, ranges, and nothing but what is on the list. */
import fc from 'fast-check';
import type { FastifyInstance } from 'fastify';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../../src/server/app.ts';
import { parseRange } from '../../src/server/files.ts';
import { FakeClient } from './fakeClient.ts';

let app: FastifyInstance;
let root: string;
const weights = Buffer.from(Array.from({ length: 1000 }, (_, i) => i % 251));

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'nanoflow-files-'));
  await mkdir(join(root, 'page/assets'), { recursive: true });
  await mkdir(join(root, 'model'));
  await writeFile(join(root, 'page/index.html'), '<!doctype html>');
  await writeFile(join(root, 'page/assets/main-abc123.js'), 'export {}');
  await writeFile(join(root, 'page/assets/style-abc123.css'), 'p{}');
  await writeFile(join(root, 'page/.hidden'), 'CLASSIFIED');
  await writeFile(join(root, 'secret.txt'), 'CLASSIFIED');
  await writeFile(join(root, 'model/model.safetensors'), weights);
  await writeFile(join(root, 'model/config.json'), '{}');
  await writeFile(join(root, 'model/tokenizer.json'), '{}');
  await writeFile(join(root, 'model/notes.txt'), 'CLASSIFIED');
  await writeFile(join(root, 'model/train.py'), 'CLASSIFIED');
  ({ app } = await createApp({
    client: new FakeClient({ name: 'org/m' }),
    version: '0',
    pageDirectory: join(root, 'page'),
    modelDirectory: join(root, 'model'),
  }));
});
afterAll(async () => {
  await app.close();
  await rm(root, { recursive: true });
});

const get = (url: string, headers: Record<string, string> = {}) => app.inject({ url, headers });

describe('the page', () => {
  it.each([
    ['/', 'text/html; charset=utf-8', 'no-cache'],
    ['/index.html', 'text/html; charset=utf-8', 'no-cache'],
    ['/assets/main-abc123.js', 'text/javascript; charset=utf-8', 'public, max-age=31536000, immutable'],
    ['/assets/style-abc123.css', 'text/css; charset=utf-8', 'public, max-age=31536000, immutable'],
  ])('%s is %s', async (url, type, cache) => {
    const response = await get(url);
    expect(response.statusCode).toBe(200);
    expect(response.headers).toMatchObject({
      'content-type': type,
      'cache-control': cache,
      'x-content-type-options': 'nosniff',
    });
    const head = await app.inject({ method: 'HEAD', url });
    expect(head.body).toBe('');
    expect(head.headers['content-length']).toBe(String(Buffer.byteLength(response.body)));
    const again = await get(url, { 'if-none-match': String(response.headers.etag) });
    expect(again.statusCode).toBe(304);
    expect(again.body).toBe('');
  });

  it.each([
    '/../secret.txt',
    '/..%2fsecret.txt',
    '/%2e%2e/secret.txt',
    '/assets/../../secret.txt',
    '/assets/..%5c..%5csecret.txt',
    '/assets//../../secret.txt',
    '/.hidden',
    '/assets',
    '/assets/',
    '/assets/main-abc123.js/',
    '/assets/main-abc123.js%00.html',
    '/models/org/m/notes.txt',
    '/models/org/m/train.py',
    '/models/org/m/../../secret.txt',
    '/models/org/m/..%2f..%2fsecret.txt',
    '/models/org/m//config.json',
    '/models/org/other/config.json',
    '/models/org/m/',
    '/models/config.json',
    '/models/__proto__',
    '/models/constructor',
  ])('%s is not served', async (url) => {
    const response = await get(url);
    expect(response.statusCode).toBe(404);
    expect(response.body).not.toContain('CLASSIFIED');
  });
});

describe('model files', () => {
  const url = '/models/org/m/model.safetensors';

  it('are served whole', async () => {
    const response = await get(url);
    expect(response.rawPayload.equals(weights)).toBe(true);
    expect(response.headers).toMatchObject({ 'accept-ranges': 'bytes', 'content-length': '1000' });
    expect((await get('/models/org%2Fm/config.json')).statusCode).toBe(200);
  });

  it.each([
    ['bytes=0-9', 0, 9],
    ['bytes=990-', 990, 999],
    ['bytes=-5', 995, 999],
    ['bytes=500-5000', 500, 999],
    ['bytes=999-999', 999, 999],
  ])('in ranges: %s', async (range, start, end) => {
    const response = await get(url, { range });
    expect(response.statusCode).toBe(206);
    expect(response.headers['content-range']).toBe(`bytes ${start}-${end}/1000`);
    expect(response.rawPayload.equals(weights.subarray(start, end + 1))).toBe(true);
  });

  it('refuse a range past the end, and ignore one of another version', async () => {
    const past = await get(url, { range: 'bytes=1000-' });
    expect(past.statusCode).toBe(416);
    expect(past.headers['content-range']).toBe('bytes */1000');
    const { etag } = (await get(url)).headers;
    expect((await get(url, { range: 'bytes=0-9', 'if-range': String(etag) })).statusCode).toBe(206);
    expect((await get(url, { range: 'bytes=0-9', 'if-range': '"old"' })).statusCode).toBe(200);
  });
});

describe('parseRange', () => {
  it('always lies inside the file', () => {
    const part = fc.oneof(fc.constant(''), fc.nat().map(String), fc.constant('9'.repeat(16)));
    fc.assert(
      fc.property(part, part, fc.nat({ max: 10_000 }), (first, last, size) => {
        const range = parseRange(`bytes=${first}-${last}`, size);
        if (range === undefined || range === 'unsatisfiable') return;
        expect(range.start).toBeGreaterThanOrEqual(0);
        expect(range.end).toBeGreaterThanOrEqual(range.start);
        expect(range.end).toBeLessThan(size);
      }),
    );
  });
  it.each(['bytes=', 'bytes=-', 'bytes=1-2,4-5', 'items=1-2', 'bytes=a-b', 'bytes=5-2', 'bytes=-1-5'])(
    '%s is ignored',
    (header) => {
      expect(parseRange(header, 10)).toBeUndefined();
    },
  );
});
