/** A request inside the engine: what was asked, where its tokens are, what it has produced. */
import type { GenerateRequest } from '../../protocol.ts';

/**
 * waiting: no KV pages. running: has pages, part of its tokens may be computed. finishing: its last step is launched;
 * has no pages, the scheduler has let it go. ended: said so to the front end.
 * A running request goes back to waiting when it is preempted (its tokens are computed again later).
 */
export type RequestState = 'waiting' | 'running' | 'finishing' | 'ended';

/** Stands in `Request.tokens` for a token that a step in flight samples. */
export const UNKNOWN_TOKEN = -1;

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
  /** Prompt, then output; UNKNOWN_TOKEN for what steps in flight will have sampled. */
  readonly tokens: number[];
  /** Leading tokens that are known: the prompt and the output that was collected. */
  known: number;
  /** Tokens whose keys and values are in the pages once the launched steps have run. */
  computed = 0;
  readonly pages: number[] = [];
  /** Row of the last launched step that samples the newest token; means something while that is unknown. */
  sampledRow = 0;
  readonly clock: RequestClock;
  /** Distinct tokens with their counts, kept only when a penalty asks for them. */
  readonly seen?: Map<number, { inPrompt: boolean; outputCount: number }>;

  constructor(ask: GenerateRequest, seed: [number, number], maxTokens: number, now: number) {
    this.id = ask.id;
    this.ask = ask;
    this.seed = seed;
    this.maxTokens = maxTokens;
    this.tokens = [...ask.promptTokenIds];
    this.known = this.tokens.length;
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

  /** Tokens of output, those that steps in flight will have sampled included. */
  get outputLength(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Tokens of output that are known. */
  get knownOutput(): number {
    return this.known - this.promptLength;
  }

  /**
   * Whether the next step may hold this request. Its newest token may still be on the device when that token is all
   * that has to be computed (the device then takes it from the step before), but not when penalties need to know it.
   */
  get ready(): boolean {
    if (this.known === this.tokens.length) return true;
    return this.seen === undefined && this.known === this.tokens.length - 1 && this.pending === 1;
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

  /** A launched step samples the next token into its row `row`. */
  expect(row: number): void {
    this.tokens.push(UNKNOWN_TOKEN);
    this.sampledRow = row;
  }

  /** The oldest unknown token was collected. */
  reveal(token: number): void {
    this.tokens[this.known++] = token;
    this.#see(token);
  }

  /** Takes a token in that was sampled and is known at once. */
  append(token: number): void {
    this.tokens.push(token);
    this.known++;
    this.#see(token);
  }

  #see(token: number): void {
    if (!this.seen) return;
    const entry = this.seen.get(token);
    if (entry) entry.outputCount++;
    else this.seen.set(token, { inPrompt: false, outputCount: 1 });
  }
}
