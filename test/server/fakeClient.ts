/**
 * An engine for tests of the front ends: one token per UTF-8 byte, and a text that follows from the prompt and the seed
 * alone. Keeps the contract of EngineClient (submission order, aborts, stop conditions, usage), and fails on request.
 */
import type {
  ChatMessage,
  EngineInfo,
  EngineStats,
  GenerateRequest,
  RequestError,
  TokenLogprob,
} from '../../src/protocol.ts';
import { type EngineClient, GenerateError, type GenerationEvent } from '../../src/worker/types.ts';

export interface FakeOptions {
  /** Milliseconds of a token; 0: as fast as the event loop turns. */
  tokenMs?: number;
  maxModelLen?: number;
  /** Live requests beyond this are refused with queue_full. */
  capacity?: number;
  /** Fails a request after some tokens. */
  failAfter?: (request: Omit<GenerateRequest, 'id'>) => { tokens: number; error: RequestError } | undefined;
  /** Refuses a request. */
  refuse?: (request: Omit<GenerateRequest, 'id'>) => RequestError | undefined;
  /** What the model says; default: words that follow from prompt and seed. */
  say?: (request: Omit<GenerateRequest, 'id'>) => string;
  hasChatTemplate?: boolean;
  name?: string;
}

export const EOS = 257;
const VOCAB_SIZE = 300;
const words = ['alpha', 'béta', 'gamma', 'delta', '🙂', 'epsilon', 'zêta', 'eta', 'théta', 'iota'];

/** Small generator of numbers below 2^32 (Marsaglia's xorshift32). */
function random(seed: number): () => number {
  let x = seed >>> 0 || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>>= 0);
  };
}

function defaultText({ promptTokenIds, sampling }: Omit<GenerateRequest, 'id'>): string {
  let seed = promptTokenIds.reduce((sum, id) => (Math.imul(sum, 31) + id) >>> 0, 7);
  if (sampling.temperature > 0)
    seed ^= Math.imul(sampling.seed ?? Math.floor(Math.random() * 2 ** 32), 2654435761);
  const next = random(seed);
  return Array.from({ length: 40 }, () => words[next() % words.length]).join(' ');
}

function logprobOf(tokenId: number, alternatives: number): TokenLogprob {
  const token = (id: number) => ({ tokenId: id, text: String.fromCharCode(id % 128), bytes: [id % 256] });
  const top = Array.from({ length: alternatives }, (_, i) => ({
    ...token((tokenId + i) % 256),
    logprob: i === 19 ? -Infinity : -0.5 * (i + 1),
  }));
  return { ...token(tokenId), logprob: -0.5, rank: 0, top };
}

export class FakeClient implements EngineClient {
  readonly info: EngineInfo;
  readonly requests: Omit<GenerateRequest, 'id'>[] = [];
  live = 0;
  aborted = 0;
  stopped = false;
  heartbeatAge = 0;
  state: EngineStats['state'] = 'ready';
  readonly finished: EngineStats['requestsFinished'] = { stop: 0, length: 0, abort: 0, error: 0 };
  promptTokens = 0;
  generationTokens = 0;
  #options: FakeOptions;
  #steps: number[] = [];

  constructor(options: FakeOptions = {}) {
    this.#options = options;
    this.info = {
      model: {
        name: options.name ?? 'fake-model',
        architecture: 'LlamaForCausalLM',
        parameters: 1000,
        vocabSize: VOCAB_SIZE,
        maxModelLen: options.maxModelLen ?? 512,
        bosTokenId: 256,
        eosTokenIds: [EOS],
        hasChatTemplate: options.hasChatTemplate ?? true,
        storage: 'f32',
        weightBytes: 4000,
      },
      device: { kind: 'cpu', name: 'fake', reason: 'a test', rejected: [] },
      kv: { pageSize: 16, pages: 100, bytes: 1 << 20 },
      maxBatchTokens: 256,
      maxRequests: 64,
      loadSeconds: 0,
    };
  }

  async generate(
    request: Omit<GenerateRequest, 'id'> & { id?: string },
    options: { signal?: AbortSignal } = {},
  ): Promise<AsyncIterable<GenerationEvent>> {
    await turn();
    const refusal = this.#options.refuse?.(request);
    if (refusal) throw new GenerateError(refusal);
    if (this.live >= (this.#options.capacity ?? Infinity)) {
      throw new GenerateError({ code: 'queue_full', message: 'The queue is full.', retryAfterSeconds: 2 });
    }
    this.requests.push(request);
    this.live++;
    return this.#run(request, options.signal);
  }

  async *#run(request: Omit<GenerateRequest, 'id'>, signal?: AbortSignal): AsyncGenerator<GenerationEvent> {
    const began = performance.now();
    const id = 'fake';
    const { stop, sampling } = request;
    const text = (this.#options.say ?? defaultText)(request);
    const tokens = [...new TextEncoder().encode(text)];
    const failure = this.#options.failAfter?.(request);
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    let said = '';
    let count = 0;
    let firstToken = 0;
    let isDone = false;
    const end = (
      finishReason: 'stop' | 'length' | 'abort',
      stopReason?: string | number,
    ): GenerationEvent => {
      const seconds = (performance.now() - began) / 1000;
      this.finished[finishReason]++;
      isDone = true;
      return {
        type: 'end',
        id,
        finishReason,
        stopReason,
        usage: { promptTokens: request.promptTokenIds.length, completionTokens: count },
        timings: {
          queued: 0,
          prefill: firstToken,
          decode: seconds - firstToken,
          timeToFirstToken: firstToken,
          total: seconds,
        },
      };
    };
    this.promptTokens += request.promptTokenIds.length;
    try {
      for (;;) {
        await turn(this.#options.tokenMs);
        if (signal?.aborted) {
          this.aborted++;
          yield end('abort');
          return;
        }
        if (failure && count === failure.tokens) {
          this.finished.error++;
          isDone = true;
          throw new GenerateError(failure.error);
        }
        const isAtEnd = count >= tokens.length;
        const token = isAtEnd ? (stop.ignoreEos || count < stop.minTokens ? 46 : EOS) : tokens[count];
        count++;
        this.generationTokens++;
        this.#steps.push(1);
        firstToken ||= (performance.now() - began) / 1000;
        const piece = token < 256 ? decoder.decode(new Uint8Array([token]), { stream: true }) : '';
        said += piece;
        const found = count > stop.minTokens ? stop.stopStrings.find((s) => said.includes(s)) : undefined;
        // As the engine does: text that may be the beginning of a stop string is held back by its caller's contract;
        // here whole stop strings are cut from the last piece only, so tests use stop strings of one character.
        const shownText = found === undefined ? piece : piece.slice(0, -found.length);
        yield {
          type: 'tokens',
          id,
          text: shownText,
          tokenIds: [token],
          logprobs: sampling.logprobs === undefined ? undefined : [logprobOf(token, sampling.logprobs)],
        };
        if (found !== undefined) yield end('stop', found);
        else if (token === EOS) yield end('stop');
        else if (count > stop.minTokens && stop.stopTokenIds.includes(token)) yield end('stop', token);
        else if (count >= stop.maxTokens) yield end('length');
        else continue;
        return;
      }
    } finally {
      // The loop was left early: the same as an abort, but nobody hears of it.
      if (!isDone) {
        this.aborted++;
        this.finished.abort++;
      }
      this.live--;
    }
  }

  async encode(text: string, options: { addSpecialTokens?: boolean } = {}): Promise<number[]> {
    const bytes = [...new TextEncoder().encode(text)];
    return (options.addSpecialTokens ?? true) ? [256, ...bytes] : bytes;
  }

  async decode(tokenIds: number[], options: { skipSpecialTokens?: boolean } = {}): Promise<string> {
    const special = options.skipSpecialTokens ? '' : '<s>';
    const parts = tokenIds.map((id) => (id < 256 ? [id] : [...new TextEncoder().encode(special)]));
    return new TextDecoder().decode(new Uint8Array(parts.flat()));
  }

  async encodeChat(
    messages: ChatMessage[],
    options: { addGenerationPrompt?: boolean } = {},
  ): Promise<{ prompt: string; tokenIds: number[] }> {
    const known = ['system', 'user', 'assistant', 'tool'];
    const stranger = messages.find((message) => !known.includes(message.role));
    if (stranger) {
      const message = `The chat template refused the messages: unknown role ${stranger.role}.`;
      throw new GenerateError({ code: 'invalid', message, param: 'messages' });
    }
    const turns = messages.map(({ role, content }) => `<|${role}|>${content}</s>`).join('');
    const prompt = turns + ((options.addGenerationPrompt ?? true) ? '<|assistant|>' : '');
    return { prompt, tokenIds: await this.encode(prompt, { addSpecialTokens: false }) };
  }

  async stats(): Promise<EngineStats> {
    if (this.stopped) throw new Error('no answer');
    return {
      running: this.live,
      waiting: 0,
      kvPagesUsed: this.live,
      kvPagesTotal: 100,
      steps: this.generationTokens,
      promptTokens: this.promptTokens,
      generationTokens: this.generationTokens,
      requestsAccepted: this.requests.length,
      requestsFinished: { ...this.finished },
      preemptions: 0,
      heartbeatAge: this.heartbeatAge,
      iterationTokens: this.#steps.splice(0),
      state: this.state,
    };
  }

  async dispose(): Promise<void> {}
}

function turn(ms = 0): Promise<void> {
  return new Promise((resolve) => (ms > 0 ? setTimeout(resolve, ms) : setImmediate(resolve)));
}
