import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pulledModel, pullModel, type PullOptions, type PullProgress } from '../../src/hub/pull.ts';
import { defaultCache, HubError, parseRepo } from '../../src/hub/repo.ts';
import { resolveModel } from '../../src/hub/resolve.ts';
import { COMMIT, FakeHub } from './fakeHub.ts';

let hub: FakeHub;
let cache: string;
let options: PullOptions;
const weights = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 251);

beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'pull-'));
  hub = new FakeHub();
  await hub.listen();
  hub.add('config.json', '{"model_type":"llama"}');
  hub.add('tokenizer.json', '{"model":{}}');
  hub.add('tokenizer_config.json', '{}');
  hub.add('README.md', '# no part of it');
  options = { cache, hubUrl: hub.url, accessToken: '', retryDelay: 1 };
});

afterEach(async () => {
  await hub.close();
  await rm(cache, { recursive: true });
});

const single = () => hub.add('model.safetensors', weights);
const downloads = (path: string) =>
  hub.requests.filter((request) => request.includes(`/${path}`) && !request.endsWith('=0-0'));

const isWeights = async (folder: string) =>
  (await readFile(join(folder, 'model.safetensors'))).equals(weights);

async function allFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

describe('pullModel', () => {
  test('fetches configuration, tokenizer and safetensors of one commit, and nothing else', async () => {
    single();
    hub.add('pytorch_model.bin', 'pickle', true);
    hub.add('modeling_evil.py', 'import os');
    hub.add('consolidated.safetensors', 'other');
    const progress: PullProgress[] = [];
    const pulled = await pullModel('o/m', { ...options, onProgress: (entry) => void progress.push(entry) });
    expect(pulled).toEqual({
      name: 'o/m',
      commit: COMMIT,
      directory: join(cache, 'models', 'o--m', 'commits', COMMIT),
    });
    expect((await readdir(pulled.directory)).toSorted()).toEqual(
      [
        '.nanoflow-pull.json',
        'config.json',
        'model.safetensors',
        'tokenizer.json',
        'tokenizer_config.json',
      ].toSorted(),
    );
    expect(new Uint8Array(await readFile(join(pulled.directory, 'model.safetensors')))).toEqual(weights);
    expect(progress.at(-1)!.doneBytes).toBe(progress.at(-1)!.totalBytes);
    for (const request of hub.requests.filter((entry) => entry.includes('/resolve/')))
      expect(request).toContain(COMMIT);
  });

  test('fetches the shards that the index lists', async () => {
    const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    hub.add(
      'model.safetensors.index.json',
      JSON.stringify({ weight_map: { a: shards[1], b: shards[0], c: shards[0] } }),
    );
    for (const shard of shards) hub.add(shard, shard);
    hub.add('model-00003-of-00003.safetensors', 'stray');
    const progress: PullProgress[] = [];
    const { directory } = await pullModel('o/m', {
      ...options,
      onProgress: (entry) => void progress.push(entry),
    });
    expect((await readdir(directory)).filter((name) => name.startsWith('model-')).toSorted()).toEqual(shards);
    expect(progress.at(-1)!.doneBytes).toBe(progress.at(-1)!.totalBytes);
  });

  test('goes on where the connection broke, several times', async () => {
    single();
    hub.cuts = [Infinity, Infinity, Infinity, 100_000, 50_000, 0, 1];
    const { directory } = await pullModel('o/m', options);
    expect(await isWeights(directory)).toBe(true);
    const ranges = downloads('model.safetensors').map((request) =>
      Number(/bytes=(\d+)-/.exec(request)?.[1] ?? 0),
    );
    expect(ranges.length).toBeGreaterThan(1);
    expect(ranges).toEqual(ranges.toSorted((a, b) => a - b));
    expect(ranges.at(-1)).toBeGreaterThan(0);
  });

  test('goes on after the process was stopped', async () => {
    single();
    const folder = join(cache, 'models', 'o--m', 'commits', COMMIT);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'model.safetensors.incomplete'), weights.subarray(0, 123_456));
    await pullModel('o/m', options);
    expect(downloads('model.safetensors')).toEqual([expect.stringContaining('bytes=123456-299999')]);
    expect(await readdir(folder)).not.toContain('model.safetensors.incomplete');
    expect(await isWeights(folder)).toBe(true);
  });

  test('begins again where the server does not serve ranges', async () => {
    single();
    hub.ignoresRanges = true;
    hub.cuts = [Infinity, Infinity, Infinity, 100_000];
    const progress: PullProgress[] = [];
    const { directory } = await pullModel('o/m', {
      ...options,
      onProgress: (entry) => void progress.push(entry),
    });
    expect(await isWeights(directory)).toBe(true);
    expect(progress.at(-1)!.doneBytes).toBe(progress.at(-1)!.totalBytes);
  });

  test.each([
    ['model.safetensors', 'sha256'],
    ['config.json', 'git'],
  ])('a wrong hash of %s removes the download', async (path, kind) => {
    single();
    hub.lies.set(path, '0'.repeat(kind === 'git' ? 40 : 64));
    await expect(pullModel('o/m', options)).rejects.toThrow(
      new RegExp(`${path} of o/m has ${kind} hash .* expected 000`),
    );
    expect((await allFiles(cache)).filter((file) => file.includes(path))).toEqual([]);
    expect(await pulledModel('o/m', options)).toBeUndefined();
    hub.lies.clear();
    await pullModel('o/m', options);
  });

  test('wrong bytes of an earlier try are found and thrown away', async () => {
    single();
    const folder = join(cache, 'models', 'o--m', 'commits', COMMIT);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'model.safetensors.incomplete'), new Uint8Array(1000));
    await expect(pullModel('o/m', options)).rejects.toThrow(/expected/);
    await pullModel('o/m', options);
    expect(await isWeights(folder)).toBe(true);
  });

  test('a whole commit is not fetched again; a damaged one is mended', async () => {
    single();
    const { directory } = await pullModel('o/m', options);
    hub.requests.length = 0;
    await pullModel('o/m', options);
    expect(hub.requests.length).toBe(1); // the revision
    await truncate(join(directory, 'model.safetensors'), 10);
    await pullModel('o/m', options);
    expect(await isWeights(directory)).toBe(true);
  });

  test('names that leave the folder are never written', async () => {
    single();
    hub.add('../../../escaped.json', 'x');
    hub.add('/tmp/absolute.safetensors', 'x');
    await pullModel('o/m', options);
    expect(
      (await allFiles(cache)).filter((file) => file.includes('escaped') || file.includes('absolute')),
    ).toEqual([]);
    hub.files.delete('model.safetensors');
    for (const name of [
      '../../../escaped.safetensors',
      '/etc/x.safetensors',
      'a\\b.safetensors',
      'x.bin',
      5,
    ]) {
      hub.commit = COMMIT.replace('0', String((Math.random() * 9) | 1));
      hub.add('model.safetensors.index.json', JSON.stringify({ weight_map: { a: name } }));
      if (typeof name === 'string') hub.add(name, 'x');
      await expect(pullModel('o/m', options)).rejects.toThrow(/expected names of .safetensors files/);
    }
    expect((await allFiles(cache)).filter((file) => file.includes('escaped'))).toEqual([]);
    expect(existsSync(join(cache, '..', 'escaped.safetensors'))).toBe(false);
  });

  test('a commit that is no hash is refused', async () => {
    single();
    hub.commit = '../../../../tmp/x';
    await expect(pullModel('o/m', options)).rejects.toThrow(/expected 40 hex digits/);
  });

  test.each([
    ['config.json', /no config.json/],
    ['tokenizer.json', /no tokenizer.json/],
    ['model.safetensors', /neither model.safetensors nor/],
  ])('a repository without %s is refused', async (path, message) => {
    single();
    hub.files.delete(path);
    await expect(pullModel('o/m', options)).rejects.toThrow(message);
  });

  test.each([
    [401, /private.*HF_TOKEN/],
    [403, /gated.*HF_TOKEN/],
    [404, /no such model or revision/],
  ])('status %i says what to do, at once', async (status, message) => {
    single();
    hub.status = status;
    await expect(pullModel('o/m', options)).rejects.toThrow(message);
    expect(hub.requests.length).toBe(1);
  });

  test('a server that stays away is an error after a few tries, and what came stays', async () => {
    single();
    hub.cuts = [Infinity, Infinity, Infinity, 200_000, ...Array<number>(20).fill(0)];
    await expect(pullModel('o/m', options)).rejects.toThrow(/cannot fetch model.safetensors.*pull again/);
    const partial = (await allFiles(cache)).find((file) => file.endsWith('model.safetensors.incomplete'))!;
    expect((await readFile(partial)).length).toBeGreaterThan(0);
  });

  test('abort stops it', async () => {
    single();
    const controller = new AbortController();
    const pulling = pullModel('o/m', {
      ...options,
      signal: controller.signal,
      onProgress: () => controller.abort(new Error('stop')),
    });
    await expect(pulling).rejects.toThrow(/stop|abort/);
  });

  test('the token goes to the hub, and a wrong one is refused before it is sent', async () => {
    single();
    await pullModel('o/m', { ...options, accessToken: 'hf_secret' });
    expect([...hub.tokens]).toEqual(['Bearer hf_secret']);
    await expect(pullModel('o/m', { ...options, accessToken: 'secret' })).rejects.toThrow(/'hf_'/);
  });
});

describe('resolveModel', () => {
  test('directory, then what was pulled, then the hub', async () => {
    single();
    expect(await resolveModel(cache, options)).toMatchObject({ directory: cache });
    const first = await resolveModel('o/m', options);
    expect(first).toMatchObject({ name: 'o/m', commit: COMMIT });
    hub.requests.length = 0;
    expect(await resolveModel('o/m', options)).toEqual(first);
    expect(await resolveModel(`o/m@${COMMIT}`, options)).toEqual(first);
    expect(hub.requests).toEqual([]);
  });

  test('errors name what was meant', async () => {
    await expect(resolveModel('./nowhere', options)).rejects.toThrow(/no directory .\/nowhere/);
    const file = join(cache, 'file');
    await writeFile(file, '');
    await expect(resolveModel(file, options)).rejects.toThrow(/is a file/);
  });
});

describe('names', () => {
  test('owner/name with and without a revision', () => {
    expect(parseRepo('meta-llama/Llama-3.2-1B')).toEqual({
      name: 'meta-llama/Llama-3.2-1B',
      revision: 'main',
    });
    expect(parseRepo('gpt2@refs/pr/1')).toEqual({ name: 'gpt2', revision: 'refs/pr/1' });
  });

  test.each([
    '',
    'a/b/c',
    '../x',
    'a/..',
    'a/b@',
    'a/b@../x',
    'a/b@c@d',
    'a b',
    '/etc',
    'a\\b',
    'a/b\0',
    '-a/b',
    'a/b..c',
  ])('%j is refused', (text) => {
    expect(() => parseRepo(text)).toThrow(HubError);
  });

  test('the cache folder', () => {
    expect(defaultCache({ NANOFLOW_CACHE: '/x' })).toBe('/x');
    expect(defaultCache({})).toMatch(/\.cache.nanoflow$/);
  });
});
