/**
 * Tokens to text, one at a time. What push() returns is final: whole characters, in order, and together with
 * flush() exactly the text of all tokens. Bytes that begin a character wait for the rest of it.
 */

import type { DecodeOptions, Vocabulary } from './vocabulary.ts';

export interface DetokenizerOptions extends DecodeOptions {
  /** Whether the first token begins a text: tokenizers that put a space before every word drop the first. */
  readonly atStart: boolean;
}

const SPACE = 0x20;

export class StreamDetokenizer {
  readonly #vocabulary: Vocabulary;
  readonly #skipSpecial: boolean;
  // A BOM is a character like any other here.
  readonly #utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
  #first: boolean;
  #spacesToStrip: number;

  constructor(vocabulary: Vocabulary, options: DetokenizerOptions) {
    this.#vocabulary = vocabulary;
    this.#skipSpecial = options.skipSpecialTokens ?? true;
    this.#first = options.atStart;
    this.#spacesToStrip = options.atStart ? vocabulary.stripSpaces : 0;
  }

  push(id: number): string {
    if (this.#skipSpecial && this.#vocabulary.specialIds.has(id)) return '';
    let bytes = this.#vocabulary.bytes(id, this.#first);
    this.#first = false;
    while (this.#spacesToStrip > 0 && bytes.length > 0) {
      if (bytes[0] !== SPACE) {
        this.#spacesToStrip = 0;
        break;
      }
      bytes = bytes.subarray(1);
      this.#spacesToStrip--;
    }
    return this.#utf8.decode(bytes, { stream: true });
  }

  /** Ends the text: U+FFFD for a character that was begun and not completed, else nothing. */
  flush(): string {
    return this.#utf8.decode();
  }
}
