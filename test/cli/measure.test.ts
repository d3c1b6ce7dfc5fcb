/** Figures of the benches, on an engine whose speed is known. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { measure, median, percentile, runOnce } from '../../src/cli/measure.ts';
import { FakeClient } from '../server/fakeClient.ts';

describe('percentile', () => {
  it('is a value of the list with that share at or below it', () => {
    const values = fc.array(fc.double({ noNaN: true }), { minLength: 1 });
    fc.assert(
      fc.property(values, fc.double({ min: 0.01, max: 1, noNaN: true }), (list, share) => {
        const result = percentile(list, share);
        expect(list).toContain(result);
        expect(list.filter((value) => value <= result).length).toBeGreaterThanOrEqual(share * list.length);
        expect(list.filter((value) => value < result).length).toBeLessThan(share * list.length);
      }),
    );
  });
  it('of one list by hand', () => {
    expect(median([5, 1, 3])).toBe(3);
    expect(percentile([4, 3, 2, 1], 0.99)).toBe(4);
    expect(percentile([], 0.5)).toBeNaN();
  });
});

describe('measure', () => {
  it('counts all tokens of all streams, and the pauses between them', async () => {
    const client = new FakeClient({ tokenMs: 1 });
    const times = await runOnce(client, { streams: 3, promptTokens: 7, outputTokens: 10 });
    expect(times.tokens).toBe(30);
    expect(times.firstToken).toHaveLength(3);
    expect(times.gaps).toHaveLength(27);
    expect(client.requests.every((request) => request.promptTokenIds.length === 7)).toBe(true);
    expect(
      client.requests.every((request) => request.stop.ignoreEos && request.sampling.temperature === 0),
    ).toBe(true);
    // Streams differ, runs do not.
    const prompts = client.requests.map((request) => request.promptTokenIds.join());
    expect(new Set(prompts).size).toBe(3);
    await runOnce(client, { streams: 3, promptTokens: 7, outputTokens: 10 });
    expect(client.requests.slice(3).map((request) => request.promptTokenIds.join())).toEqual(prompts);
  });

  it('gives rates that fit the speed of the engine', async () => {
    const { figures, requests } = await measure(
      new FakeClient({ tokenMs: 5 }),
      { streams: 4, promptTokens: 3, outputTokens: 20 },
      2,
    );
    // A timer of 5 ms fires after 4 whole milliseconds at the earliest (Node rounds); the machine may be busy, so only the
    // fast side is tight.
    expect(figures.streamRate).toBeLessThan(250);
    expect(figures.totalRate).toBeLessThan(4 * 250);
    expect(figures.totalRate).toBeGreaterThan(figures.streamRate);
    expect(figures.firstTokenP50).toBeGreaterThanOrEqual(4);
    expect(figures.gapP50).toBeLessThanOrEqual(figures.gapP99);
    expect(figures.runs).toBe(2);
    expect(requests).toHaveLength(4);
    for (const { submitted, firstToken, ended, tokens } of requests) {
      expect(tokens).toBe(20);
      expect(firstToken).toBeGreaterThan(submitted);
      expect(ended - firstToken).toBeGreaterThanOrEqual(19 * 4);
    }
  });

  it('fails rather than measure answers that ended early', async () => {
    const load = { streams: 1, promptTokens: 500, outputTokens: 20 };
    const client = new FakeClient({ refuse: () => ({ code: 'queue_full', message: 'Full.' }) });
    await expect(runOnce(client, load)).rejects.toThrow('Full.');
  });
});
