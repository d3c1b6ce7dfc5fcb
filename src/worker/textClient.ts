/**
 * The text threads as one object: the tokenizer's, and that of the chat template. Both run files of a model, which are
 * untrusted, under a time limit (and the template, in Node, under a memory limit).
 */
import type { ChatMessage, ModelSource, TextApi } from '../protocol.ts';
import { LimitedThread } from './limitedThread.ts';
import { ThreadError, type Thread } from './thread.ts';
import { GenerateError } from './types.ts';

export type TextThread = Thread<TextApi>;

export interface TextThreads {
  startTokenizer(): TextThread;
  /** Started with a memory limit where the host has one. */
  startTemplate(): TextThread;
}

export interface TextLimits {
  templateMilliseconds: number;
  /** The tokenizer takes 10 to 50 us a character; long contexts need a while. */
  encodeMilliseconds: number;
}

const LIMITS: TextLimits = { templateMilliseconds: 2000, encodeMilliseconds: 30_000 };

/** The longest tokens are runs of spaces; more text than this for each token of context can not fit. */
const MAX_CHARACTERS_PER_TOKEN = 64;
/** Longest rendered chat for each token of context. */
const MAX_RENDERED_PER_TOKEN = 16;

const DISPOSED = 'the engine was shut down';

export class TextClient {
  readonly #threads: TextThreads;
  readonly #limits: TextLimits;
  #tokenizer?: LimitedThread<TextApi>;
  #template?: LimitedThread<TextApi>;
  #hasTemplate = false;

  constructor(threads: TextThreads, limits: Partial<TextLimits> = {}) {
    this.#threads = threads;
    this.#limits = { ...LIMITS, ...limits };
  }

  /** Starts the threads. Rejects when the model's tokenizer or template cannot be used; dispose() then ends them. */
  async load(model: ModelSource): Promise<void> {
    const tokenizer = new LimitedThread(this.#threads.startTokenizer, (api) => api.loadTokenizer(model));
    const template = new LimitedThread(this.#threads.startTemplate, async (api) => {
      this.#hasTemplate = await api.loadTemplate(model);
    });
    this.#tokenizer = tokenizer;
    this.#template = template;
    await Promise.all([tokenizer.start(), template.start()]);
    if (!this.#hasTemplate) await template.dispose('the model has no chat template');
  }

  /** @throws GenerateError 'prompt_too_long' or 'invalid', param 'prompt'. `maxModelLen`: tokens of the longest request. */
  async encode(text: string, options: { addSpecialTokens: boolean }, maxModelLen: number): Promise<number[]> {
    checkLength(text.length, MAX_CHARACTERS_PER_TOKEN * maxModelLen, 'prompt');
    const limit = this.#limits.encodeMilliseconds;
    try {
      return await this.#loaded(this.#tokenizer).run((api) => api.encode(text, options), limit);
    } catch (error) {
      throw textError(error, 'prompt', `the tokenizer took more than ${limit} ms; send a shorter prompt`);
    }
  }

  async decode(tokenIds: number[], options: { skipSpecialTokens: boolean }): Promise<string> {
    const limit = this.#limits.encodeMilliseconds;
    try {
      return await this.#loaded(this.#tokenizer).run((api) => api.decode(tokenIds, options), limit);
    } catch (error) {
      throw textError(error, 'tokens', `decoding took more than ${limit} ms; send fewer tokens`);
    }
  }

  /** @throws GenerateError 'prompt_too_long' or 'invalid', param 'messages'. */
  async encodeChat(
    messages: ChatMessage[],
    options: { addGenerationPrompt: boolean },
    maxModelLen: number,
  ): Promise<{ prompt: string; tokenIds: number[] }> {
    const template = this.#loaded(this.#template);
    if (!this.#hasTemplate) {
      throw refused(
        'messages',
        'the model has no chat template; use /v1/completions with a prompt of your own',
      );
    }
    const length = messages.reduce((sum, { content }) => sum + (content?.length ?? 0), 0);
    checkLength(length, MAX_CHARACTERS_PER_TOKEN * maxModelLen, 'messages');
    const limit = this.#limits.templateMilliseconds;
    const maxLength = MAX_RENDERED_PER_TOKEN * maxModelLen;
    let prompt: string;
    try {
      prompt = await template.run((api) => api.renderChat(messages, { ...options, maxLength }), limit);
    } catch (error) {
      const slow = `the chat template ran for more than ${limit} ms; send fewer or shorter messages`;
      throw textError(error, 'messages', slow);
    }
    // The template wrote the special tokens out; the tokenizer must not add them a second time.
    return { prompt, tokenIds: await this.encode(prompt, { addSpecialTokens: false }, maxModelLen) };
  }

  async dispose(): Promise<void> {
    await Promise.all([this.#tokenizer?.dispose(DISPOSED), this.#template?.dispose(DISPOSED)]);
  }

  #loaded(thread: LimitedThread<TextApi> | undefined): LimitedThread<TextApi> {
    if (!thread) throw new GenerateError({ code: 'not_ready', message: 'the tokenizer is not loaded yet' });
    return thread;
  }
}

function checkLength(got: number, limit: number, param: string): void {
  if (got > limit) throw tooLong(param, `the text has ${got} characters; at most ${limit} are accepted`);
}

/** Errors that a text or a conversation can bring about (too deep, not cloneable); names survive the way between threads. */
const TEXT_ERRORS = ['TokenizerError', 'ChatTemplateError', 'RangeError', 'DataCloneError'];

/** What a text thread's failure means for the request that brought it about. */
function textError(error: unknown, param: string, slow: string): GenerateError {
  if (!(error instanceof Error)) return new GenerateError({ code: 'internal', message: String(error) });
  if (error.name === 'PromptTooLongError') return tooLong(param, error.message);
  if (error instanceof ThreadError) {
    if (error.kind === 'silent') return refused(param, slow);
    const code = error.message === DISPOSED ? 'not_ready' : 'invalid';
    return new GenerateError({ code, param, message: error.message });
  }
  if (TEXT_ERRORS.includes(error.name)) return refused(param, error.message);
  return new GenerateError({ code: 'internal', message: error.message });
}

function tooLong(param: string, message: string): GenerateError {
  return new GenerateError({ code: 'prompt_too_long', param, message });
}

function refused(param: string, message: string): GenerateError {
  return new GenerateError({ code: 'invalid', param, message });
}
