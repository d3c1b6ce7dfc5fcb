/**
 * The one gate in front of every route: Host header, CORS, API key, shutdown. A route is closed unless its own `config`
 * opens it, and the router decides which route it is, so no spelling of a path can slip past.
 */
import type { FastifyContextConfig, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Drain } from './drain.ts';
import { HttpError } from './errors.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Answered without an API key. */
    isPublic?: boolean;
    /** Answered while the server shuts down. */
    isOpenInDrain?: boolean;
  }
}

export interface GuardOptions {
  /** Any of them opens the server; none: no key is asked for. */
  apiKeys: string[];
  /**
   * Host names that clients may use, besides loopback ones; undefined: any. On a loopback address this is what keeps
   * web pages out: a page can point its own host name at 127.0.0.1 (DNS rebinding), but not change the Host header.
   */
  allowedHosts?: string[];
  /** Origins of web pages that may read answers; '*' for all. */
  corsOrigins: string[];
  drain: Drain;
}

export function guard(app: FastifyInstance, options: GuardOptions): void {
  const digests = options.apiKeys.map(digest);
  app.addHook('onRequest', async (request, reply) => {
    checkHost(request, options.allowedHosts);
    if (answerCors(request, reply, options.corsOrigins)) return reply;
    // Routes that do not exist have no config: they ask for the key too.
    const config: FastifyContextConfig = request.is404 ? {} : request.routeOptions.config;
    if (digests.length > 0 && !config.isPublic) checkKey(request, reply, digests);
    if (options.drain.isDraining && !config.isOpenInDrain) {
      reply.header('connection', 'close');
      throw new HttpError(503, 'The server is shutting down.', {
        code: 'shutting_down',
        retryAfterSeconds: 5,
      });
    }
  });
}

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/** Compares with every key, in constant time, so that timing tells nothing (CVE-2025-59425). */
function checkKey(request: FastifyRequest, reply: FastifyReply, digests: Buffer[]): void {
  const given = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
  const sum = digest(given);
  const matches = digests.map((expected) => timingSafeEqual(expected, sum));
  if (matches.includes(true)) return;
  reply.header('www-authenticate', 'Bearer');
  const message = given ? 'Incorrect API key.' : 'Missing API key: send it as Authorization: Bearer <key>.';
  throw new HttpError(401, message, { code: 'invalid_api_key' });
}

/** Name part of a Host header, lower case, without port and brackets. */
function hostName(header: string): string {
  const name = /^\[([^\]]*)\](?::\d*)?$/.exec(header)?.[1] ?? header.replace(/:\d*$/, '');
  return name.toLowerCase().replace(/\.$/, '');
}

export function isLoopback(host: string): boolean {
  const name = hostName(
    host.includes(':') && !host.startsWith('[') && host.split(':').length > 2 ? `[${host}]` : host,
  );
  return (
    name === 'localhost' || name.endsWith('.localhost') || name === '::1' || /^127(\.\d{1,3}){3}$/.test(name)
  );
}

function checkHost(request: FastifyRequest, allowed: string[] | undefined): void {
  const header = request.headers.host;
  // Browsers always send it; HTTP/1.0 clients may not.
  if (!allowed || header === undefined || header === '') return;
  if (isLoopback(header) || allowed.includes(hostName(header))) return;
  throw new HttpError(
    403,
    `Host '${hostName(header).slice(0, 100)}' is not served here, expected localhost; add --allowed-host to allow it.`,
    { code: 'host_not_allowed' },
  );
}

/** @returns whether this was a preflight, which is now answered */
function answerCors(request: FastifyRequest, reply: FastifyReply, origins: string[]): boolean {
  const { origin } = request.headers;
  if (origins.length === 0 || !origin) return false;
  reply.header('vary', 'Origin');
  if (!origins.includes('*') && !origins.includes(origin)) return false;
  // Never with credentials: keys travel in the Authorization header, which pages set themselves.
  reply.header('access-control-allow-origin', origins.includes('*') ? '*' : origin);
  reply.header('access-control-expose-headers', 'X-Request-Id, Retry-After, Content-Range, ETag');
  if (request.method !== 'OPTIONS' || !request.headers['access-control-request-method']) return false;
  reply
    .headers({
      'access-control-allow-methods': 'GET, HEAD, POST',
      'access-control-allow-headers': request.headers['access-control-request-headers'] ?? '*',
      'access-control-max-age': '600',
    })
    .code(204)
    .send();
  return true;
}
