/** A small hub on loopback, with the requests that pull makes and the ways in which they go wrong. */

import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const COMMIT = '0123456789abcdef0123456789abcdef01234567';

export class FakeHub {
  readonly files = new Map<string, { bytes: Uint8Array; lfs: boolean }>();
  readonly requests: string[] = []; // "path range"
  readonly tokens = new Set<string | undefined>();
  commit = COMMIT;
  /** Bytes after which the next downloads are cut off, one entry each. */
  cuts: number[] = [];
  ignoresRanges = false;
  /** Answers with this status instead. */
  status: number | undefined;
  /** Path -> hash to list instead of the true one. */
  lies = new Map<string, string>();
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  add(path: string, content: string | Uint8Array, lfs = path.endsWith('.safetensors')): void {
    this.files.set(path, {
      bytes: typeof content === 'string' ? new TextEncoder().encode(content) : content,
      lfs,
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(request.url!.split('?')[0]);
    this.requests.push(`${path} ${request.headers.range ?? ''}`.trim());
    this.tokens.add(request.headers.authorization);
    if (this.status !== undefined) {
      response.writeHead(this.status, { 'content-type': 'application/json' }).end('{"error":"refused"}');
    } else if (path.includes('/revision/')) {
      this.#json(response, { _id: '1', id: 'o/m', sha: this.commit, lastModified: '2026-01-01' });
    } else if (path.includes('/tree/')) {
      this.#json(
        response,
        [...this.files].map(([name, file]) => this.#entry(name, file)),
      );
    } else {
      this.#file(request, response, path.slice(path.indexOf(`/${this.commit}/`) + 42));
    }
  }

  #json(response: ServerResponse, value: unknown): void {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  }

  #entry(path: string, { bytes, lfs }: { bytes: Uint8Array; lfs: boolean }): object {
    const git = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
    const sha = createHash('sha256').update(bytes).digest('hex');
    const lie = this.lies.get(path);
    const base = { type: 'file', path, size: bytes.length };
    return lfs
      ? { ...base, oid: 'f'.repeat(40), lfs: { oid: lie ?? sha, size: bytes.length } }
      : { ...base, oid: lie ?? git };
  }

  #file(request: IncomingMessage, response: ServerResponse, name: string): void {
    const file = this.files.get(name);
    if (!file) return void response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end();
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    const probe = range?.[1] === '0' && range[2] === '0';
    const total = file.bytes.length;
    const ranged = range && (probe || !this.ignoresRanges);
    const [begin, end] = ranged ? [Number(range[1]), Math.min(Number(range[2]) + 1, total)] : [0, total];
    const part = file.bytes.subarray(begin, end);
    const headers = {
      etag: '"e"',
      'content-length': part.length,
      'content-type': 'application/octet-stream',
    };
    if (ranged)
      response.writeHead(206, { ...headers, 'content-range': `bytes ${begin}-${end - 1}/${total}` });
    else response.writeHead(200, headers);
    const cut = probe ? undefined : this.cuts.shift();
    if (cut === undefined) return void response.end(part);
    response.write(part.subarray(0, cut), () => response.destroy());
  }
}
