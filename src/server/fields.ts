/** Reads the sampling and stopping fields of a request body that passed its schema. Knows nothing of prompts. */
import type { ModelInfo, SamplingParams, StopParams } from '../protocol.ts';
import { badField, HttpError, shown } from './errors.ts';
import { MAX_STOP_LENGTH, MAX_STOP_STRINGS } from './limits.ts';
import type { GenerationBody } from './schemas.ts';

/**
 * Fields of OpenAI's or vLLM's API that would change the answer but are not built: silently ignoring them would be a
 * wrong answer. The test says which values mean "not used".
 */
const unsupported: Record<string, { unused: (value: unknown) => boolean; remedy: string }> = {
  best_of: { unused: isOneOf(1), remedy: 'use n' },
  use_beam_search: { unused: isOneOf(false), remedy: 'use n with a temperature' },
  suffix: { unused: isOneOf(''), remedy: 'put all text into the prompt' },
  tools: { unused: isEmptyList, remedy: 'describe tools in a system message' },
  functions: { unused: isEmptyList, remedy: 'describe functions in a system message' },
  response_format: { unused: isTextFormat, remedy: 'only {"type": "text"} is supported' },
  structured_outputs: { unused: isNever, remedy: 'check the text on your side' },
  guided_json: { unused: isNever, remedy: 'check the text on your side' },
  guided_regex: { unused: isNever, remedy: 'check the text on your side' },
  guided_choice: { unused: isNever, remedy: 'check the text on your side' },
  guided_grammar: { unused: isNever, remedy: 'check the text on your side' },
  prompt_logprobs: { unused: isNever, remedy: 'use logprobs for the generated tokens' },
  prompt_embeds: { unused: isNever, remedy: 'send text or token ids' },
  allowed_token_ids: { unused: isEmptyList, remedy: 'use logit_bias' },
  bad_words: { unused: isEmptyList, remedy: 'use logit_bias with -100' },
  logits_processors: { unused: isEmptyList, remedy: 'use the sampling fields' },
  skip_special_tokens: { unused: isOneOf(true), remedy: 'use return_token_ids' },
  priority: { unused: isOneOf(0), remedy: 'requests are served in order of arrival' },
  chat_template: { unused: isNever, remedy: "the model's own template is used" },
  documents: { unused: isEmptyList, remedy: 'put documents into a message' },
  audio: { unused: isNever, remedy: 'only text is served' },
};

function isOneOf(...values: unknown[]) {
  return (value: unknown) => values.includes(value);
}
function isNever(): boolean {
  return false;
}
function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}
function isTextFormat(value: unknown): boolean {
  return typeof value === 'object' && (value as { type?: unknown }).type === 'text';
}

/** @throws HttpError 400 naming the first field that asks for something that is not built */
export function refuseUnsupported(body: object): void {
  const fields = body as Record<string, unknown>;
  for (const [name, { unused, remedy }] of Object.entries(unsupported)) {
    const value = fields[name];
    if (value === undefined || value === null || unused(value)) continue;
    throw new HttpError(400, `'${name}' is not supported by this server: ${remedy}.`, {
      param: name,
      code: 'unsupported_parameter',
    });
  }
}

/** Whether a text holds half a surrogate pair, which has no UTF-8 form. */
export function hasLoneSurrogate(value: string): boolean {
  return /\p{Surrogate}/u.test(value);
}

/** @throws HttpError 400 naming the field when the text is not valid Unicode */
export function requireWellFormed(value: string, param: string): string {
  if (!hasLoneSurrogate(value)) return value;
  throw badField(param, `'${param}' holds a lone surrogate, expected valid Unicode text.`);
}

/**
 * @param body - passed its schema
 * @param index - position of this choice among the request's choices: choice i draws with seed + i
 * @param logprobs - how many alternatives per token, undefined: no logprobs
 */
export function readSampling(
  body: GenerationBody,
  model: ModelInfo,
  index: number,
  logprobs: number | undefined,
): SamplingParams {
  const topK = body.top_k ?? 0;
  const seed = body.seed ?? undefined;
  return {
    temperature: body.temperature ?? 1,
    topK: topK === -1 ? 0 : Math.min(topK, model.vocabSize),
    topP: body.top_p ?? 1,
    minP: body.min_p ?? 0,
    presencePenalty: body.presence_penalty ?? 0,
    frequencyPenalty: body.frequency_penalty ?? 0,
    repetitionPenalty: body.repetition_penalty ?? 1,
    logitBias: readLogitBias(body.logit_bias ?? {}, model.vocabSize),
    seed: seed === undefined ? undefined : seedOfChoice(seed, index),
    logprobs,
  };
}

/** seed + index, turned round at the end of the safe integers. */
function seedOfChoice(seed: number, index: number): number {
  const sum = seed + index;
  return Number.isSafeInteger(sum) ? sum : Number.MIN_SAFE_INTEGER + index;
}

function readLogitBias(bias: Record<string, number>, vocabSize: number): [number, number][] {
  return Object.entries(bias).map(([key, value]) => {
    const id = /^(0|[1-9]\d{0,9})$/.test(key) ? Number(key) : -1;
    if (id < 0 || id >= vocabSize) {
      throw badField(
        'logit_bias',
        `Invalid key in 'logit_bias': got ${shown(key)}, expected a token id from 0 to ${vocabSize - 1}.`,
      );
    }
    return [id, value];
  });
}

/** @param maxTokens - the request's own limit; undefined: as much as the context allows */
export function readStop(body: GenerationBody, model: ModelInfo, maxTokens: number | undefined): StopParams {
  const limit = Math.min(maxTokens ?? model.maxModelLen, model.maxModelLen);
  const minTokens = body.min_tokens ?? 0;
  if (minTokens > limit) {
    throw badField(
      'min_tokens',
      `'min_tokens' is ${minTokens}, which is more than the ${limit} tokens that may be generated; lower it or raise max_tokens.`,
    );
  }
  for (const id of body.stop_token_ids ?? []) {
    if (id >= model.vocabSize) {
      throw badField(
        'stop_token_ids',
        `'stop_token_ids' holds ${id}, expected token ids from 0 to ${model.vocabSize - 1}.`,
      );
    }
  }
  return {
    maxTokens: limit,
    minTokens,
    ignoreEos: body.ignore_eos ?? false,
    stopStrings: readStopStrings(body.stop),
    stopTokenIds: body.stop_token_ids ?? [],
  };
}

function readStopStrings(stop: unknown): string[] {
  if (stop === undefined || stop === null) return [];
  const list: unknown[] = Array.isArray(stop) ? stop : [stop];
  if (list.length > MAX_STOP_STRINGS)
    throw badField('stop', `'stop' holds ${list.length} strings, expected at most ${MAX_STOP_STRINGS}.`);
  return list.map((value) => {
    if (typeof value !== 'string')
      throw badField(
        'stop',
        `Invalid value for 'stop': got ${shown(value)}, expected a string or a list of strings.`,
      );
    if (value.length === 0 || value.length > MAX_STOP_LENGTH)
      throw badField(
        'stop',
        `'stop' holds a string of ${value.length} characters, expected 1 to ${MAX_STOP_LENGTH}.`,
      );
    return requireWellFormed(value, 'stop');
  });
}
