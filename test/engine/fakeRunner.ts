/** A model without a device: the next token is a hash of the tokens so far, so any mix-up of requests shows. */
import type { BatchRunner, LaunchedStep, SampledToken } from '../../src/engine/model/runner.ts';
import type { DenseBatch } from '../../src/engine/schedule/scheduler.ts';
import type { TextOutput } from '../../src/engine/schedule/output.ts';
import type { GenerateRequest } from '../../src/protocol.ts';

export const VOCAB = 97;

/** What the fake model answers to these tokens. */
export function nextToken(tokens: readonly number[]): number {
  let hash = 2166136261;
  for (const token of tokens) hash = Math.imul(hash ^ token, 16777619) >>> 0;
  return hash % VOCAB;
}

export class FakeRunner implements BatchRunner {
  readonly config = { vocabSize: VOCAB };
  readonly sizes: BatchRunner['sizes'];
  readonly maxAdjustments = 4096;
  /** Thrown by the next launch. */
  failNext?: Error;
  /** KV contents by slot: what was computed there, to notice a page that was handed to two requests. */
  readonly #kv = new Map<number, string>();

  constructor(sizes: Partial<BatchRunner['sizes']> = {}) {
    this.sizes = { pages: 64, pageSize: 4, maxBatchTokens: 16, maxRequests: 8, maxModelLen: 64, ...sizes };
  }

  async launch(batch: DenseBatch): Promise<LaunchedStep> {
    const error = this.failNext;
    this.failNext = undefined;
    if (error) throw error;
    if (batch.tokens > this.sizes.maxBatchTokens) throw new Error('the batch is too large');
    const { pageSize } = this.sizes;
    const slot = (pages: readonly number[], position: number): number =>
      pages[Math.floor(position / pageSize)] * pageSize + (position % pageSize);
    const sampled: SampledToken[] = [];
    for (const { request, start, count, sample } of batch.segments) {
      for (let i = start; i < start + count; i++) this.#kv.set(slot(request.pages, i), `${request.id}:${i}`);
      for (let i = 0; i < start + count; i++) {
        const found = this.#kv.get(slot(request.pages, i));
        if (found !== `${request.id}:${i}`)
          throw new Error(`KV of ${request.id}:${i} was overwritten by ${found}`);
      }
      if (sample) sampled.push({ token: nextToken(request.tokens), logprob: -1, rank: 0, top: [] });
    }
    return { collect: async () => sampled };
  }
}

/** Token t is the text "<t>". */
export const fakeText: TextOutput = {
  openDetokenizer: () => ({ push: (token) => `<${token}>`, flush: () => '' }),
  tokenText: (token) => ({ text: `<${token}>`, bytes: [...new TextEncoder().encode(`<${token}>`)] }),
};

export function ask(
  id: string,
  prompt: number[],
  changes: Partial<GenerateRequest['stop']> = {},
): GenerateRequest {
  return {
    id,
    promptTokenIds: prompt,
    sampling: {
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
      repetitionPenalty: 1,
      logitBias: [],
    },
    stop: { maxTokens: 8, minTokens: 0, ignoreEos: false, stopStrings: [], stopTokenIds: [], ...changes },
  };
}

/** The tokens the fake model gives a request that runs alone and is not ended early. */
export function expected(prompt: readonly number[], count: number): number[] {
  const tokens = [...prompt];
  for (let i = 0; i < count; i++) tokens.push(nextToken(tokens));
  return tokens.slice(prompt.length);
}
