import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StopMatcher } from '../../src/engine/tokenizer/stopMatcher.ts';

/** What a client sees of `text` cut into `pieces`. */
function run(
  stops: readonly string[],
  pieces: readonly string[],
): { text: string; stop?: string; emitted: string[] } {
  const matcher = new StopMatcher(stops);
  const emitted: string[] = [];
  for (const piece of pieces) {
    const { text, stop } = matcher.push(piece);
    emitted.push(text);
    if (stop !== undefined) return { text: emitted.join(''), stop, emitted };
  }
  emitted.push(matcher.flush());
  return { text: emitted.join(''), emitted };
}

/** The definition: the shortest beginning of the text that ends with a stop string; the longest such string. */
function expected(stops: readonly string[], text: string): { text: string; stop?: string } {
  for (let end = 1; end <= text.length; end++) {
    const found = stops
      .filter((stop) => stop && text.slice(0, end).endsWith(stop))
      .toSorted((a, b) => b.length - a.length);
    if (found.length > 0) return { text: text.slice(0, end - found[0].length), stop: found[0] };
  }
  return { text };
}

const letters = fc.string({ unit: fc.constantFrom('a', 'b', '\n', '😀'), maxLength: 14 });
const stopLists = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '\n', '😀'), maxLength: 5 }), {
  maxLength: 4,
});
const cuts = fc.array(fc.nat(14), { maxLength: 6 });

function cut(text: string, places: readonly number[]): string[] {
  const borders = [
    0,
    ...places.map((place) => Math.min(place, text.length)).toSorted((a, b) => a - b),
    text.length,
  ];
  return borders.slice(1).map((end, i) => text.slice(borders[i], end));
}

describe('StopMatcher', () => {
  test('finds what the definition finds, however the text is cut', () => {
    fc.assert(
      fc.property(stopLists, letters, cuts, (stops, text, places) => {
        const { text: seen, stop } = run(stops, cut(text, places));
        expect({ text: seen, stop }).toEqual({ stop: undefined, ...expected(stops, text) });
      }),
      { numRuns: 2000 },
    );
  });

  test('holds back no more than what may begin a stop string', () => {
    fc.assert(
      fc.property(stopLists, letters, cuts, (stops, text, places) => {
        const matcher = new StopMatcher(stops);
        let given = '';
        let seen = '';
        for (const piece of cut(text, places)) {
          const { text: more, stop } = matcher.push(piece);
          if (stop !== undefined) return;
          given += piece;
          seen += more;
          const held = given.slice(seen.length);
          expect(held === '' || stops.some((s) => s.length > held.length && s.startsWith(held))).toBe(true);
        }
      }),
    );
  });

  test('examples', () => {
    expect(run(['\n\n'], ['one\n', 'two\n', '\nthree']).emitted).toEqual(['one', '\ntwo', '']);
    expect(run(['abcd', 'bc'], ['ab', 'cd'])).toMatchObject({ text: 'a', stop: 'bc' });
    expect(run(['aab'], ['a', 'a', 'a', 'b']).emitted).toEqual(['', '', 'a', '']);
    expect(run([''], ['text'])).toEqual({ text: 'text', emitted: ['text', ''] });
  });

  test('swallows text after the stop and flushes nothing of it', () => {
    const matcher = new StopMatcher(['x']);
    expect(matcher.push('axb')).toEqual({ text: 'a', stop: 'x' });
    expect(matcher.push('more')).toEqual({ text: '' });
    expect(matcher.flush()).toBe('');
  });

  test('a long stop string over a long text costs linear time', () => {
    const stop = `${'a'.repeat(50_000)}b`;
    const matcher = new StopMatcher([stop]);
    const started = performance.now();
    let seen = 0;
    for (let i = 0; i < 200; i++) seen += matcher.push('a'.repeat(1000)).text.length;
    expect(seen).toBe(150_000);
    expect(performance.now() - started).toBeLessThan(5000);
  });
});
