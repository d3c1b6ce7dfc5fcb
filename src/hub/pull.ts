/**
 * Fetches a model from the Hugging Face hub into the cache: the revision is resolved to a commit once, and every
 * file is taken from that commit, checked against the hash that the commit lists, and never executed.
 */

import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { listFiles, modelInfo } from '@huggingface/hub';
import { download, explain, type HubAccess } from './download.ts';
import { commitFolder, defaultCache, HubError, isCommit, parseRepo, refFile, type RepoSpec } from './repo.ts';
import { selectFiles, selectShards, WEIGHT_INDEX, type HubFile } from './select.ts';

export interface PullProgress {
  readonly file: string;
  readonly doneBytes: number; // of all files
  readonly totalBytes: number; // grows when the weight index is known
}

export interface PullOptions {
  readonly cache?: string; // default: $NANOFLOW_CACHE, else ~/.cache/nanoflow
  readonly hubUrl?: string; // default: $HF_ENDPOINT, else https://huggingface.co
  readonly accessToken?: string; // default: $HF_TOKEN
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: PullProgress) => void;
  readonly retryDelay?: number; // ms
}

export interface PulledModel {
  readonly name: string;
  readonly commit: string;
  readonly directory: string;
}

/** Written last: a commit's folder that has it is whole. */
const RECORD = '.nanoflow-pull.json';

/**
 * @param repo `owner/name` or `owner/name@revision`
 * @throws HubError, or the signal's reason when aborted; a later call goes on where this one stopped
 */
export async function pullModel(repo: string, options: PullOptions = {}): Promise<PulledModel> {
  const spec = parseRepo(repo);
  const cache = options.cache ?? defaultCache();
  const access = hubAccess(options);
  const commit = await resolveCommit(access, spec);
  const directory = commitFolder(cache, spec.name, commit);
  if (!(await isWhole(directory))) {
    await fetchFiles(access, spec.name, commit, directory, options.onProgress ?? (() => {}));
  }
  await writeWhole(refFile(cache, spec), `${commit}\n`);
  return { name: spec.name, commit, directory };
}

/** The model as an earlier pull left it, without asking the hub; undefined when it is not there whole. */
export async function pulledModel(
  repo: string,
  options: Pick<PullOptions, 'cache'> = {},
): Promise<PulledModel | undefined> {
  const spec = parseRepo(repo);
  const cache = options.cache ?? defaultCache();
  const commit = isCommit(spec.revision)
    ? spec.revision
    : (await readFile(refFile(cache, spec), 'utf8').catch(() => '')).trim();
  if (!isCommit(commit)) return undefined;
  const directory = commitFolder(cache, spec.name, commit);
  return (await isWhole(directory)) ? { name: spec.name, commit, directory } : undefined;
}

function hubAccess(options: PullOptions): HubAccess {
  const accessToken = options.accessToken ?? process.env.HF_TOKEN;
  if (accessToken && !accessToken.startsWith('hf_')) {
    throw new HubError(
      "the hub's access token (HF_TOKEN) does not begin with 'hf_'; copy it from the hub's settings page",
    );
  }
  return {
    hubUrl: (options.hubUrl ?? (process.env.HF_ENDPOINT || 'https://huggingface.co')).replace(/\/+$/, ''),
    ...(accessToken ? { accessToken } : {}),
    ...(options.signal ? { signal: options.signal } : {}),
    ...(options.retryDelay === undefined ? {} : { retryDelay: options.retryDelay }),
  };
}

const withSignal = (signal: AbortSignal | undefined): typeof fetch =>
  signal ? (input, init) => fetch(input, { ...init, signal }) : fetch;

async function resolveCommit(access: HubAccess, { name, revision }: RepoSpec): Promise<string> {
  const { hubUrl, accessToken, signal } = access;
  try {
    const credentials = accessToken ? { accessToken } : {};
    const fetch = withSignal(signal);
    const info = await modelInfo({
      name,
      revision,
      hubUrl,
      additionalFields: ['sha'],
      fetch,
      ...credentials,
    });
    return String(info.sha);
  } catch (error) {
    signal?.throwIfAborted();
    throw explain(error, name, `revision '${revision}'`);
  }
}

async function listRepo(access: HubAccess, name: string, commit: string): Promise<Map<string, HubFile>> {
  const { hubUrl, accessToken, signal } = access;
  const files = new Map<string, HubFile>();
  try {
    const credentials = accessToken ? { accessToken } : {};
    const fetch = withSignal(signal);
    for await (const entry of listFiles({
      repo: name,
      revision: commit,
      recursive: true,
      hubUrl,
      fetch,
      ...credentials,
    })) {
      if (entry.type !== 'file') continue;
      const hash = entry.lfs
        ? ({ kind: 'sha256', hex: entry.lfs.oid } as const)
        : ({ kind: 'git', hex: entry.oid ?? '' } as const);
      files.set(entry.path, { path: entry.path, size: entry.lfs?.size ?? entry.size, hash });
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw explain(error, name, 'the list of files');
  }
  return files;
}

async function fetchFiles(
  access: HubAccess,
  name: string,
  commit: string,
  directory: string,
  onProgress: (progress: PullProgress) => void,
): Promise<void> {
  const listed = await listRepo(access, name, commit);
  const { texts, weights } = selectFiles(name, listed);
  let totalBytes = [...texts, ...(weights ? [weights] : [])].reduce((sum, file) => sum + file.size, 0);
  let doneBytes = 0;
  const get = (file: HubFile) =>
    download(access, name, commit, file, directory, (count) => {
      doneBytes += count;
      onProgress({ file: file.path, doneBytes, totalBytes });
    });
  for (const file of texts) await get(file);
  let shards: readonly HubFile[] = weights ? [weights] : [];
  if (!weights) {
    shards = selectShards(name, await readIndex(name, directory), listed);
    totalBytes += shards.reduce((sum, file) => sum + file.size, 0);
  }
  for (const file of shards) await get(file);
  const record = { repo: name, commit, files: [...texts, ...shards] };
  await writeWhole(join(directory, RECORD), `${JSON.stringify(record, null, 2)}\n`);
}

async function readIndex(name: string, directory: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(join(directory, WEIGHT_INDEX), 'utf8'));
  } catch (error) {
    throw new HubError(`${WEIGHT_INDEX} of ${name} is not JSON (${(error as Error).message})`);
  }
}

/** Whether the record is there and every file that it lists has its size. */
async function isWhole(directory: string): Promise<boolean> {
  try {
    const record = JSON.parse(await readFile(join(directory, RECORD), 'utf8')) as { files: HubFile[] };
    const sizes = await Promise.all(
      record.files.map(async (file) => (await stat(join(directory, file.path))).size),
    );
    return record.files.every((file, i) => file.size === sizes[i]);
  } catch {
    return false;
  }
}

async function writeWhole(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const draft = `${path}.${process.pid}.tmp`;
  await writeFile(draft, text);
  await rename(draft, path);
}
