/**
 * A BatchRunner on virtual time: the engine and its scheduler run on it unchanged. A launch prices the batch and puts
 * it on the simulated device; collect() moves the host's clock to the end of the step. Sampled tokens are a
 * hash of seed, request id and position, and never end-of-sequence: lengths are those asked for (max_tokens).
 */
import type { BatchRunner, LaunchedStep, SampledToken } from '../../model/runner.ts';
import type { DenseBatch } from '../../schedule/scheduler.ts';
import { SimClock } from './clock.ts';
import { mixOf } from './mix.ts';
import type { Pricer } from './priceCache.ts';
import { mix32 } from './random.ts';
import type { StepPrice } from './step.ts';

export interface SimRunnerOptions {
  model: Pricer;
  vocabSize: number;
  sizes: BatchRunner['sizes'];
  /** Host time for each step. */
  hostSeconds: number;
  seed?: number;
  /** Told about every step, when it is launched: seconds of virtual time. */
  onStep?: (step: SimStep) => void;
}

export interface SimStep {
  batch: DenseBatch;
  price: StepPrice;
  start: number;
  end: number;
}

export class SimRunner implements BatchRunner {
  readonly config: BatchRunner['config'];
  readonly sizes: BatchRunner['sizes'];
  readonly maxAdjustments = Number.MAX_SAFE_INTEGER;
  readonly clock = new SimClock();
  readonly #options: SimRunnerOptions;
  readonly #seed: number;

  constructor(options: SimRunnerOptions) {
    this.#options = options;
    this.config = { vocabSize: options.vocabSize };
    this.sizes = options.sizes;
    this.#seed = mix32(options.seed ?? 1);
  }

  /** Milliseconds of virtual time: hand it to the engine as `now`. */
  readonly now = (): number => this.clock.host * 1000;

  async launch(batch: DenseBatch, endTokens: readonly number[]): Promise<LaunchedStep> {
    const price = this.#options.model.price(mixOf(batch));
    const end = this.clock.launch(this.#options.hostSeconds, price.seconds);
    this.#options.onStep?.({ batch, price, start: end - price.seconds, end });
    const sampled = batch.segments
      .filter((segment) => segment.sample)
      .map(({ request, start, count }) => this.#sample(request.id, start + count, endTokens));
    return {
      collect: async () => {
        this.clock.waitUntil(end);
        return sampled;
      },
    };
  }

  #sample(id: string, position: number, endTokens: readonly number[]): SampledToken {
    const { vocabSize } = this.config;
    let hash = this.#seed;
    for (let i = 0; i < id.length; i++) hash = mix32(hash ^ id.charCodeAt(i));
    let token = mix32(hash ^ position) % vocabSize;
    while (endTokens.includes(token)) token = (token + 1) % vocabSize;
    return { token, logprob: -Math.log(vocabSize), rank: 0, top: [] };
  }
}
