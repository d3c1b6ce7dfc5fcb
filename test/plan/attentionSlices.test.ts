/** Plans of nano-batches: requests cut at boundaries, plans side by side, little room for partial results. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planAttention, sliceRequests } from '../../src/engine/plan/attention.ts';
import { visibleEnd, visibleStart } from '../../src/engine/plan/attentionTiles.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { cases, coverage, itemsOf, layoutFor, planned, POISON } from './attentionCases.ts';

/** A case and the borders of its nano-batches, first 0 and last all tokens. */
const cutCases = fc
  .tuple(cases, fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 4 }))
  .map(([one, shares]) => {
    const cuts = shares.map((share) => Math.round(share * one.tokens));
    return { ...one, borders: [0, ...cuts.sort((a, b) => a - b), one.tokens] };
  });

describe('sliceRequests', () => {
  it('cuts into rows that together are all rows, each seeing what it saw before', () => {
    fc.assert(
      fc.property(cutCases, ({ input, borders }) => {
        const { requests, slidingWindow = 0 } = input;
        const seen = new Map<number, string>();
        for (const request of requests) {
          for (let token = 0; token < request.qLen; token++) {
            const start = visibleStart(request, token, slidingWindow);
            const end = visibleEnd(request, token);
            const view = start < end ? `${start}-${end}` : 'nothing';
            seen.set(request.qStart + token, `${view} of pages from ${request.pageStart}`);
          }
        }
        for (let i = 1; i < borders.length; i++) {
          for (const slice of sliceRequests(requests, borders[i - 1], borders[i])) {
            expect(slice.qLen).toBeGreaterThan(0);
            for (let token = 0; token < slice.qLen; token++) {
              const row = slice.qStart + token;
              if (row < borders[i - 1] || row >= borders[i]) expect.fail(`row ${row} is not of the slice`);
              const start = visibleStart(slice, token, slidingWindow);
              const end = visibleEnd(slice, token);
              const view = start < end ? `${start}-${end}` : 'nothing';
              expect(seen.get(row)).toBe(`${view} of pages from ${slice.pageStart}`);
              seen.delete(row);
            }
          }
        }
        expect(seen.size).toBe(0);
      }),
      { numRuns: 100 },
    );
  });
});

describe('plans of nano-batches', () => {
  it('cover together what one plan covers, with partial rows of their own', () => {
    fc.assert(
      fc.property(cutCases, fc.nat(20_000), (one, partialCapacity) => {
        const slots = one.borders.length - 1;
        const layout = stepMetaLayout({ ...layoutFor(one).capacity, attentionSlots: slots });
        const words = new Uint32Array(layout.words).fill(POISON);
        const items = [];
        let partialBase = 0;
        for (let slot = 0; slot < slots; slot++) {
          const section = layout.attention[slot];
          const rows = [one.borders[slot], one.borders[slot + 1]] as const;
          const room = partialCapacity - partialBase;
          const plan = planAttention(
            { ...one.input, rows, partialBase, partialCapacity: room },
            section,
            words,
          );
          expect(plan.partialRows).toBeLessThanOrEqual(room);
          expect(words[section.mergeIndptr]).toBe(partialBase);
          partialBase += plan.partialRows;
          expect(words[section.mergeIndptr + plan.mergeRows]).toBe(partialBase);
          items.push(...itemsOf(section, words));
        }
        expect(coverage(one.input, items)).toEqual([]);
      }),
      { numRuns: 120 },
    );
  });

  it('split less where partial rows are scarce, not at all without any, and as ever where they suffice', () => {
    fc.assert(
      fc.property(cases, fc.double({ min: 0, max: 1.2, noNaN: true }), (one, share) => {
        const free = planned(one);
        const partialCapacity = Math.floor(share * free.plan.partialRows);
        const scarce = planned({ ...one, input: { ...one.input, partialCapacity } });
        expect(scarce.plan.partialRows).toBeLessThanOrEqual(partialCapacity);
        expect(coverage(one.input, itemsOf(scarce.section, scarce.words))).toEqual([]);
        if (share >= 1)
          expect(Buffer.compare(Buffer.from(scarce.words.buffer), Buffer.from(free.words.buffer))).toBe(0);
        if (partialCapacity === 0) expect(scarce.plan.mergeRows).toBe(0);
      }),
      { numRuns: 100 },
    );
  });
});
