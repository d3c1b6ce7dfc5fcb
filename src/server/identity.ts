/** Names in requests and answers: the model, the answer's id, the request's id. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { randomUUID } from 'node:crypto';
import type { ModelInfo } from '../protocol.ts';
import { HttpError } from './errors.ts';

/** @throws HttpError 404 in OpenAI's shape when another model is asked for; a missing name means the served one */
export function checkModel(asked: string | null | undefined, model: ModelInfo): void {
  if (asked === undefined || asked === null || asked === model.name) return;
  const name = (asked.length <= 200 ? asked : `${asked.slice(0, 200)}...`).replace(
    /\p{Surrogate}/gu,
    '\ufffd',
  );
  throw new HttpError(404, `The model '${name}' does not exist; this server has '${model.name}'.`, {
    param: 'model',
    code: 'model_not_found',
  });
}

export interface AnswerHead {
  id: string;
  created: number; // Unix seconds
  model: string;
}

/** The client's id (field request_id, header X-Request-Id) or a new one; sent back in X-Request-Id. */
export function answerHead(
  request: FastifyRequest,
  reply: FastifyReply,
  field: string | null | undefined,
  prefix: string,
  model: ModelInfo,
): AnswerHead {
  const header = request.headers['x-request-id'];
  const isUsable = typeof header === 'string' && /^[!-~]{1,128}$/.test(header);
  const id = field ?? (isUsable ? header : randomUUID());
  reply.header('x-request-id', id);
  return { id: `${prefix}-${id}`, created: Math.floor(Date.now() / 1000), model: model.name };
}
