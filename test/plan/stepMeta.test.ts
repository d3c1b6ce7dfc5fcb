import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planAttention } from '../../src/engine/plan/attention.ts';
import { usedRanges } from '../../src/engine/plan/batchMeta.ts';
import {
  ATTENTION_COUNT,
  attentionSection,
  rangeOf,
  rangeWord,
  stepMetaLayout,
  writeCounts,
  writeRange,
} from '../../src/engine/plan/stepMeta.ts';
import { cases, layoutFor } from './attentionCases.ts';

const SMALL = {
  tokens: 8,
  requests: 4,
  pages: 1,
  items16: 1,
  items128: 1,
  mergeRows: 1,
  attentionWorkgroups: 1,
  adjustments: 1,
};

describe('ranges', () => {
  const layout = stepMetaLayout({ ...SMALL, ranges: 3 });

  it('slot 0 is everything, the others what was written, and twins see them within a capacity', () => {
    const words = new Uint32Array(layout.words);
    writeCounts(layout, words, 7, 3);
    writeRange(layout, words, 2, [2, 6], [1, 1]);
    expect(rangeOf(layout, words, {})).toEqual([0, 7]);
    expect(rangeOf(layout, words, { rows: 'logitRows' })).toEqual([0, 3]);
    expect(rangeOf(layout, words, { range: 2 })).toEqual([2, 6]);
    expect(rangeOf(layout, words, { range: 2, rows: 'logitRows' })).toEqual([1, 1]);
    expect(rangeOf(layout, words, { range: 2 }, 4)).toEqual([2, 4]);
    expect(rangeOf(layout, words, { range: 2 }, 1)).toEqual([1, 1]);
    expect(words[rangeWord(layout, 2) + 1]).toBe(6);
  });

  it('refuses slots and rows that do not exist', () => {
    const words = new Uint32Array(layout.words);
    expect(() => writeRange(layout, words, 3, [0, 1], [0, 0])).toThrow('the metadata has 3 slots');
    expect(() => writeRange(layout, words, 1, [0, 9], [0, 0])).toThrow('expected them within [0, 8)');
    expect(() => writeRange(layout, words, 1, [3, 2], [0, 0])).toThrow('got tokens [3, 2)');
    expect(() => writeRange(layout, words, 1, [0, 1], [2, 5])).toThrow('logit rows [2, 5)');
    expect(() => rangeWord(layout, 3)).toThrow('raise capacity.ranges');
    expect(() => attentionSection(layout, 1)).toThrow('the metadata has 1 plans');
    expect(words.every((word) => word === 0)).toBe(true);
  });
});

describe('usedRanges', () => {
  it('uploads every word that the slots in use hold, whatever stood there before', () => {
    fc.assert(
      fc.property(cases, fc.nat(1000), (one, cut) => {
        const slots = 3;
        const { capacity } = layoutFor(one);
        const layout = stepMetaLayout({ ...capacity, pages: 8192, ranges: 5, attentionSlots: slots });
        const words = new Uint32Array(layout.words).fill(0xdeadbeef);
        const border = cut % (one.tokens + 1);
        writeCounts(layout, words, one.tokens, 0);
        writeRange(layout, words, 3, [border, one.tokens], [0, 0]);
        const input = {
          ...one.input,
          requests: one.input.requests.map((request) => ({ ...request, pageStart: 0 })),
        };
        planAttention({ ...input, rows: [0, border] }, layout.attention[0], words);
        planAttention({ ...input, rows: [border, one.tokens] }, layout.attention[1], words);
        // Without merged rows nobody reads where their partial rows begin.
        for (const { counts, mergeIndptr } of layout.attention.slice(0, 2)) {
          if (words[counts + ATTENTION_COUNT.mergeRows] === 0) words[mergeIndptr] = 0xdeadbeef;
        }
        const sent = new Uint8Array(layout.words);
        for (const [start, end] of usedRanges(layout, words, 5, { ranges: 4, attention: 2 })) {
          sent.fill(1, start, end);
        }
        const missing = words.findIndex((word, i) => word !== 0xdeadbeef && sent[i] === 0);
        expect(missing).toBe(-1);
      }),
      { numRuns: 40 },
    );
  });
});
