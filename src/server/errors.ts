/**
 * Errors of the HTTP interface, in OpenAI's shape: { error: { message, type, param, code } }. The one place that maps
 * what the engine, the schema check and the HTTP library say to a status.
 */
import type { FastifyError } from 'fastify';
import type { RequestError, RequestErrorCode } from '../protocol.ts';
import { GenerateError } from '../worker/types.ts';

export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

/** An answer that is an error; thrown by handlers, turned into a response by `toHttpError` and the error handler. */
export class HttpError extends Error {
  override name = 'HttpError';
  readonly status: number;
  readonly param: string | null;
  readonly code: string | null;
  /** Sent as Retry-After. */
  readonly retryAfterSeconds?: number;

  constructor(
    status: number,
    message: string,
    details: { param?: string; code?: string; retryAfterSeconds?: number } = {},
  ) {
    super(message);
    this.status = status;
    this.param = details.param ?? null;
    this.code = details.code ?? null;
    this.retryAfterSeconds = details.retryAfterSeconds;
  }

  get body(): ErrorBody {
    return {
      error: { message: this.message, type: typeOf(this.status), param: this.param, code: this.code },
    };
  }
}

/** A field that is wrong: 400 with the field's name. */
export function badField(param: string, message: string): HttpError {
  return new HttpError(400, message, { param, code: 'invalid_value' });
}

/** OpenAI's error types; its clients pick their exception class by status, people read the type. */
function typeOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 403) return 'permission_error';
  if (status === 429) return 'rate_limit_error';
  if (status === 503) return 'service_unavailable_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}

const engineErrors: Record<RequestErrorCode, { status: number; code: string }> = {
  invalid: { status: 400, code: 'invalid_value' },
  prompt_too_long: { status: 400, code: 'context_length_exceeded' },
  queue_full: { status: 429, code: 'queue_full' },
  not_ready: { status: 503, code: 'not_ready' },
  device_lost: { status: 503, code: 'device_lost' },
  internal: { status: 500, code: 'internal_error' },
};

/** Engine fields are named as in protocol.ts; clients know them by their names in the request. */
const requestFields: Record<string, string> = {
  promptTokenIds: 'prompt',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  presencePenalty: 'presence_penalty',
  frequencyPenalty: 'frequency_penalty',
  repetitionPenalty: 'repetition_penalty',
  logitBias: 'logit_bias',
  maxTokens: 'max_tokens',
  minTokens: 'min_tokens',
  ignoreEos: 'ignore_eos',
  stopStrings: 'stop',
  stopTokenIds: 'stop_token_ids',
};

function fromEngine(error: RequestError): HttpError {
  const { status, code } = engineErrors[error.code];
  const name = error.param?.replace(/^(sampling|stop)\./, '');
  const param = name === undefined ? undefined : (requestFields[name] ?? name);
  const retryAfterSeconds = status === 429 || status === 503 ? (error.retryAfterSeconds ?? 1) : undefined;
  return new HttpError(status, error.message, { param, code, retryAfterSeconds });
}

/** What the HTTP library refuses before a handler runs: body too large, wrong media type, broken JSON. */
function fromLibrary(error: FastifyError): HttpError | undefined {
  const status = error.statusCode ?? 500;
  if (status < 400 || status >= 500) return undefined;
  if (error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    return new HttpError(415, `${error.message}. Send the body with Content-Type: application/json.`, {
      code: 'unsupported_media_type',
    });
  }
  const code = status === 413 ? 'request_too_large' : 'invalid_request';
  return new HttpError(status, error.message, { code });
}

interface SchemaIssue {
  instancePath: string;
  keyword: string;
  message?: string;
  params: Record<string, unknown>;
  data?: unknown;
}

/** "/messages/0/content" -> "messages[0].content" */
function fieldName(pointer: string): string {
  const parts = pointer.split('/').slice(1);
  const unescaped = parts.map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
  return unescaped
    .map((part, i) => (/^\d+$/.test(part) && i > 0 ? `[${part}]` : i > 0 ? `.${part}` : part))
    .join('');
}

/** A short form of a refused value for a message; long and nested values are named by their kind. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string')
    return value.length <= 40 ? JSON.stringify(value) : `a string of ${value.length} characters`;
  return Array.isArray(value) ? `a list of ${value.length}` : 'an object';
}

function fromSchema(issue: SchemaIssue): HttpError {
  const at = fieldName(issue.instancePath);
  if (issue.keyword === 'required') {
    const missing = String(issue.params['missingProperty']);
    const param = at ? `${at}.${missing}` : missing;
    return new HttpError(400, `Missing required field '${param}'.`, { param, code: 'missing_field' });
  }
  const rule = issue.message ?? `must satisfy ${issue.keyword}`;
  if (!at) return new HttpError(400, `The request body ${rule}.`, { code: 'invalid_request' });
  return badField(at, `Invalid value for '${at}': got ${shown(issue.data)}, ${rule}.`);
}

/** Anything that was thrown -> the answer. An unexpected error says nothing of its inside to the client. */
export function toHttpError(error: unknown): HttpError {
  if (error instanceof HttpError) return error;
  if (error instanceof GenerateError) return fromEngine(error.error);
  const library = error as FastifyError;
  if (library?.validation) return fromSchema(library.validation[0] as SchemaIssue);
  return (
    fromLibrary(library ?? {}) ?? new HttpError(500, 'Internal server error.', { code: 'internal_error' })
  );
}
