/** ModelFiles for a browser (and any host with fetch): files below a URL, or files that the user picked. */

import {
  checkFileName,
  missingFile,
  ModelFileError,
  type ByteSource,
  type ModelFiles,
} from './modelFiles.ts';

export interface UrlOptions {
  /** Sent with every request, as an API key. */
  headers?: Readonly<Record<string, string>>;
  signal?: AbortSignal;
}

/**
 * Files below `base`. Ranges are asked for with HTTP Range. A server that answers a range with the whole file
 * is read once as a stream into a Blob, which the browser may keep on disk.
 */
export function openModelUrl(base: string | URL, options: UrlOptions = {}): ModelFiles {
  const root = new URL(base);
  if (!root.pathname.endsWith('/')) root.pathname += '/';
  const location = root.href;
  const opened = new Map<string, Promise<ByteSource>>();
  const open = (name: string): Promise<ByteSource> => {
    checkFileName(name);
    let source = opened.get(name);
    if (!source) {
      const url = new URL(name.split('/').map(encodeURIComponent).join('/'), root);
      source = openUrl(url, location, name, options);
      opened.set(name, source);
      source.catch(() => opened.delete(name));
    }
    return source;
  };
  return {
    location,
    open,
    has: (name) =>
      open(name).then(
        () => true,
        (error: unknown) => {
          if (error instanceof MissingError) return false;
          throw error;
        },
      ),
    close: async () => opened.clear(),
  };
}

class MissingError extends ModelFileError {}

/** One byte is asked for to learn the size and whether ranges are served; a HEAD request tells neither surely. */
async function openUrl(url: URL, location: string, name: string, options: UrlOptions): Promise<ByteSource> {
  const probe = await request(url, 0, 1, options);
  if (probe.status === 404 || probe.status === 410)
    throw new MissingError(missingFile(location, name).message);
  // 416 answers every range of an empty file.
  if (probe.status === 416) return openBlob(new Blob([]), url.href);
  const total = /^bytes 0-0\/(\d+)$/.exec(probe.headers.get('content-range') ?? '')?.[1];
  if (probe.status === 206 && total !== undefined) {
    await probe.arrayBuffer();
    return new RangeSource(url, Number(total), options);
  }
  if (probe.status !== 200) {
    throw new ModelFileError(`${url.href} answered ${probe.status} ${probe.statusText}; expected 200 or 206`);
  }
  return openBlob(await probe.blob(), url.href);
}

async function request(url: URL, offset: number, length: number, options: UrlOptions): Promise<Response> {
  const { signal } = options;
  const headers = { ...options.headers, Range: `bytes=${offset}-${offset + length - 1}` };
  try {
    return await fetch(url, { headers, ...(signal ? { signal } : {}) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ModelFileError(
      `cannot fetch ${url.href} (${(error as Error).message}); check the server and the network`,
    );
  }
}

class RangeSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly #url: URL;
  readonly #options: UrlOptions;

  constructor(url: URL, size: number, options: UrlOptions) {
    this.name = url.href;
    this.size = size;
    this.#url = url;
    this.#options = options;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    checkRange(this, offset, length);
    if (length === 0) return new Uint8Array(0);
    const response = await request(this.#url, offset, length, this.#options);
    if (response.status !== 206) {
      throw new ModelFileError(`${this.name} answered ${response.status} to a range request; expected 206`);
    }
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (bytes.length !== length) {
      throw new ModelFileError(
        `${this.name} sent ${bytes.length} bytes of ${length} asked for; load the model again`,
      );
    }
    return bytes;
  }
}

/** Files of one model directory that the user picked or dropped, by name. */
export function openModelBlobs(location: string, blobs: ReadonlyMap<string, Blob>): ModelFiles {
  return {
    location,
    has: async (name) => blobs.has(name),
    open: async (name) => {
      const blob = blobs.get(name);
      if (!blob) throw missingFile(location, name);
      return openBlob(blob, name);
    },
    close: async () => {},
  };
}

/** A File or Blob as a ByteSource. */
export function openBlob(blob: Blob, name: string): ByteSource {
  const source: ByteSource = {
    name,
    size: blob.size,
    read: async (offset, length) => {
      checkRange(source, offset, length);
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    },
  };
  return source;
}

function checkRange(source: ByteSource, offset: number, length: number): void {
  if (offset < 0 || length < 0 || offset + length > source.size) {
    throw new ModelFileError(
      `${source.name} has ${source.size} bytes; asked for ${length} at ${offset}; fetch it again`,
    );
  }
}
