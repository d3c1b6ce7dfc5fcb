/** The ablation's figure: well-formed, described, nothing outside of it, every span drawn, text inside its bar. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ablationFigure, type AblationFigure } from '../../bench/figures/ablation.ts';
import { el, escapeText, PALETTE, textWidth, ticks } from '../../bench/figures/svg.ts';

const span = fc
  .record({
    lane: fc.constantFrom('compute', 'memory', 'network'),
    name: fc.oneof(fc.constantFrom('kqv.1', 'decode_attention.2', 'down_reduce.1'), fc.string()),
    start: fc.double({ min: 0, max: 5000, noNaN: true }),
    length: fc.double({ min: 0, max: 900, noNaN: true }),
  })
  .map(({ length, ...rest }) => ({
    ...rest,
    cls: ({ compute: 'C', memory: 'M', network: 'N' } as const)[rest.lane as 'compute'],
    end: rest.start + length,
  }));

const figures: fc.Arbitrary<AblationFigure> = fc.record({
  title: fc.string({ minLength: 1 }),
  subtitle: fc.array(fc.constant('model; <2048> tokens & more'), { minLength: 1, maxLength: 3 }),
  bars: fc.array(
    fc.record({
      name: fc.constantFrom('non-overlap', 'nano-batch-only', 'overlap', 'searched'),
      tokensPerSecond: fc.double({ min: 0.01, max: 1e6, noNaN: true }),
    }),
    { minLength: 1, maxLength: 5 },
  ),
  timelines: fc.array(
    fc.record({ title: fc.constant('overlap'), spans: fc.array(span, { maxLength: 20 }) }),
    {
      maxLength: 3,
    },
  ),
});

interface Element {
  name: string;
  attributes: Record<string, string>;
  text: string;
}

/** Reads the SVG as XML would: every tag closed in order, every attribute quoted, no bare ampersand. */
function parse(svg: string): Element[] {
  const elements: Element[] = [];
  const open: Element[] = [];
  const token = /<(\/?)([a-z]+)((?: [\w:-]+="[^"<&]*(?:&#\d+;[^"<&]*)*")*)(\/?)>|([^<]+)/gy;
  let at = 0;
  for (let match = token.exec(svg); match; match = token.exec(svg)) {
    at = token.lastIndex;
    const [, closing, name, list, empty, content] = match;
    if (content !== undefined) {
      expect(content.replace(/&#\d+;/g, '')).not.toContain('&');
      if (open.length > 0) open.at(-1)!.text += content;
    } else if (closing) expect(open.pop()?.name).toBe(name);
    else {
      const attributes = Object.fromEntries(
        [...list.matchAll(/ ([\w:-]+)="([^"]*)"/g)].map((m) => [m[1], m[2]]),
      );
      const element = { name, attributes, text: '' };
      elements.push(element);
      if (!empty) open.push(element);
    }
  }
  expect(at).toBe(svg.length);
  expect(open).toEqual([]);
  return elements;
}

describe('the figure', () => {
  it('is well-formed, says what it shows, and keeps within its edges', () => {
    fc.assert(
      fc.property(figures, (data) => {
        const elements = parse(ablationFigure(data));
        const [svg] = elements;
        const width = Number(svg.attributes['width']);
        const height = Number(svg.attributes['height']);
        expect(svg.attributes).toMatchObject({ role: 'img', 'aria-labelledby': 'title description' });
        expect(elements.find(({ name }) => name === 'desc')!.text.length).toBeGreaterThan(20);
        for (const { name, attributes } of elements) {
          if (name !== 'rect' || attributes['x'] === undefined) continue;
          const [x, y, w, h] = ['x', 'y', 'width', 'height'].map((key) => Number(attributes[key]));
          expect([x, y, w, h].every(Number.isFinite)).toBe(true);
          expect(x).toBeGreaterThanOrEqual(0);
          expect(x + w).toBeLessThanOrEqual(width + 0.5);
          expect(y + h).toBeLessThanOrEqual(height);
        }
        for (const { name, attributes, text } of elements) {
          if (name !== 'text') continue;
          expect(Number(attributes['font-size'])).toBeGreaterThanOrEqual(11);
          if (text.includes('tokens/s')) {
            const end = Number(attributes['x']) + textWidth(text, Number(attributes['font-size']), 600);
            expect(end).toBeLessThanOrEqual(width);
          }
        }
        const spans = data.timelines.flatMap((timeline) => timeline.spans);
        const hints = elements.filter(({ name, text }) => name === 'title' && text.endsWith(' us'));
        expect(hints).toHaveLength(spans.length);
      }),
      { numRuns: 60 },
    );
  });

  it('has text on its bars that is read easily (contrast of 4.5 or more)', () => {
    const luminance = (hex: string) => {
      const [r, g, b] = [1, 3, 5].map((i) => {
        const part = Number.parseInt(hex.slice(i, i + 2), 16) / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    for (const cls of ['C', 'M', 'N', 'host'] as const) {
      const [light, dark] = [PALETTE[cls].colour, PALETTE[cls].text].map(luminance).sort((a, b) => b - a);
      expect((light + 0.05) / (dark + 0.05), cls).toBeGreaterThanOrEqual(4.5);
    }
  });
});

it('axes have round steps that end within the range', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 1e-6, max: 1e9, noNaN: true }),
      fc.integer({ min: 4, max: 10 }),
      (most, count) => {
        const list = ticks(most, count);
        expect(list[0]).toBe(0);
        expect(list.at(-1)!).toBeLessThanOrEqual(most * (1 + 1e-9));
        expect(list.length).toBeLessThanOrEqual(count + 1);
        expect(list.length).toBeGreaterThan(count / 2.6);
        expect(list[1].toExponential()).toMatch(/^(1|2|5)e/);
      },
    ),
  );
});

it('text and attributes are escaped', () => {
  expect(escapeText(`<a & "b">'`)).toBe('&#60;a &#38; &#34;b&#34;&#62;&#39;');
  expect(el('g', { 'data-x': '"<' }, el('b', { y: 1.23456, z: undefined }))).toBe(
    '<g data-x="&#34;&#60;"><b y="1.23"/></g>',
  );
});
