/**
 * Files over HTTP: the chat page (dist/app) and the model's files for the engine in a browser. Both are lists made at
 * start from what is on disk; a request's path is only ever a key of such a list, never a path of the file system.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { HttpError } from './errors.ts';

const mimeTypes: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.map': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.webmanifest': 'application/manifest+json',
  '.woff2': 'font/woff2',
  '.wasm': 'application/wasm',
  '.wgsl': 'text/plain; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
  '.jinja': 'text/plain; charset=utf-8',
};

interface ServedFile {
  path: string;
  cacheControl: string;
}

/** Every file of the page gets a route of its own; the page is public, its calls carry the API key. */
export async function pageRoutes(app: FastifyInstance, directory: string | undefined): Promise<void> {
  const entries = directory
    ? await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])
    : [];
  for (const entry of entries.filter((item) => item.isFile())) {
    const path = join(entry.parentPath, entry.name);
    const name = path.slice(directory!.length).replaceAll('\\', '/').replace(/^\/+/, '');
    // Characters with a meaning in the router's patterns do not occur in built names.
    if (!/^[\w./-]+$/.test(name) || name.split('/').some((part) => part.startsWith('.'))) continue;
    const isHashed = name.startsWith('assets/'); // a new content gets a new name
    const file: ServedFile = {
      path,
      cacheControl: isHashed ? 'public, max-age=31536000, immutable' : 'no-cache',
    };
    const urls = name === 'index.html' ? ['/', '/index.html'] : [`/${name}`];
    for (const url of urls) {
      app.get(url, { config: { isPublic: true } }, async (request, reply) => {
        reply.headers({
          'x-frame-options': 'DENY',
          'referrer-policy': 'no-referrer',
        });
        return sendFile(request, reply, file);
      });
    }
  }
}

const modelFile =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|chat_template)\.json$|^chat_template\.jinja$|^[\w.-]+\.safetensors(\.index\.json)?$/;

/** GET /models/<served name>/<file>: what a browser needs to run the same model itself. */
export async function modelFileRoutes(
  app: FastifyInstance,
  modelName: string,
  directory: string | undefined,
): Promise<void> {
  const names = directory ? await readdir(directory).catch(() => []) : [];
  const files = new Map<string, ServedFile>();
  for (const name of names.filter((item) => modelFile.test(item)))
    files.set(`${modelName}/${name}`, { path: join(directory!, name), cacheControl: 'private, no-cache' });

  app.get<{ Params: { '*': string } }>('/models/*', async (request, reply) => {
    const file = files.get(request.params['*']);
    if (!file) throw notFound();
    return sendFile(request, reply, file);
  });
}

function notFound(): HttpError {
  return new HttpError(404, 'No such file.', { code: 'not_found' });
}

interface ByteRange {
  start: number;
  end: number; // inclusive
}

/** One range of RFC 9110 (14.1.2); undefined: send all (no range, several, or a form we do not know). */
export function parseRange(
  header: string | undefined,
  size: number,
): ByteRange | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d{0,16})-(\d{0,16})$/.exec(header ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  const [first, last] = [match[1], match[2]];
  if (first === '') {
    const count = Math.min(Number(last), size);
    return count === 0 ? 'unsatisfiable' : { start: size - count, end: size - 1 };
  }
  const start = Number(first);
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1);
  if (last !== '' && Number(last) < start) return undefined; // not a valid range: ignored
  return start >= size ? 'unsatisfiable' : { start, end };
}

async function sendFile(
  request: FastifyRequest,
  reply: FastifyReply,
  file: ServedFile,
): Promise<FastifyReply> {
  const info = await stat(file.path).catch(() => undefined);
  if (!info?.isFile()) throw notFound();
  const etag = `"${info.size.toString(16)}-${Math.floor(info.mtimeMs).toString(16)}"`;
  reply.headers({
    'content-type': mimeTypes[extname(file.path)] ?? 'application/octet-stream',
    'cache-control': file.cacheControl,
    'x-content-type-options': 'nosniff',
    'accept-ranges': 'bytes',
    etag,
  });
  if (request.headers['if-none-match'] === etag) return reply.code(304).send();
  const ifRange = request.headers['if-range'];
  const isSameVersion = ifRange === undefined || ifRange === etag;
  const range = isSameVersion ? parseRange(request.headers.range, info.size) : undefined;
  if (range === 'unsatisfiable') {
    reply.header('content-range', `bytes */${info.size}`);
    throw new HttpError(416, `The file has ${info.size} bytes.`, { code: 'range_not_satisfiable' });
  }
  if (range) reply.code(206).header('content-range', `bytes ${range.start}-${range.end}/${info.size}`);
  const length = range ? range.end - range.start + 1 : info.size;
  reply.header('content-length', length);
  if (length === 0) return reply.send();
  return reply.send(createReadStream(file.path, range));
}
