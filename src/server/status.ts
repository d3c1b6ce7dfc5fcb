/** Is it alive, is it ready, what is it: GET /health, /ready, /version, /load, /server_info, /v1/models. */
import type { FastifyInstance } from 'fastify';
import type { EngineStats } from '../protocol.ts';
import type { EngineClient } from '../worker/types.ts';
import type { Drain } from './drain.ts';
import { HttpError } from './errors.ts';
import { checkModel } from './identity.ts';
import { MAX_HEARTBEAT_SECONDS } from './limits.ts';
import type { Metrics } from './metrics.ts';

export interface StatusContext {
  client: EngineClient;
  metrics: Metrics;
  drain: Drain;
  version: string;
}

const open = { config: { isPublic: true, isOpenInDrain: true } };

export function statusRoutes(app: FastifyInstance, { client, metrics, drain, version }: StatusContext): void {
  const created = Math.floor(Date.now() / 1000);

  /** @throws HttpError 503 when the step loop is dead: no answer, or a heartbeat that is too old */
  async function livingStats(): Promise<EngineStats> {
    const stats = await metrics.stats(MAX_HEARTBEAT_SECONDS * 1000).catch(() => undefined);
    if (!stats) throw unavailable("The engine's thread does not answer.", 'engine_dead');
    if (stats.heartbeatAge > MAX_HEARTBEAT_SECONDS) {
      const age = stats.heartbeatAge.toFixed(1);
      throw unavailable(`The step loop was silent for ${age} s.`, 'engine_dead');
    }
    if (stats.state === 'lost') throw unavailable('The device is lost.', 'device_lost');
    return stats;
  }

  app.get('/health', open, async () => {
    const stats = await livingStats();
    return { status: 'ok', heartbeat_age_seconds: stats.heartbeatAge };
  });

  app.get('/ready', open, async () => {
    if (drain.isDraining) throw unavailable('The server is shutting down.', 'shutting_down');
    const stats = await livingStats();
    if (stats.state !== 'ready') throw unavailable(`The engine is ${stats.state}.`, 'not_ready');
    return { status: 'ready' };
  });

  app.get('/version', async () => ({ version }));

  app.get('/load', async () => {
    const stats = await metrics.stats();
    return { server_load: stats.running + stats.waiting };
  });

  app.get('/server_info', async () => ({ version, ...client.info }));

  const { model } = client.info;
  const card = {
    id: model.name,
    object: 'model',
    created,
    owned_by: 'nanoflow',
    root: model.name,
    parent: null,
    max_model_len: model.maxModelLen,
  };
  app.get('/v1/models', async () => ({ object: 'list', data: [card] }));
  // A wildcard, because names of models have slashes ("org/model").
  app.get<{ Params: { '*': string } }>('/v1/models/*', async (request) => {
    checkModel(request.params['*'], model);
    return card;
  });
}

function unavailable(message: string, code: string): HttpError {
  return new HttpError(503, message, { code, retryAfterSeconds: 1 });
}
