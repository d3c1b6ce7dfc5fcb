/** A text thread: tokenizer, or chat template, or both (protocol.ts, TextApi). */
import type { ModelFiles } from '../engine/model/modelFiles.ts';
import { loadChatTemplate, renderChat, type ChatTemplate } from '../engine/tokenizer/chatTemplate.ts';
import { loadTokenizer, type Tokenizer } from '../engine/tokenizer/tokenizer.ts';
import type { ChatMessage, ChatTemplateOptions, ModelSource, TextApi } from '../protocol.ts';
import type { Platform } from './platform.ts';

class PromptTooLongError extends Error {
  override name = 'PromptTooLongError';
}

export class TextHost implements TextApi {
  readonly #platform: Pick<Platform, 'openModel'>;
  #tokenizer?: Tokenizer;
  #template?: ChatTemplate;

  constructor(platform: Pick<Platform, 'openModel'>) {
    this.#platform = platform;
  }

  async loadTokenizer(model: ModelSource): Promise<void> {
    this.#tokenizer = await this.#read(model, loadTokenizer);
  }

  async loadTemplate(model: ModelSource): Promise<boolean> {
    this.#template = await this.#read(model, loadChatTemplate);
    return this.#template !== undefined;
  }

  encode(text: string, options: { addSpecialTokens: boolean }): number[] {
    return this.#loaded().encode(text, options);
  }

  decode(tokenIds: number[], options: { skipSpecialTokens: boolean }): string {
    return this.#loaded().decode(tokenIds, options);
  }

  renderChat(messages: ChatMessage[], { addGenerationPrompt, maxLength }: ChatTemplateOptions): string {
    const text = renderChat(this.#template, messages, { addGenerationPrompt });
    if (text.length > maxLength) {
      throw new PromptTooLongError(
        `the rendered chat has ${text.length} characters; at most ${maxLength} are accepted`,
      );
    }
    return text;
  }

  async #read<T>(model: ModelSource, load: (files: ModelFiles) => Promise<T>): Promise<T> {
    const files = await this.#platform.openModel(model);
    try {
      return await load(files);
    } finally {
      await files.close();
    }
  }

  #loaded(): Tokenizer {
    if (!this.#tokenizer) throw new Error('this thread has no tokenizer; call loadTokenizer() first');
    return this.#tokenizer;
  }
}
