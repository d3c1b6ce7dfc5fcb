/**
 * A runner without a device: the next token is a hash of the tokens so far, so any mix-up of requests shows.
 *
 * It keeps a device's order and knows what a device knows: launch() writes the real step metadata, and the step runs
 * from that alone, after all steps before it, when its tokens are collected (or those of a later one). Keys and values
 * are the token ids, in pages, so a page that is written by two requests gives another text; ids that the host did not
 * know come from the rows that the step before sampled.
 */
import type { BatchRunner, LaunchedStep, SampledToken } from '../../src/engine/model/runner.ts';
import { writeBatch, type PlannedRequest } from '../../src/engine/plan/batchMeta.ts';
import {
  ADJUST,
  ADJUST_WORDS,
  FROM_SAMPLED,
  SAMPLE,
  SAMPLE_WORDS,
  stepMetaLayout,
  type StepMetaLayout,
} from '../../src/engine/plan/stepMeta.ts';
import { GREEDY } from '../../src/engine/schedule/greedy.ts';
import type { TextOutput } from '../../src/engine/schedule/output.ts';
import { writeSampling } from '../../src/engine/schedule/sampling.ts';
import type { DenseBatch } from '../../src/engine/schedule/scheduler.ts';
import type { GenerateRequest } from '../../src/protocol.ts';

export const VOCAB = 97;

/** What the fake model answers to these tokens. */
export function nextToken(tokens: readonly number[]): number {
  return hashOf(tokens) % VOCAB;
}

function hashOf(values: readonly number[], hash = 2166136261): number {
  for (const value of values) hash = Math.imul(hash ^ value, 16777619) >>> 0;
  return hash;
}

/** A step that is enqueued: a copy of its metadata. */
interface Enqueued {
  words: Uint32Array;
  requests: PlannedRequest[];
  samples: number;
}

export class FakeRunner implements BatchRunner {
  readonly config = { vocabSize: VOCAB };
  readonly sizes: BatchRunner['sizes'];
  readonly maxAdjustments = 4096;
  /** Thrown by the next launch. */
  failNext?: Error;
  /** Thrown by collect() of the step that is launched next. */
  failCollect?: Error;
  /** Steps that were launched and not collected, and the most there were at any time. */
  inFlight = 0;
  mostInFlight = 0;
  readonly #layout: StepMetaLayout;
  readonly #words: Uint32Array;
  /** Token id and position by KV slot. */
  readonly #kv = new Map<number, [token: number, position: number]>();
  readonly #queue: Enqueued[] = [];
  /** What the device sampled last. */
  #sampled: number[] = [];
  #done = 0;
  readonly #results = new Map<number, SampledToken[]>();
  #launched = 0;

  constructor(sizes: Partial<BatchRunner['sizes']> = {}) {
    this.sizes = { pages: 64, pageSize: 4, maxBatchTokens: 16, maxRequests: 8, maxModelLen: 64, ...sizes };
    this.#layout = stepMetaLayout({
      tokens: this.sizes.maxBatchTokens,
      requests: this.sizes.maxRequests,
      pages: this.sizes.pages,
      items16: 1,
      items128: 1,
      mergeRows: 1,
      attentionWorkgroups: 1,
      adjustments: this.maxAdjustments,
    });
    this.#words = new Uint32Array(this.#layout.words);
  }

  async launch(batch: DenseBatch, endTokens: readonly number[] = []): Promise<LaunchedStep> {
    const error = this.failNext;
    this.failNext = undefined;
    if (error) throw error;
    const late = this.failCollect;
    this.failCollect = undefined;
    const layout = this.#layout;
    const words = this.#words;
    const requests = writeBatch(batch, this.sizes.pageSize, layout, words, (_, position) => position);
    const rows = batch.segments.filter(({ sample }) => sample).map(({ request }) => request);
    writeSampling(rows, endTokens, layout, { u32: words, f32: new Float32Array(words.buffer) });
    const step = this.#launched++;
    this.#queue.push({ words: words.slice(), requests, samples: rows.length });
    this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight);
    return {
      collect: async () => {
        await Promise.resolve();
        this.inFlight--;
        while (this.#done <= step) this.#results.set(this.#done++, this.#run(this.#queue.shift()!));
        const sampled = this.#results.get(step)!;
        this.#results.delete(step);
        if (late) throw late;
        return sampled;
      },
    };
  }

  /** One step, from its metadata alone. */
  #run({ words, requests, samples }: Enqueued): SampledToken[] {
    const layout = this.#layout;
    const { pageSize } = this.sizes;
    for (const { qStart, qLen } of requests) {
      for (let row = qStart; row < qStart + qLen; row++) {
        const id = words[layout.tokenIds + row];
        const token = id >= FROM_SAMPLED ? this.#sampled[id - FROM_SAMPLED] : id;
        if (!(token < VOCAB)) throw new Error(`row ${row} has no token: ${id}`);
        this.#kv.set(words[layout.kvSlots + row], [token, words[layout.positions + row]]);
      }
    }
    const sampled: SampledToken[] = [];
    let next = 0;
    for (const { qStart, qLen, kvLen, pageStart } of requests) {
      if (next === samples || words[layout.logitRows + next] !== qStart + qLen - 1) continue;
      const tokens = Array.from({ length: kvLen }, (_, at) => {
        const slot = words[layout.pages + pageStart + Math.floor(at / pageSize)] * pageSize + (at % pageSize);
        const [token, position] = this.#kv.get(slot)!;
        if (position !== at) throw new Error(`KV slot ${slot} holds position ${position}, expected ${at}`);
        return token;
      });
      sampled.push({ token: this.#sample(tokens, words, next++), logprob: -1, rank: 0, top: [] });
    }
    this.#sampled = sampled.map(({ token }) => token);
    return sampled;
  }

  /** Greedy without adjustments: nextToken(). Anything else changes the hash by all that the row says. */
  #sample(tokens: readonly number[], words: Uint32Array, row: number): number {
    const at = this.#layout.sampling + row * SAMPLE_WORDS;
    let hash = hashOf(tokens);
    if (words[at + SAMPLE.temperature] !== 0) {
      hash = hashOf(words.subarray(at, at + SAMPLE.adjustStart) as unknown as number[], hash);
    }
    const forbidden = new Set<number>();
    for (let entry = words[at + SAMPLE.adjustStart]; entry < words[at + SAMPLE.adjustEnd]; entry++) {
      const change = words.subarray(this.#layout.adjust + entry * ADJUST_WORDS).subarray(0, ADJUST_WORDS);
      if (change[ADJUST.bias] === MINUS_INFINITY) forbidden.add(change[ADJUST.token]);
      // By sums: the order of the entries means nothing.
      else hash = (hash + hashOf([...change])) >>> 0;
    }
    let token = hash % VOCAB;
    while (forbidden.has(token)) token = (token + 1) % VOCAB;
    return token;
  }
}

const MINUS_INFINITY = 0xff800000; // its bits as f32

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
    sampling: { ...GREEDY, logitBias: [] },
    stop: { maxTokens: 8, minTokens: 0, ignoreEos: false, stopStrings: [], stopTokenIds: [], ...changes },
  };
}

/** The tokens the fake model gives a request that runs alone and is not ended early. */
export function expected(prompt: readonly number[], count: number): number[] {
  const tokens = [...prompt];
  for (let i = 0; i < count; i++) tokens.push(nextToken(tokens));
  return tokens.slice(prompt.length);
}
