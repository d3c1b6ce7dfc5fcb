/**
 * The HTTP application: routes, errors, gate. Does not listen (main.ts) and knows the engine only as an EngineClient, so
 * tests call it without a socket and with an engine of their own.
 */
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import type { EngineClient } from '../worker/types.ts';
import { chatRoutes } from './chat.ts';
import { completionRoutes } from './completions.ts';
import { Drain } from './drain.ts';
import { HttpError, toHttpError } from './errors.ts';
import { modelFileRoutes, pageRoutes } from './files.ts';
import { guard } from './guard.ts';
import type { GenerationContext } from './generation.ts';
import { MAX_BODY_BYTES } from './limits.ts';
import { Metrics, metricsRoutes } from './metrics.ts';
import { statusRoutes } from './status.ts';
import { tokenizeRoutes } from './tokenize.ts';

export interface AppOptions {
  client: EngineClient;
  version: string;
  apiKeys?: string[];
  /** See GuardOptions; undefined: any Host header is served. */
  allowedHosts?: string[];
  corsOrigins?: string[];
  /** The built page (dist/app). */
  pageDirectory?: string;
  /** Files of the served model, for engines in browsers. */
  modelDirectory?: string;
  /** CPU, memory and event loop of this process in /metrics. */
  processMetrics?: boolean;
  keepAliveMs?: number;
  /** Unexpected errors, for the operator. */
  log?: (line: string) => void;
}

export interface App {
  app: FastifyInstance;
  drain: Drain;
  metrics: Metrics;
}

export async function createApp(options: AppOptions): Promise<App> {
  const { client, version } = options;
  const log = options.log ?? (() => {});
  const drain = new Drain();
  const metrics = new Metrics(client, { processMetrics: options.processMetrics });
  const app = fastify({
    bodyLimit: MAX_BODY_BYTES,
    // Time to receive a whole request; answers may take as long as they need.
    requestTimeout: 60_000,
    // Old answers on kept connections must not hold up a shutdown.
    forceCloseConnections: true,
    return503OnClosing: false,
    // Names the exact value and field that was refused; never changes what the client sent.
    ajv: {
      customOptions: {
        coerceTypes: false,
        useDefaults: false,
        removeAdditional: false,
        allErrors: false,
        allowUnionTypes: true,
        verbose: true,
      },
    },
    routerOptions: { maxParamLength: 500 },
    frameworkErrors: (error, _request, reply: FastifyReply) => {
      const { status, body } = toHttpError(error);
      void reply.code(status).send(body);
    },
  });

  app.setErrorHandler((error, _request, reply) => {
    const failure = toHttpError(error);
    if (failure.status === 500) log(String((error as Error)?.stack ?? error));
    if (failure.retryAfterSeconds !== undefined)
      reply.header('retry-after', Math.ceil(failure.retryAfterSeconds));
    return reply.code(failure.status).type('application/json; charset=utf-8').send(failure.body);
  });
  app.setNotFoundHandler(async (request) => {
    throw new HttpError(404, `No route for ${request.method} ${request.url.slice(0, 200)}.`, {
      code: 'not_found',
    });
  });
  // Only JSON: a form or plain text is what a foreign web page can send without asking (CSRF).
  app.removeContentTypeParser('text/plain');

  guard(app, {
    apiKeys: options.apiKeys ?? [],
    allowedHosts: options.allowedHosts,
    corsOrigins: options.corsOrigins ?? [],
    drain,
  });
  const context: GenerationContext = { client, drain, metrics, keepAliveMs: options.keepAliveMs, log };
  completionRoutes(app, context);
  chatRoutes(app, context);
  tokenizeRoutes(app, client);
  statusRoutes(app, { client, metrics, drain, version });
  metricsRoutes(app, metrics);
  await pageRoutes(app, options.pageDirectory);
  await modelFileRoutes(app, client.info.model.name, options.modelDirectory);
  return { app, drain, metrics };
}
