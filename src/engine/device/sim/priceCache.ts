/**
 * Prices of batches that are nearly alike: sums are rounded to a grid of about 2 % before they are priced, so that a
 * long trace prices some thousand steps instead of all. The price of a batch depends on its grid point only, never on
 * what was priced before.
 */
import type { BatchMix } from './mix.ts';
import type { StepModel, StepPrice } from './step.ts';

/** Rows that counts are rounded to, once there are enough of them. */
const ROWS = 16;
/** Means (KV tokens of a decode row, pairs of a prefill row) are rounded to this factor. */
const FACTOR = Math.log(1.02);

/** What prices a batch: a StepModel. */
export type Pricer = Pick<StepModel, 'price'>;

export class PriceCache {
  readonly #model: Pricer;
  readonly #prices = new Map<string, StepPrice>();

  constructor(model: Pricer) {
    this.#model = model;
  }

  get size(): number {
    return this.#prices.size;
  }

  price(mix: Readonly<BatchMix>): StepPrice {
    const decodeTokens = rounded(mix.decodeTokens);
    const prefill = rounded(mix.tokens - mix.decodeTokens);
    const context = step(mix.decodeKv, mix.decodeTokens);
    const reach = step(mix.prefillPairs, mix.tokens - mix.decodeTokens);
    const keys = step(mix.prefillKv, mix.tokens - mix.decodeTokens);
    const samples = rounded(mix.samples);
    const key = `${decodeTokens} ${prefill} ${context} ${reach} ${keys} ${samples}`;
    let price = this.#prices.get(key);
    if (!price) {
      price = this.#model.price({
        tokens: decodeTokens + prefill,
        decodeTokens,
        decodeKv: decodeTokens * mean(context),
        prefillKv: prefill * mean(keys),
        prefillPairs: prefill * mean(reach),
        samples,
      });
      this.#prices.set(key, price);
    }
    return price;
  }
}

function rounded(rows: number): number {
  return rows < 4 * ROWS ? rows : Math.round(rows / ROWS) * ROWS;
}

/** The grid point of a mean: the power of 1.02 next to it. */
function step(sum: number, rows: number): number {
  return rows > 0 && sum > 0 ? Math.round(Math.log(sum / rows) / FACTOR) : -Infinity;
}

function mean(point: number): number {
  return Math.exp(point * FACTOR);
}
