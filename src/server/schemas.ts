/**
 * JSON Schemas of the request bodies (typebox): types, ranges and the TypeScript types of what handlers get. Fields that
 * may be one of several shapes (prompt, stop, message content) are `Unknown` here and read by hand where they are used,
 * because a failed `anyOf` can not say what was wrong. Fields that are not listed are ignored, as vLLM does.
 */
import { Type, type Static, type TNumberOptions, type TSchema } from 'typebox';
import { MAX_N, MAX_TOP_LOGPROBS } from './limits.ts';

/** `schema`, or null, or left out: OpenAI's clients send null for "not set". */
function nullable<T extends TSchema>(schema: T) {
  const type = (schema as unknown as { type: string }).type;
  return Type.Optional(Type.Unsafe<Static<T> | null>({ ...schema, type: [type, 'null'] }));
}

const text = () => nullable(Type.String());
const flag = () => nullable(Type.Boolean());
const number = (options: TNumberOptions) => nullable(Type.Number(options));
const integer = (minimum: number, maximum: number) => nullable(Type.Integer({ minimum, maximum }));

const int31 = 2 ** 31 - 1;
const safe = Number.MAX_SAFE_INTEGER;

const tokenIds = (maxItems: number) =>
  nullable(Type.Array(Type.Integer({ minimum: 0, maximum: int31 }), { maxItems }));

/** Fields of both generating endpoints. */
const generation = {
  model: text(),
  // sampling
  temperature: number({ minimum: 0, maximum: 2 }),
  top_p: number({ exclusiveMinimum: 0, maximum: 1 }),
  top_k: integer(-1, int31),
  min_p: number({ minimum: 0, maximum: 1 }),
  presence_penalty: number({ minimum: -2, maximum: 2 }),
  frequency_penalty: number({ minimum: -2, maximum: 2 }),
  repetition_penalty: number({ exclusiveMinimum: 0, maximum: 100 }),
  logit_bias: nullable(Type.Record(Type.String(), Type.Number({ minimum: -100, maximum: 100 }))),
  seed: integer(-safe, safe),
  n: integer(1, MAX_N),
  // stopping
  max_tokens: integer(1, safe),
  min_tokens: integer(0, safe),
  ignore_eos: flag(),
  stop: Type.Optional(Type.Unknown()),
  stop_token_ids: tokenIds(256),
  include_stop_str_in_output: flag(),
  // answer
  stream: flag(),
  stream_options: nullable(Type.Object({ include_usage: flag(), continuous_usage_stats: flag() })),
  return_token_ids: flag(),
  truncate_prompt_tokens: integer(-1, safe),
  // bookkeeping
  request_id: nullable(Type.String({ minLength: 1, maxLength: 128, pattern: '^[!-~]+$' })),
  user: text(),
};

export const CompletionSchema = Type.Object({
  ...generation,
  prompt: Type.Unknown(),
  logprobs: integer(0, MAX_TOP_LOGPROBS),
  echo: flag(),
  add_special_tokens: flag(),
});
export type CompletionBody = Static<typeof CompletionSchema>;

/** A message's content is read by hand (a string, or a list of text parts). */
const Messages = Type.Array(
  Type.Object({ role: Type.String({ minLength: 1, maxLength: 64 }), content: Type.Optional(Type.Unknown()) }),
  { minItems: 1, maxItems: 4096 },
);
export type MessageBody = { role: string; content?: unknown; [field: string]: unknown };

export const ChatSchema = Type.Object({
  ...generation,
  messages: Messages,
  max_completion_tokens: integer(1, safe),
  logprobs: flag(),
  top_logprobs: integer(0, MAX_TOP_LOGPROBS),
  add_generation_prompt: flag(),
  continue_final_message: flag(),
});
export type ChatBody = Static<typeof ChatSchema>;

/** What both bodies share: the input of fields.ts. */
export type GenerationBody = Omit<CompletionBody, 'prompt' | 'logprobs' | 'echo' | 'add_special_tokens'>;

export const TokenizeSchema = Type.Object({
  model: text(),
  prompt: nullable(Type.String()),
  messages: Type.Optional(Messages),
  add_special_tokens: flag(),
  add_generation_prompt: flag(),
  continue_final_message: flag(),
  return_token_strs: flag(),
});
export type TokenizeBody = Static<typeof TokenizeSchema>;

export const DetokenizeSchema = Type.Object({
  model: text(),
  tokens: Type.Array(Type.Integer({ minimum: 0, maximum: int31 })),
});
export type DetokenizeBody = Static<typeof DetokenizeSchema>;
