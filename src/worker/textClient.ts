/**
 * The text threads as one object. Calls to a thread run one at a time. A chat template runs with a time limit (and, in
 * Node, a memory limit): when it breaks either, its thread is ended and a new one is started; only the request that
 * brought it about fails.
 */
import type * as Comlink from 'comlink';
import type { ChatMessage, ChatTemplateOptions, ModelSource, TextApi } from '../protocol.ts';
import { GenerateError } from './types.ts';

export interface TextThread {
  api: Comlink.Remote<TextApi>;
  crashed: Promise<string>;
  terminate(): Promise<void>;
}

export interface TextThreads {
  startTokenizer(): TextThread;
  /** Started with a memory limit where the host has one. */
  startTemplate(): TextThread;
}

const TEMPLATE_MILLISECONDS = 2000;

export class TextClient {
  readonly #threads: TextThreads;
  readonly #tokenizer: TextThread;
  #template: Promise<TextThread>;
  #model?: ModelSource;
  #hasTemplate = false;
  #disposed = false;
  /** Tail of the queue of template calls. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(threads: TextThreads) {
    this.#threads = threads;
    this.#tokenizer = threads.startTokenizer();
    this.#template = Promise.resolve(threads.startTemplate());
  }

  async load(model: ModelSource): Promise<void> {
    this.#model = model;
    const template = await this.#template;
    const [, hasTemplate] = await Promise.all([
      crashing(this.#tokenizer, this.#tokenizer.api.loadTokenizer(model)),
      crashing(template, template.api.loadTemplate(model)),
    ]);
    this.#hasTemplate = hasTemplate;
  }

  encode(text: string, options: { addSpecialTokens: boolean }): Promise<number[]> {
    return crashing(this.#tokenizer, this.#tokenizer.api.encode(text, options));
  }

  decode(tokenIds: number[], options: { skipSpecialTokens: boolean }): Promise<string> {
    return crashing(this.#tokenizer, this.#tokenizer.api.decode(tokenIds, options));
  }

  /** @throws GenerateError 'invalid', param 'messages'. */
  async encodeChat(
    messages: ChatMessage[],
    options: ChatTemplateOptions,
  ): Promise<{ prompt: string; tokenIds: number[] }> {
    if (!this.#hasTemplate) {
      throw refused('the model has no chat template; use /v1/completions with a prompt of your own');
    }
    const turn = this.#queue.then(() => this.#render(messages, options));
    this.#queue = turn.catch(() => {});
    const prompt = await turn;
    // The template wrote the special tokens out; the tokenizer must not add them a second time.
    return { prompt, tokenIds: await this.encode(prompt, { addSpecialTokens: false }) };
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await Promise.all([this.#tokenizer.terminate(), this.#template.then((thread) => thread.terminate())]);
  }

  async #render(messages: ChatMessage[], options: ChatTemplateOptions): Promise<string> {
    const thread = await this.#template;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const limit = new Promise<{ broken: string }>((resolve) => {
      const broken = `the chat template ran for more than ${TEMPLATE_MILLISECONDS} ms`;
      timer = setTimeout(() => resolve({ broken }), TEMPLATE_MILLISECONDS);
      void thread.crashed.then(() => resolve({ broken: 'the chat template used more memory than it may' }));
    });
    try {
      const result = await Promise.race([thread.api.renderChat(messages, options), limit]);
      if (typeof result === 'string') return result;
      await this.#restartTemplate(thread);
      throw refused(`${result.broken}; send fewer or shorter messages`);
    } catch (error) {
      if (error instanceof GenerateError) throw error;
      throw refused(error instanceof Error ? error.message : String(error));
    } finally {
      clearTimeout(timer);
    }
  }

  async #restartTemplate(broken: TextThread): Promise<void> {
    await broken.terminate();
    if (this.#disposed) return;
    const thread = this.#threads.startTemplate();
    this.#template = thread.api.loadTemplate(this.#model!).then(() => thread);
    await this.#template;
  }
}

/** A call that fails, instead of waiting for ever, when its thread ends. */
function crashing<T>(thread: TextThread, call: Promise<T>): Promise<T> {
  return Promise.race([call, thread.crashed.then((reason) => Promise.reject<T>(new Error(reason)))]);
}

function refused(message: string): GenerateError {
  return new GenerateError({ code: 'invalid', param: 'messages', message });
}
