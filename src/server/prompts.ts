/** The forms a prompt may take -> token ids, checked against the model. */
import type { ChatMessage, ModelInfo } from '../protocol.ts';
import type { EngineClient } from '../worker/types.ts';
import { badField, HttpError, shown } from './errors.ts';
import { hasLoneSurrogate, requireWellFormed } from './fields.ts';
import { MAX_CHARS_PER_TOKEN, MAX_PROMPTS } from './limits.ts';
import type { MessageBody } from './schemas.ts';

export interface Prompt {
  tokenIds: number[];
  /** Undefined when the client sent token ids. */
  text?: string;
}

/** Text, token ids, or a list of either -> one entry per prompt, texts not encoded yet. */
function splitPrompts(prompt: unknown): (string | number[])[] {
  if (typeof prompt === 'string') return [prompt];
  if (!Array.isArray(prompt))
    throw badField('prompt', `Invalid value for 'prompt': got ${shown(prompt)}, expected text or token ids.`);
  if (prompt.length === 0) throw badField('prompt', "'prompt' is empty, expected at least one token.");
  if (typeof prompt[0] === 'number') return [checkedIds(prompt)];
  if (prompt.length > MAX_PROMPTS)
    throw badField('prompt', `'prompt' holds ${prompt.length} prompts, expected at most ${MAX_PROMPTS}.`);
  return prompt.map((item: unknown) => {
    if (typeof item === 'string') return item;
    if (Array.isArray(item)) return checkedIds(item);
    throw badField('prompt', `'prompt' holds ${shown(item)}, expected texts or lists of token ids.`);
  });
}

function checkedIds(items: unknown[]): number[] {
  const wrong = items.find((item) => !Number.isSafeInteger(item) || (item as number) < 0);
  if (wrong !== undefined)
    throw badField(
      'prompt',
      `'prompt' holds ${shown(wrong)} among token ids, expected whole numbers from 0.`,
    );
  return items as number[];
}

/** @throws HttpError 400 when the prompt is empty, holds an unknown token, or leaves no room for an answer */
export function checkTokenIds(tokenIds: number[], model: ModelInfo, param: string): number[] {
  if (tokenIds.length === 0) throw badField(param, `'${param}' is empty, expected at least one token.`);
  const unknown = tokenIds.find((id) => id >= model.vocabSize);
  if (unknown !== undefined)
    throw badField(
      param,
      `'${param}' holds token id ${unknown}, expected ids from 0 to ${model.vocabSize - 1}.`,
    );
  if (tokenIds.length >= model.maxModelLen) throw tooLong(`${tokenIds.length} tokens`, model, param);
  return tokenIds;
}

function tooLong(got: string, model: ModelInfo, param: string): HttpError {
  const message = `This model's maximum context length is ${model.maxModelLen} tokens; '${param}' has ${got} and leaves no room for an answer. Shorten it.`;
  return new HttpError(400, message, { param, code: 'context_length_exceeded' });
}

/** Guards the tokenizer's thread against texts that can never fit. */
export function checkText(text: string, model: ModelInfo, param: string): string {
  const limit = model.maxModelLen * MAX_CHARS_PER_TOKEN;
  if (text.length > limit) throw tooLong(`${text.length} characters`, model, param);
  return requireWellFormed(text, param);
}

/** vLLM's truncate_prompt_tokens: keep the last N tokens; -1: as many as leave room for one token. */
function truncated(tokenIds: number[], keep: number | null | undefined, model: ModelInfo): number[] {
  if (keep === undefined || keep === null) return tokenIds;
  const count = keep === -1 ? model.maxModelLen - 1 : keep;
  return count === 0 ? [] : tokenIds.slice(-count);
}

export async function readPrompts(
  client: EngineClient,
  prompt: unknown,
  options: { addSpecialTokens: boolean; truncate?: number | null },
): Promise<Prompt[]> {
  const { model } = client.info;
  const parts = splitPrompts(prompt);
  for (const part of parts) {
    if (part.length === 0) throw badField('prompt', "'prompt' is empty, expected at least one token.");
    if (typeof part === 'string') checkText(part, model, 'prompt');
  }
  return Promise.all(
    parts.map(async (part) => {
      const text = typeof part === 'string' ? part : undefined;
      const ids = typeof part === 'string' ? await client.encode(part, options) : part;
      return { tokenIds: checkTokenIds(truncated(ids, options.truncate, model), model, 'prompt'), text };
    }),
  );
}

/** A string, or a list of text parts -> text. */
function readContent(content: unknown, param: string): string {
  if (typeof content === 'string') return requireWellFormed(content, param);
  if (!Array.isArray(content))
    throw badField(
      param,
      `Invalid value for '${param}': got ${shown(content)}, expected a string or a list of text parts.`,
    );
  const texts = content.map((part: unknown, i) => {
    const { type, text } = (part ?? {}) as { type?: unknown; text?: unknown };
    if (type !== 'text')
      throw badField(
        `${param}[${i}].type`,
        `'${param}[${i}]' is ${shown(type)}, only 'text' parts are supported.`,
      );
    if (typeof text !== 'string')
      throw badField(`${param}[${i}].text`, `'${param}[${i}].text' is ${shown(text)}, expected a string.`);
    return requireWellFormed(text, `${param}[${i}].text`);
  });
  return texts.join('\n');
}

/** Messages of the body -> what a template gets: role, content and the other plain fields (name, reasoning...). */
function readMessages(messages: MessageBody[], model: ModelInfo): ChatMessage[] {
  let length = 0;
  return messages.map((message, i) => {
    const param = `messages[${i}].content`;
    const isEmptyAssistant = message.role === 'assistant' && (message.content ?? null) === null;
    const content = isEmptyAssistant ? '' : readContent(message.content, param);
    length += content.length;
    if (length > model.maxModelLen * MAX_CHARS_PER_TOKEN)
      throw tooLong(`${length} characters`, model, 'messages');
    if (Array.isArray(message['tool_calls']) && message['tool_calls'].length > 0)
      throw badField(
        `messages[${i}].tool_calls`,
        `'messages[${i}].tool_calls' is not supported by this server.`,
      );
    const plain = Object.entries(message).filter(
      ([name, value]) => name !== 'content' && typeof value === 'string' && !hasLoneSurrogate(value),
    );
    // OpenAI's newer name of the system role; templates know only the older one.
    const role =
      message.role === 'developer' ? 'system' : requireWellFormed(message.role, `messages[${i}].role`);
    return { ...Object.fromEntries(plain), role, content };
  });
}

export interface ChatOptions {
  addGenerationPrompt: boolean;
  /** The answer goes on with the text of the last message. */
  continueFinalMessage: boolean;
}

export async function readChat(
  client: EngineClient,
  body: MessageBody[],
  options: ChatOptions,
): Promise<Prompt & { text: string }> {
  const { model } = client.info;
  if (!model.hasChatTemplate)
    throw badField('messages', `Model '${model.name}' has no chat template; use /v1/completions.`);
  const messages = readMessages(body, model);
  const { prompt, tokenIds } = await client.encodeChat(messages, {
    addGenerationPrompt: options.addGenerationPrompt && !options.continueFinalMessage,
  });
  if (!options.continueFinalMessage) return { text: prompt, tokenIds };
  const text = cutAfterFinalMessage(prompt, messages.at(-1)!.content);
  return { text, tokenIds: await client.encode(text, { addSpecialTokens: false }) };
}

/** As transformers' apply_chat_template(continue_final_message=True): cut the rendered text behind the last message. */
function cutAfterFinalMessage(prompt: string, content: string): string {
  const at = prompt.lastIndexOf(content.trim());
  if (content.trim() === '' || at < 0)
    throw badField(
      'continue_final_message',
      'The last message does not appear in the rendered chat, so it can not be continued.',
    );
  return prompt.slice(0, at + content.trim().length);
}

export function readChatOptions(body: {
  add_generation_prompt?: boolean | null;
  continue_final_message?: boolean | null;
}): ChatOptions {
  const continueFinalMessage = body.continue_final_message ?? false;
  if (continueFinalMessage && body.add_generation_prompt)
    throw badField(
      'continue_final_message',
      "'continue_final_message' and 'add_generation_prompt' can not both be true.",
    );
  return { addGenerationPrompt: body.add_generation_prompt ?? true, continueFinalMessage };
}
