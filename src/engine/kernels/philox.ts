/**
 * Host copy of the counter-based generator of shaders/sample_random.wgsl: philox4x32-10 and the Gumbel noise made
 * from it. A counter-based generator has no state: the noise of a token depends only on (seed, index of the generated
 * token in its request, token id), never on the batch, the row or the order of work.
 *
 * Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** High 32 bits of a * b for u32 a, b. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16); // < 2^32: exact
  const carry = (middle & 0xffff) + aLow * bHigh; // < 2^33: exact in a double
  return (aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(carry / 65536)) >>> 0;
}

/**
 * Writes the four u32 words of philox4x32-10 to `out`.
 *
 * @param counter four u32 words
 * @param keyLow, keyHigh the key's two u32 words
 */
export function philox4x32(
  counter: readonly [number, number, number, number],
  keyLow: number,
  keyHigh: number,
  out: Uint32Array,
): void {
  let [c0, c1, c2, c3] = counter;
  let k0 = keyLow >>> 0;
  let k1 = keyHigh >>> 0;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * Standard Gumbel noise from one random word: -ln(-ln(1 - v)) with v = (word + 1/2) / 2^32. Written by way of small v,
 * where f32 keeps its relative precision, so that the noise reaches 22.9 and unlikely tokens keep their probability.
 */
export function gumbelFromWord(word: number): number {
  return -Math.log(-Math.log1p(-(word + 0.5) / 2 ** 32));
}

/** Gumbel noise of tokens 4 * quad .. 4 * quad + 3 for the generated token number `counter` of a request. */
export function gumbelQuad(
  seedLow: number,
  seedHigh: number,
  counter: number,
  quad: number,
  out: Float32Array,
): void {
  philox4x32([quad, counter, 0, 0], seedLow, seedHigh, words);
  for (let i = 0; i < 4; i++) out[i] = gumbelFromWord(words[i]);
}

const words = new Uint32Array(4);
