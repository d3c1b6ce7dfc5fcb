/**
 * Admission by predicted peak page use (NanoFlow, section 4.2): every running request is expected to grow by a page
 * each `pageSize` tokens until it ends, at the mean output length of the requests before it. A request is admitted when
 * the largest sum over the time ahead fits into the pool. Where the published scheduler takes the mean prompt, this one
 * takes the request's own, which is known, and nobody is expected to go past its own max_tokens.
 *
 * Time is in blocks of `pageSize` steps: block k looks at the moment in k * pageSize steps. A request of s tokens with
 * r steps to go holds ceil((s + 1) / pageSize) + k pages there while k * pageSize < r. Requests are binned by their
 * last block, so that a prediction takes O(running + blocks), and one more request O(blocks).
 */
import type { Request } from './request.ts';

/** Output length that is expected before anything has ended (conversation traces have means of 207 to 324). */
export const EXPECTED_OUTPUT = 256;
/** The number of requests that it stands for. */
const PRIOR_REQUESTS = 8;
/** The means follow the last so many requests. */
const WINDOW = 256;

/** Running mean of the output length of requests that have ended. */
export class OutputLength {
  #count = PRIOR_REQUESTS;
  mean: number;

  constructor(expected: number = EXPECTED_OUTPUT) {
    this.mean = expected;
  }

  learn(output: number): void {
    this.#count = Math.min(WINDOW, this.#count + 1);
    this.mean += (output - this.mean) / this.#count;
  }
}

/** Pages in use over the time ahead, as predicted. Filled anew for each step that could admit somebody. */
export class Forecast {
  readonly #pageSize: number;
  #ends = new Int32Array(64); // by block: requests whose last block it is
  #pages = new Float64Array(64); // their pages in block 0
  #blocks = 0;

  constructor(pageSize: number) {
    this.#pageSize = pageSize;
  }

  /** Starts over with these requests. */
  reset(running: readonly Request[], meanOutput: number): void {
    this.#ends.fill(0, 0, this.#blocks);
    this.#pages.fill(0, 0, this.#blocks);
    this.#blocks = 0;
    for (const request of running) this.add(request, meanOutput);
  }

  add(request: Request, meanOutput: number, sign = 1): void {
    const block = this.#lastBlock(request, meanOutput);
    this.#ends[block] += sign;
    this.#pages[block] += sign * Math.ceil((request.tokens.length + 1) / this.#pageSize);
  }

  /** The most pages at any time, with `request` beside the others. */
  peakWith(request: Request, meanOutput: number): number {
    this.add(request, meanOutput);
    let alive = 0;
    let pages = 0;
    let peak = 0;
    for (let block = this.#blocks - 1; block >= 0; block--) {
      alive += this.#ends[block];
      pages += this.#pages[block];
      peak = Math.max(peak, pages + alive * block);
    }
    this.add(request, meanOutput, -1);
    return peak;
  }

  /** Block in which the request is last expected to hold pages. Whoever is past the mean may end at any step. */
  #lastBlock(request: Request, meanOutput: number): number {
    const left = Math.min(Math.ceil(meanOutput), request.maxTokens) - request.outputLength;
    const block = Math.floor(Math.max(0, left - 1) / this.#pageSize);
    if (block >= this.#ends.length) {
      const ends = new Int32Array(2 * (block + 1));
      const pages = new Float64Array(2 * (block + 1));
      ends.set(this.#ends);
      pages.set(this.#pages);
      [this.#ends, this.#pages] = [ends, pages];
    }
    this.#blocks = Math.max(this.#blocks, block + 1);
    return block;
  }
}
