import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ModelFileError,
  readJson,
  readText,
  weightFileNames,
  type ModelFiles,
} from '../../src/engine/model/modelFiles.ts';
import { openModelDirectory } from '../../src/engine/model/modelFilesNode.ts';
import { openModelBlobs, openModelUrl } from '../../src/engine/model/modelFilesWeb.ts';
import { memoryFiles } from './memory.ts';

const FILES: Readonly<Record<string, Uint8Array>> = {
  'config.json': new TextEncoder().encode('{"a": "é"}'),
  'broken.json': new TextEncoder().encode('{"a": '),
  'data.bin': Uint8Array.from({ length: 1000 }, (_, i) => i % 251),
  empty: new Uint8Array(0),
};

let directory: string;
let server: Server;
let requests: string[] = [];
const url = (path: string) => `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'model-files-'));
  for (const [name, bytes] of Object.entries(FILES)) await writeFile(join(directory, name), bytes);
  await mkdir(join(directory, 'folder'));
  // Serves FILES below /ranges/ with Range support, below /plain/ without, and 500 below /broken/.
  server = createServer((request, response) => {
    const [, mode, name] = request.url!.split('/');
    requests.push(`${mode} ${name} ${request.headers.range}`);
    const bytes = FILES[name];
    if (mode === 'broken') return response.writeHead(500).end();
    if (!bytes) return response.writeHead(404).end();
    if (mode === 'plain') return response.end(bytes);
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range!)!;
    const [begin, end] = [Number(range[1]), Math.min(Number(range[2]) + 1, bytes.length)];
    if (begin >= bytes.length) return response.writeHead(416).end();
    response.writeHead(206, { 'content-range': `bytes ${begin}-${end - 1}/${bytes.length}` });
    return response.end(bytes.subarray(begin, end));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});

afterAll(async () => {
  await rm(directory, { recursive: true });
  await new Promise((resolve) => server.close(resolve));
});

const SOURCES: [string, () => Promise<ModelFiles>][] = [
  ['a directory', () => openModelDirectory(directory)],
  ['a URL with ranges', async () => openModelUrl(url('/ranges'))],
  ['a URL without ranges', async () => openModelUrl(url('/plain/'))],
  [
    'picked files',
    async () =>
      openModelBlobs(
        'picked',
        new Map(Object.entries(FILES).map(([name, b]) => [name, new Blob([b as Uint8Array<ArrayBuffer>])])),
      ),
  ],
];

describe.each(SOURCES)('%s', (_, open) => {
  test('reads any range, text and JSON', async () => {
    const files = await open();
    const source = await files.open('data.bin');
    expect(source.size).toBe(1000);
    for (const [offset, length] of [
      [0, 1000],
      [0, 0],
      [999, 1],
      [123, 456],
      [1000, 0],
    ]) {
      expect(await source.read(offset, length)).toEqual(FILES['data.bin'].slice(offset, offset + length));
    }
    expect((await files.open('empty')).size).toBe(0);
    expect(await readText(files, 'empty')).toBe('');
    expect(await readJson(files, 'config.json')).toEqual({ a: 'é' });
    await files.close();
  });

  test('errors name the file and the place', async () => {
    const files = await open();
    expect(await files.has('config.json')).toBe(true);
    expect(await files.has('nothing.json')).toBe(false);
    await expect(files.open('nothing.json')).rejects.toThrow(ModelFileError);
    await expect(files.open('nothing.json')).rejects.toThrow(`${files.location} has no nothing.json`);
    await expect(readJson(files, 'broken.json')).rejects.toThrow(/broken.json.*is not JSON/);
    await expect(async () => (await files.open('data.bin')).read(990, 11)).rejects.toThrow(ModelFileError);
    await files.close();
  });
});

test('a URL without ranges is read once', async () => {
  requests = [];
  const source = await openModelUrl(url('/plain')).open('data.bin');
  await source.read(0, 10);
  await source.read(500, 10);
  expect(requests).toEqual(['plain data.bin bytes=0-0']);
});

test('a server that fails or is not there is an error, not a missing file', async () => {
  await expect(openModelUrl(url('/broken')).has('config.json')).rejects.toThrow(/answered 500/);
  await expect(openModelUrl('http://127.0.0.1:1/').has('config.json')).rejects.toThrow(/cannot fetch/);
});

test('a directory that is none', async () => {
  await expect(openModelDirectory(join(directory, 'nowhere'))).rejects.toThrow(
    /not there; expected a model directory/,
  );
  await expect(openModelDirectory(join(directory, 'config.json'))).rejects.toThrow(/a file; expected/);
});

test.each(['../secret', '/etc/passwd', 'a//b', 'a/../../b', '.', '', 'a\\b', 'C:x', 'a\0b'])(
  'name %j stays outside',
  async (name) => {
    const files = await openModelDirectory(directory);
    expect(() => files.open(name)).toThrow(/not a file name inside the model/);
    expect(() => openModelUrl(url('/ranges')).open(name)).toThrow(/not a file name inside the model/);
  },
);

describe('weightFileNames', () => {
  const index = (weight_map: unknown) => ({
    'model.safetensors.index.json': { weight_map },
    'a.safetensors': '',
    'b.safetensors': '',
  });

  test('prefers the single file, else lists each shard once', async () => {
    const shards = { x: 'b.safetensors', y: 'a.safetensors', z: 'b.safetensors' };
    expect(await weightFileNames(memoryFiles(index(shards)))).toEqual(['a.safetensors', 'b.safetensors']);
    const both = memoryFiles({ ...index(shards), 'model.safetensors': '' });
    expect(await weightFileNames(both)).toEqual(['model.safetensors']);
  });

  test.each([
    [{ 'pytorch_model.bin': '' }, /neither model.safetensors nor/],
    [index(undefined), /no weight_map/],
    [index({ x: 'pytorch_model.bin' }), /lists "pytorch_model.bin"/],
    [index({ x: 3 }), /lists 3/],
    [index({ x: '../other/a.safetensors' }), /not a file name inside the model/],
    [index({ x: 'c.safetensors' }), /memory has no c.safetensors/],
  ])('refuses %j', async (files, message) => {
    await expect(weightFileNames(memoryFiles(files))).rejects.toThrow(message);
  });
});
