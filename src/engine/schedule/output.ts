/** From sampled tokens to what a client sees: text, stop strings, logprobs. One for each request. */
import type { GenerateRequest, RequestEvent, TokenLogprob, TokenText } from '../../protocol.ts';
import type { SampledToken } from '../model/runner.ts';
import { StopMatcher } from '../tokenizer/stopMatcher.ts';

/** Turns a request's tokens into text, never emitting half a character. */
export interface Detokenizer {
  push(tokenId: number): string;
  flush(): string;
}

/** What the engine needs of a tokenizer. */
export interface TextOutput {
  openDetokenizer(promptTokenIds: readonly number[]): Detokenizer;
  /** Text and bytes of one token by itself, for logprobs. */
  tokenText(tokenId: number): Omit<TokenText, 'tokenId'>;
}

export interface TakeOptions {
  /** The token ends the text and is not part of it: end-of-sequence, stop token. */
  hidden: boolean;
  /** No token follows: what was held back comes out. */
  last: boolean;
  /** False before min_tokens: the text cannot end yet. */
  stopStringsAllowed: boolean;
}

export class Output {
  readonly #id: string;
  readonly #wantsLogprobs: boolean;
  readonly #text: TextOutput;
  readonly #detokenizer: Detokenizer;
  readonly #matcher?: StopMatcher;

  constructor(ask: GenerateRequest, text: TextOutput) {
    this.#id = ask.id;
    this.#wantsLogprobs = ask.sampling.logprobs !== undefined;
    this.#text = text;
    this.#detokenizer = text.openDetokenizer(ask.promptTokenIds);
    if (ask.stop.stopStrings.length > 0) this.#matcher = new StopMatcher(ask.stop.stopStrings);
  }

  /** The event for one more token, and the stop string that its text completes. */
  take(token: SampledToken, options: TakeOptions): { event: RequestEvent; stopString?: string } {
    let text = options.hidden ? '' : this.#detokenizer.push(token.token);
    if (options.last) text += this.#detokenizer.flush();
    let stopString: string | undefined;
    if (this.#matcher && options.stopStringsAllowed) {
      const matched = this.#matcher.push(text);
      text = matched.text;
      stopString = matched.stop;
      if (options.last && stopString === undefined) text += this.#matcher.flush();
    }
    return { event: this.#event(token, text), stopString };
  }

  #event(token: SampledToken, text: string): RequestEvent {
    return {
      type: 'tokens',
      id: this.#id,
      text,
      tokenIds: [token.token],
      logprobs: this.#wantsLogprobs ? [this.#logprob(token)] : undefined,
    };
  }

  #logprob({ token, logprob, rank, top }: SampledToken): TokenLogprob {
    return {
      ...this.#named(token),
      logprob,
      rank,
      top: top.map((entry) => ({ ...this.#named(entry.token), logprob: entry.logprob })),
    };
  }

  #named(tokenId: number): TokenText {
    return { tokenId, ...this.#text.tokenText(tokenId) };
  }
}
