/**
 * The generator against published vectors, and the distribution of the twin's draws against the softmax. (That the
 * devices draw what the twin draws is test/device/sample.test.ts.)
 */
import { describe, expect, it } from 'vitest';
import { gumbelFromWord, gumbelQuad, philox4x32 } from '../../src/engine/kernels/philox.ts';
import { allowedTokens, drawToken, type SampleRow } from '../../src/engine/kernels/sample_twin.ts';

const PLAIN: SampleRow = { temperature: 1, topK: 0, topP: 1, minP: 0, seedLow: 7, seedHigh: 11, counter: 0 };

describe('philox4x32-10', () => {
  // Random123, tests/kat_vectors: counter, key, result.
  it.each([
    ['00000000 00000000 00000000 00000000', '00000000 00000000', '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
    ['ffffffff ffffffff ffffffff ffffffff', 'ffffffff ffffffff', '408f276d 41c83b0e a20bc7c6 6d5451fd'],
    ['243f6a88 85a308d3 13198a2e 03707344', 'a4093822 299f31d0', 'd16cfe09 94fdcceb 5001e420 24126ea1'],
  ])('counter %s, key %s', (counter, key, result) => {
    const numbers = (text: string): number[] => text.split(' ').map((word) => Number.parseInt(word, 16));
    const [keyLow, keyHigh] = numbers(key);
    const out = new Uint32Array(4);
    philox4x32(numbers(counter) as [number, number, number, number], keyLow, keyHigh, out);
    expect([...out]).toEqual(numbers(result));
  });
});

describe('Gumbel noise', () => {
  it('covers -3.2..22.9 and falls as the word grows', () => {
    expect(gumbelFromWord(0)).toBeGreaterThan(22.8);
    expect(gumbelFromWord(0)).toBeLessThan(23); // SAMPLE_NOISE_MOST
    expect(gumbelFromWord(0xffffffff)).toBeGreaterThan(-3.2);
    let before = Infinity;
    for (let word = 0; word <= 0xffffffff; word += 9999991) {
      const noise = gumbelFromWord(word);
      expect(noise).toBeLessThan(before);
      before = noise;
    }
  });

  it('has the mean and variance of the distribution', () => {
    const noise = new Float32Array(4);
    let sum = 0;
    let squares = 0;
    const quads = 20000;
    for (let quad = 0; quad < quads; quad++) {
      gumbelQuad(3, 5, 0, quad, noise);
      for (const value of noise) {
        sum += value;
        squares += value * value;
      }
    }
    const mean = sum / (4 * quads);
    const deviation = Math.PI / Math.sqrt(6 * 4 * quads); // of the mean
    expect(Math.abs(mean - 0.5772157)).toBeLessThan(5 * deviation);
    expect(squares / (4 * quads) - mean * mean).toBeCloseTo(Math.PI ** 2 / 6, 1);
  });
});

/** Chi-square statistic of draws against probabilities; tokens that are rarer than 5 draws are one class. */
function chiSquare(
  counts: number[],
  probabilities: number[],
  draws: number,
): { value: number; freedom: number } {
  let value = 0;
  let classes = 0;
  let restCount = 0;
  let restExpected = 0;
  probabilities.forEach((probability, token) => {
    const expected = probability * draws;
    if (expected < 5) {
      restCount += counts[token];
      restExpected += expected;
      return;
    }
    value += (counts[token] - expected) ** 2 / expected;
    classes++;
  });
  if (restExpected > 0) {
    value += (restCount - restExpected) ** 2 / Math.max(restExpected, 1);
    classes++;
  }
  return { value, freedom: classes - 1 };
}

/** Value that chi-square passes once in some 30 000 tests (Wilson-Hilferty). */
function chiSquareLimit(freedom: number): number {
  const spread = 2 / (9 * freedom);
  return freedom * (1 - spread + 4 * Math.sqrt(spread)) ** 3;
}

describe('draws follow the softmax', () => {
  const logits = Float32Array.from({ length: 37 }, (_, token) => 3 * Math.sin(token * 1.7) - 0.05 * token);
  const DRAWS = 20000;

  it.each([
    ['temperature 1', {}],
    ['temperature 0.6', { temperature: 0.6 }],
    ['temperature 2.5', { temperature: 2.5 }],
    ['top-k 5', { topK: 5 }],
    ['top-p 0.8', { topP: 0.8 }],
    ['min-p 0.1', { minP: 0.1 }],
    ['top-k 12, top-p 0.7, min-p 0.05', { topK: 12, topP: 0.7, minP: 0.05, temperature: 1.3 }],
  ])('%s', (_, changes) => {
    const row = { ...PLAIN, ...changes };
    const allowed = new Set(allowedTokens(logits, row));
    const masses = Array.from(logits, (logit, token) =>
      allowed.has(token) ? Math.exp(logit / row.temperature) : 0,
    );
    const total = masses.reduce((a, b) => a + b);
    const counts = masses.map(() => 0);
    for (let counter = 0; counter < DRAWS; counter++) counts[drawToken(logits, { ...row, counter })]++;
    counts.forEach((count, token) => expect(count === 0 || allowed.has(token), `token ${token}`).toBe(true));
    const { value, freedom } = chiSquare(
      counts,
      masses.map((mass) => mass / total),
      DRAWS,
    );
    expect(freedom).toBeGreaterThan(1);
    expect(value).toBeLessThan(chiSquareLimit(freedom));
  });

  it('draws with other seeds, and of neighbouring tokens, are independent', () => {
    const even = new Float32Array(2);
    const rows = [PLAIN, { ...PLAIN, seedLow: 8 }, { ...PLAIN, seedHigh: 12 }];
    const counts = Array.from({ length: 8 }, () => 0);
    for (let counter = 0; counter < 8000; counter++) {
      const [a, b, c] = rows.map((row) => drawToken(even, { ...row, counter }));
      counts[4 * a + 2 * b + c]++;
    }
    const { value, freedom } = chiSquare(
      counts,
      Array.from({ length: 8 }, () => 1 / 8),
      8000,
    );
    expect(value).toBeLessThan(chiSquareLimit(freedom));
  });
});

describe('what thresholds leave', () => {
  const logits = Float32Array.from([1, 3, 2, 3, 0, -1]);
  const left = (changes: Partial<SampleRow>): number[] => [
    ...allowedTokens(logits, { ...PLAIN, ...changes }),
  ];

  it('top-k: ties by the lower id', () => {
    expect(left({ topK: 1 })).toEqual([1]);
    expect(left({ topK: 3 })).toEqual([1, 3, 2]);
  });

  it('top-p: the smallest set that reaches p, counted after top-k', () => {
    // Shares, the most likely first: 0.389, 0.389, 0.143, 0.053, 0.019, 0.007.
    expect(left({ topP: 0 })).toEqual([1]);
    expect(left({ topP: 0.38 })).toEqual([1]);
    expect(left({ topP: 0.5 })).toEqual([1, 3]);
    expect(left({ topP: 0.8 })).toEqual([1, 3, 2]);
    expect(left({ topK: 2, topP: 0.8 })).toEqual([1, 3]);
    expect(left({ topK: 2, topP: 0.49 })).toEqual([1]);
  });

  it('min-p: relative to the most likely', () => {
    expect(left({ minP: 1 })).toEqual([1, 3]);
    expect(left({ minP: 0.3 })).toEqual([1, 3, 2]);
    expect(left({ minP: 0.3, temperature: 0.5 })).toEqual([1, 3]);
  });
});
