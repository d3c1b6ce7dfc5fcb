/**
 * Downloads one file of a repository through @huggingface/hub: into NAME.incomplete, from where an earlier try
 * ended, then checks size and hash and renames. What has the final name is whole.
 */

import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { downloadFile, HubApiError } from '@huggingface/hub';
import { HubError } from './repo.ts';
import type { HubFile } from './select.ts';

/** How the hub is reached. */
export interface HubAccess {
  readonly hubUrl: string;
  readonly accessToken?: string;
  readonly signal?: AbortSignal;
  /** First pause between tries, doubled each time; default 1000 ms. */
  readonly retryDelay?: number;
}

/** Tries in a row that bring not one new byte. */
const MAX_TRIES = 5;

/** @throws HubError when the file cannot be had whole; what came so far stays for the next time, unless it is wrong */
export async function download(
  access: HubAccess,
  repo: string,
  commit: string,
  file: HubFile,
  folder: string,
  onBytes: (count: number) => void,
): Promise<void> {
  const target = join(folder, file.path);
  const partial = `${target}.incomplete`;
  if ((await sizeOf(target)) === file.size) {
    onBytes(file.size);
    return;
  }
  await mkdir(dirname(target), { recursive: true });
  let { hash, size } = await resume(partial, file);
  onBytes(size);
  const output = await open(partial, size === 0 ? 'w' : 'r+');
  try {
    for (let failures = 0; size < file.size;) {
      const before = size;
      try {
        for await (const piece of stream(access, repo, commit, file, size)) {
          if (size + piece.length > file.size) {
            throw new HubError(`the hub sent more than the ${file.size} bytes of ${file.path}; pull again`);
          }
          await writeAt(output, piece, size);
          hash.update(piece);
          size += piece.length;
          onBytes(piece.length);
        }
        if (size === before) throw new Error('the connection ended early');
      } catch (error) {
        access.signal?.throwIfAborted();
        if (error instanceof NoResume) {
          onBytes(-size);
          hash = newHash(file);
          size = 0;
          continue;
        }
        failures = size > before ? 1 : failures + 1;
        if (error instanceof HubError || failures >= MAX_TRIES || isFinal(error)) {
          throw explain(error, repo, file.path);
        }
        const pause = (access.retryDelay ?? 1000) * 2 ** (failures - 1);
        await sleep(pause, undefined, access.signal ? { signal: access.signal } : {});
      }
    }
  } finally {
    await output.close();
  }
  const hex = hash.digest('hex');
  if (hex !== file.hash.hex) {
    await rm(partial, { force: true });
    throw new HubError(
      `${file.path} of ${repo} has ${file.hash.kind} hash ${hex}, expected ${file.hash.hex}; the download was removed: pull again`,
    );
  }
  await rename(partial, target);
}

/** What an earlier try left, hashed again from disk. */
async function resume(partial: string, file: HubFile): Promise<{ hash: Hash; size: number }> {
  const hash = newHash(file);
  const size = (await sizeOf(partial)) ?? 0;
  if (size > file.size) {
    await rm(partial);
    return { hash, size: 0 };
  }
  if (size > 0) for await (const piece of createReadStream(partial)) hash.update(piece as Buffer);
  return { hash, size };
}

/** Git hashes a header with the size before the content. */
function newHash(file: HubFile): Hash {
  if (file.hash.kind === 'sha256') return createHash('sha256');
  return createHash('sha1').update(`blob ${file.size}\0`);
}

/** The server answers a Range with something else: its bytes would be written where others belong. */
class NoResume extends Error {}

/** The bytes of a file from `from` on. */
async function* stream(
  access: HubAccess,
  repo: string,
  commit: string,
  file: HubFile,
  from: number,
): AsyncGenerator<Uint8Array> {
  const { hubUrl, accessToken, signal } = access;
  // The hub's blob passes on only the message of a failed request: the error itself is kept here.
  let failure: unknown;
  const checkedFetch: typeof fetch = async (input, init) => {
    try {
      const response = await fetch(input, { ...init, ...(signal ? { signal } : {}) });
      const asked = /^bytes=(\d+)-/.exec(new Headers(init?.headers).get('range') ?? '')?.[1];
      const given = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
      if (!response.ok)
        failure = new HubApiError(response.url, response.status, undefined, response.statusText);
      else if (from > 0 && asked === String(from) && given !== asked) {
        await response.body?.cancel();
        throw new NoResume();
      }
      return response;
    } catch (error) {
      failure = error;
      throw error;
    }
  };
  try {
    const blob = await downloadFile({
      repo,
      path: file.path,
      revision: commit,
      hubUrl,
      // Plain HTTP ranges: they resume at any byte.
      xet: false,
      fetch: checkedFetch,
      ...(accessToken ? { accessToken } : {}),
    });
    if (!blob) throw new HubError(`${repo} has no ${file.path} at commit ${commit}`);
    if (blob.size !== file.size) {
      throw new HubError(
        `${file.path} of ${repo} has ${blob.size} bytes, but the list of files says ${file.size}`,
      );
    }
    yield* blob.slice(from).stream() as ReadableStream<Uint8Array> & AsyncIterable<Uint8Array>;
  } catch (error) {
    throw failure ?? error;
  }
}

async function writeAt(output: FileHandle, piece: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < piece.length;) {
    done += (await output.write(piece, done, piece.length - done, at + done)).bytesWritten;
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.size;
}

/** Refusals that another try cannot change. */
function isFinal(error: unknown): boolean {
  return (
    error instanceof HubApiError && error.statusCode < 500 && ![408, 425, 429].includes(error.statusCode)
  );
}

/** An error of the hub in words that say what to do. */
export function explain(error: unknown, repo: string, what: string): Error {
  if (error instanceof HubError) return error;
  const status = error instanceof HubApiError ? error.statusCode : undefined;
  const remedies: Readonly<Record<number, string>> = {
    401: 'the model is private or does not exist: check the name, and set HF_TOKEN if it is private',
    403: `the model is gated: accept its terms on its page, and set HF_TOKEN`,
    404: 'no such model or revision: check the name',
    429: 'too many requests: wait, or set HF_TOKEN',
  };
  const remedy =
    status === undefined ? 'check the network and pull again: it goes on where it stopped' : remedies[status];
  const cause =
    error instanceof Error
      ? error.cause instanceof Error
        ? `${error.message}: ${error.cause.message}`
        : error.message
      : String(error);
  return new HubError(
    `cannot fetch ${what} of ${repo} (${status ?? cause}); ${remedy ?? 'try again later'}`,
    { cause: error },
  );
}
