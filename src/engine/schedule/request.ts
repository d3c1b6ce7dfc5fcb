/** A request inside the engine: what was asked, where its tokens are, what it has produced. */
import type { FinishReason, GenerateRequest, RequestError } from '../../protocol.ts';

/**
 * waiting: no KV pages. running: has pages, part of its tokens may be computed. ended: said so to the front end.
 * A running request goes back to waiting when it is preempted (its tokens are computed again later).
 */
export type RequestState = 'waiting' | 'running' | 'ended';

/** Most end-of-sequence ids a model may have; real ones have up to 5. */
export const MAX_END_TOKENS = 32;

export interface RequestClock {
  submitted: number; // milliseconds of the engine's monotonic clock
  scheduled?: number;
  firstToken?: number;
  lastToken?: number;
}

export class Request {
  readonly id: string;
  readonly ask: GenerateRequest;
  readonly seed: [low: number, high: number];
  readonly maxTokens: number; // clipped to what the context allows
  state: RequestState = 'waiting';
  /** Prompt, then output. */
  readonly tokens: number[];
  /** Tokens whose keys and values are in the pages. */
  computed = 0;
  readonly pages: number[] = [];
  /** Set while a step that contains this request runs; abort and device errors then wait for the step's end. */
  inFlight = false;
  /** Wanted end that could not be carried out at once. */
  endWith?: FinishReason | RequestError;
  readonly clock: RequestClock;
  /** Distinct tokens with their counts, kept only when a penalty asks for them. */
  readonly seen?: Map<number, { inPrompt: boolean; outputCount: number }>;

  constructor(ask: GenerateRequest, seed: [number, number], maxTokens: number, now: number) {
    this.id = ask.id;
    this.ask = ask;
    this.seed = seed;
    this.maxTokens = maxTokens;
    this.tokens = [...ask.promptTokenIds];
    this.clock = { submitted: now };
    const { presencePenalty, frequencyPenalty, repetitionPenalty } = ask.sampling;
    if (presencePenalty !== 0 || frequencyPenalty !== 0 || repetitionPenalty !== 1) {
      this.seen = new Map();
      for (const token of this.tokens) this.seen.set(token, { inPrompt: true, outputCount: 0 });
    }
  }

  get promptLength(): number {
    return this.ask.promptTokenIds.length;
  }

  get outputLength(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Tokens that still have to go through the model before the next one can be sampled. */
  get pending(): number {
    return this.tokens.length - this.computed;
  }

  /** Most logit adjustments that sampling the next token can need (schedule/sampling.ts writes them). */
  get adjustments(): number {
    const { sampling, stop } = this.ask;
    const forbidden = this.outputLength < stop.minTokens ? stop.stopTokenIds.length + MAX_END_TOKENS : 0;
    return (this.seen?.size ?? 0) + sampling.logitBias.length + forbidden;
  }

  /** Takes a sampled token in. */
  append(token: number): void {
    this.tokens.push(token);
    if (!this.seen) return;
    const entry = this.seen.get(token);
    if (entry) entry.outputCount++;
    else this.seen.set(token, { inPrompt: false, outputCount: 1 });
  }
}
