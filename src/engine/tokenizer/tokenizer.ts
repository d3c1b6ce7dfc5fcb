/**
 * Text to token ids and back: a thin wrapper over @huggingface/tokenizers, for the text thread.
 *
 * Decoding is ours (vocabulary.ts), so that whole and streamed text agree. As in transformers 5, spaces before
 * punctuation are never "cleaned up".
 */

import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { readJson, type ModelFiles } from '../model/modelFiles.ts';
import { TokenizerError } from './tokenDecoder.ts';
import { readTokenizerConfig, specialTokens, type SpecialTokens } from './tokenizerConfig.ts';
import { Vocabulary, type DecodeOptions } from './vocabulary.ts';

export { TokenizerError } from './tokenDecoder.ts';

export interface EncodeOptions {
  /** Whether the tokenizer may add its own tokens, as <s> in front; default true. Rendered chats have them already. */
  readonly addSpecialTokens?: boolean;
}

export class Tokenizer {
  readonly vocabulary: Vocabulary;
  readonly specialTokens: SpecialTokens;
  readonly #encoder: HuggingFaceTokenizer;

  /** @throws TokenizerError when a part of tokenizer.json is not supported */
  constructor(tokenizerJson: unknown, tokenizerConfig: unknown = {}) {
    this.vocabulary = new Vocabulary(tokenizerJson);
    this.specialTokens = specialTokens(tokenizerConfig);
    try {
      this.#encoder = new HuggingFaceTokenizer(tokenizerJson as object, (tokenizerConfig ?? {}) as object);
    } catch (error) {
      throw new TokenizerError(
        `tokenizer.json cannot be used (${(error as Error).message}); expected a BPE or Unigram tokenizer`,
      );
    }
  }

  /** One more than the largest token id; the model's own vocabulary may be padded beyond it. */
  get vocabSize(): number {
    return this.vocabulary.size;
  }

  /** @throws TokenizerError when a character has no token and the tokenizer has none for the unknown */
  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    const { ids, tokens } = this.#encoder.encode(text, { add_special_tokens: addSpecialTokens });
    const unknown = ids.findIndex((id) => id === undefined);
    if (unknown >= 0)
      throw new TokenizerError(`the tokenizer has no token for ${JSON.stringify(tokens[unknown])}`);
    return ids;
  }

  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    return this.vocabulary.decode(ids, options);
  }
}

/** @throws ModelFileError or TokenizerError */
export async function loadTokenizer(files: ModelFiles): Promise<Tokenizer> {
  return new Tokenizer(await readJson(files, 'tokenizer.json'), await readTokenizerConfig(files));
}
