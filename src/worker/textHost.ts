/** A text thread: tokenizer, or chat template, or both (protocol.ts, TextApi). */
import { loadChatTemplate, renderChat, type ChatTemplate } from '../engine/tokenizer/chatTemplate.ts';
import { loadTokenizer, type Tokenizer } from '../engine/tokenizer/tokenizer.ts';
import type { ChatMessage, ChatTemplateOptions, ModelSource, TextApi } from '../protocol.ts';
import type { Platform } from './platform.ts';

export class TextHost implements TextApi {
  readonly #platform: Pick<Platform, 'openModel'>;
  #tokenizer?: Tokenizer;
  #template?: ChatTemplate;

  constructor(platform: Pick<Platform, 'openModel'>) {
    this.#platform = platform;
  }

  async loadTokenizer(model: ModelSource): Promise<void> {
    const files = await this.#platform.openModel(model);
    this.#tokenizer = await loadTokenizer(files);
    await files.close();
  }

  async loadTemplate(model: ModelSource): Promise<boolean> {
    const files = await this.#platform.openModel(model);
    this.#template = await loadChatTemplate(files);
    await files.close();
    return this.#template !== undefined;
  }

  encode(text: string, options: { addSpecialTokens: boolean }): number[] {
    return [...this.#loaded().encode(text, options)];
  }

  decode(tokenIds: number[], options: { skipSpecialTokens: boolean }): string {
    return this.#loaded().decode(tokenIds, options);
  }

  renderChat(messages: ChatMessage[], options: ChatTemplateOptions): string {
    return renderChat(this.#template, messages, options);
  }

  #loaded(): Tokenizer {
    if (!this.#tokenizer) throw new Error('this thread has no tokenizer; call loadTokenizer() first');
    return this.#tokenizer;
  }
}
