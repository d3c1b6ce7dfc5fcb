/**
 * Token ids to text: all of a tokenizer that the engine's thread needs. Made from tokenizer.json alone; does not
 * encode (tokenizer.ts does).
 */

import { readJson, type ModelFiles } from '../model/modelFiles.ts';
import { StreamDetokenizer } from './detokenizer.ts';
import { compileTokenDecoder, TokenizerError, type TokenDecoder } from './tokenDecoder.ts';

export interface DecodeOptions {
  /** Leave out tokens like <s> and <|eot_id|>; default true. */
  readonly skipSpecialTokens?: boolean;
}

interface TokenizerJson {
  readonly model?: {
    readonly type?: unknown;
    readonly vocab?: Readonly<Record<string, number>> | readonly [string, number][];
  };
  readonly added_tokens?: readonly {
    readonly id: number;
    readonly content: string;
    readonly special?: boolean;
  }[];
  readonly decoder?: unknown;
}

/** Tokens of context that a detokenizer is fed before the first new one: a character has at most 4 bytes. */
const CONTEXT_TOKENS = 8;

export class Vocabulary {
  /** One more than the largest id. */
  readonly size: number;
  readonly specialIds: ReadonlySet<number>;
  readonly #tokens: readonly (string | undefined)[];
  readonly #decoder: TokenDecoder;

  /** @throws TokenizerError when this is no tokenizer.json or its decoder is not supported */
  constructor(json: unknown) {
    const { model, added_tokens: added = [], decoder } = (json ?? {}) as TokenizerJson;
    const vocab = model?.vocab;
    if (typeof vocab !== 'object' || vocab === null) {
      throw new TokenizerError(
        'tokenizer.json has no model.vocab; expected the tokenizer.json of Hugging Face tokenizers',
      );
    }
    if (model?.type !== undefined && model.type !== 'BPE' && model.type !== 'Unigram') {
      throw new TokenizerError(
        `tokenizer.json has a model of type '${String(model.type)}'; supported: BPE, Unigram`,
      );
    }
    const tokens: (string | undefined)[] = [];
    if (Array.isArray(vocab)) for (const [id, [token]] of vocab.entries()) tokens[id] = token;
    else for (const [token, id] of Object.entries(vocab as Record<string, number>)) tokens[id] = token;
    for (const { id, content } of added) tokens[id] = content;
    this.#tokens = tokens;
    this.size = tokens.length;
    this.specialIds = new Set(added.filter((token) => token.special).map((token) => token.id));
    this.#decoder = compileTokenDecoder(decoder);
  }

  /** Most spaces that are dropped where a text begins. */
  get stripSpaces(): number {
    return this.#decoder.stripSpaces;
  }

  /** Bytes of one token; none for an id without a token (models pad their vocabulary). */
  bytes(id: number, first = false): Uint8Array {
    const token = this.#tokens[id];
    return token === undefined ? new Uint8Array(0) : this.#decoder.bytes(token, first);
  }

  /** One token by itself, for logprobs: bytes that are no UTF-8 show as U+FFFD in the text. */
  tokenText(id: number): { text: string; bytes: number[] } {
    const bytes = this.bytes(id);
    return { text: new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes), bytes: [...bytes] };
  }

  /** A detokenizer for what follows the prompt: a word's space is kept, a character begun there is completed. */
  openDetokenizer(promptTokenIds: readonly number[], options: DecodeOptions = {}): StreamDetokenizer {
    const atStart = promptTokenIds.every((id) => this.specialIds.has(id));
    const detokenizer = new StreamDetokenizer(this, { ...options, atStart });
    for (const id of promptTokenIds.slice(-CONTEXT_TOKENS)) detokenizer.push(id);
    return detokenizer;
  }

  /** The text of a whole sequence. */
  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    const detokenizer = new StreamDetokenizer(this, { ...options, atStart: true });
    let text = '';
    for (const id of ids) text += detokenizer.push(id);
    return text + detokenizer.flush();
  }
}

/** @throws ModelFileError or TokenizerError */
export async function loadVocabulary(files: ModelFiles): Promise<Vocabulary> {
  return new Vocabulary(await readJson(files, 'tokenizer.json'));
}
