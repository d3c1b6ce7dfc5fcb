/**
 * Admission by predicted peak page use (NanoFlow, section 4.2): every running request is expected to grow by a page
 * each `pageSize` tokens until it ends, at the mean output length of the requests before it. A request is admitted when
 * the largest sum over the time ahead fits into the pool. Where the published scheduler takes the mean prompt, this one
 * takes the request's own, which is known, and nobody is expected to go past its own max_tokens.
 *
 * Time is in blocks of `pageSize` steps, each as bad as its end: a request of s tokens with r steps to go holds
 * ceil((s + min(r, (k + 1) * pageSize)) / pageSize) pages in block k, while k * pageSize < r. Requests are binned by
 * their last block, so that a prediction takes O(running + blocks), and one more request O(blocks).
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
  // By block, of the requests whose last block it is: how many, their pages at the end of block 0, and at their end.
  #ends = new Float64Array(64);
  #first = new Float64Array(64);
  #last = new Float64Array(64);
  #blocks = 0;

  constructor(pageSize: number) {
    this.#pageSize = pageSize;
  }

  /** Starts over with these requests. */
  reset(running: readonly Request[], meanOutput: number): void {
    for (const bins of [this.#ends, this.#first, this.#last]) bins.fill(0, 0, this.#blocks);
    this.#blocks = 0;
    for (const request of running) this.add(request, meanOutput);
  }

  add(request: Request, meanOutput: number): void {
    this.#bin(request, meanOutput, 1);
  }

  /** The most pages at any time, with `request` beside the others. */
  peakWith(request: Request, meanOutput: number): number {
    this.#bin(request, meanOutput, 1);
    let alive = 0;
    let pages = 0;
    let peak = 0;
    for (let block = this.#blocks - 1; block >= 0; block--) {
      peak = Math.max(peak, pages + alive * block + this.#last[block]);
      alive += this.#ends[block];
      pages += this.#first[block];
    }
    this.#bin(request, meanOutput, -1);
    return peak;
  }

  #bin(request: Request, meanOutput: number, sign: number): void {
    const size = this.#pageSize;
    const length = request.tokens.length;
    // Whoever is past the mean may end at any step.
    const left = Math.max(1, Math.min(Math.ceil(meanOutput), request.maxTokens) - request.outputLength);
    const block = Math.floor((left - 1) / size);
    this.#reach(block);
    this.#ends[block] += sign;
    this.#first[block] += sign * Math.ceil((length + size) / size);
    this.#last[block] += sign * Math.ceil((length + left) / size);
  }

  #reach(block: number): void {
    if (block >= this.#ends.length) {
      const grow = (bins: Float64Array): Float64Array<ArrayBuffer> => {
        const larger = new Float64Array(2 * (block + 1));
        larger.set(bins);
        return larger;
      };
      [this.#ends, this.#first, this.#last] = [this.#ends, this.#first, this.#last].map(grow);
    }
    this.#blocks = Math.max(this.#blocks, block + 1);
  }
}
