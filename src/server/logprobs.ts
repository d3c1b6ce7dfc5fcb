/** Log-probabilities in the shapes of OpenAI's two APIs. */
import type { TokenLogprob, TokenText } from '../protocol.ts';

/** JSON has no -Infinity; vLLM's floor. */
const LOWEST = -9999;

function finite(logprob: number): number {
  return logprob > LOWEST ? logprob : LOWEST;
}

export interface CompletionLogprobs {
  text_offset: number[];
  token_logprobs: number[];
  tokens: string[];
  top_logprobs: Record<string, number>[];
}

/** @param offset - where the first token's text begins in the choice's text, in UTF-16 units */
export function completionLogprobs(tokens: TokenLogprob[], offset: number): CompletionLogprobs {
  const body: CompletionLogprobs = { text_offset: [], token_logprobs: [], tokens: [], top_logprobs: [] };
  for (const token of tokens) {
    body.text_offset.push(offset);
    body.tokens.push(token.text);
    body.token_logprobs.push(finite(token.logprob));
    // The chosen token is always in, so there may be one more than was asked for (as in OpenAI's API).
    const top = [...token.top, token].map(({ text, logprob }) => [text, finite(logprob)] as const);
    body.top_logprobs.push(Object.fromEntries(top));
    offset += token.text.length;
  }
  return body;
}

export interface ChatLogprobs {
  content: (ChatLogprob & { top_logprobs: ChatLogprob[] })[];
  refusal: null;
}

interface ChatLogprob {
  token: string;
  logprob: number;
  bytes: number[];
}

function chatLogprob({ text, bytes, logprob }: TokenText & { logprob: number }): ChatLogprob {
  return { token: text, logprob: finite(logprob), bytes };
}

export function chatLogprobs(tokens: TokenLogprob[]): ChatLogprobs {
  return {
    content: tokens.map((token) => ({ ...chatLogprob(token), top_logprobs: token.top.map(chatLogprob) })),
    refusal: null,
  };
}
