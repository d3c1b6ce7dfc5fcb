import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attentionCapacity, planAttention, printPlan } from '../../src/engine/plan/attention.ts';
import {
  ATTENTION_COUNT,
  ATTENTION_COUNT_WORDS,
  ITEM_WORDS,
  PARTIAL_NONE,
  stepMetaLayout,
} from '../../src/engine/plan/stepMeta.ts';
import { cases, coverage, itemsOf, layoutFor, planned, POISON, rowsOf } from './attentionCases.ts';

describe('planAttention', () => {
  it('covers every visible (row, KV token) of every head exactly once, within one workgroup list each', () => {
    fc.assert(
      fc.property(cases, (one) => {
        const { section, words, plan } = planned(one);
        const items = itemsOf(section, words);
        expect(items.length).toBe(plan.items16 + plan.items128);
        for (const { tile, fields } of items) {
          const length = fields.kvEnd - fields.kvStart;
          expect(length).toBeLessThanOrEqual(tile === 16 ? plan.chunk16 : plan.chunk128);
        }
        expect(coverage(one.input, items)).toEqual([]);
      }),
      { numRuns: 150 },
    );
  });

  it('lists for each split (token, head) exactly the partial rows that its items write', () => {
    fc.assert(
      fc.property(cases, (one) => {
        const { section, words, plan } = planned(one);
        const { heads, kvHeads } = one.input;
        const group = heads / kvHeads;
        const rowOfPartial = new Map<number, number>();
        const whole = new Set<number>();
        for (const item of itemsOf(section, words)) {
          const { qoStart, rowStart, kvHead, partialStart, chunkIndex, chunkCount } = item.fields;
          expect(partialStart === PARTIAL_NONE).toBe(chunkCount === 1);
          for (let r = 0; r < rowsOf(item, group); r++) {
            const row = rowStart + r;
            const target = (qoStart + Math.floor(row / group)) * heads + kvHead * group + (row % group);
            const partial = partialStart + r * chunkCount + chunkIndex;
            if (chunkCount === 1 ? whole.has(target) : rowOfPartial.has(partial))
              expect.fail('written twice');
            if (chunkCount === 1) whole.add(target);
            else rowOfPartial.set(partial, target);
          }
        }
        expect(words[section.counts + ATTENTION_COUNT.mergeRows]).toBe(plan.mergeRows);
        expect(words[section.mergeIndptr + plan.mergeRows]).toBe(plan.partialRows);
        expect(rowOfPartial.size).toBe(plan.partialRows);
        const merged = new Set<number>();
        for (let i = 0; i < plan.mergeRows; i++) {
          const target = words[section.mergeRow + i];
          if (merged.has(target) || whole.has(target)) expect.fail('merged and written');
          merged.add(target);
          const first = words[section.mergeIndptr + i];
          const end = words[section.mergeIndptr + i + 1];
          if (end - first < 2) expect.fail('nothing to merge');
          for (let partial = first; partial < end; partial++) {
            if (rowOfPartial.get(partial) !== target)
              expect.fail(`partial row ${partial} is not of ${target}`);
          }
        }
        expect(merged.size + whole.size).toBe(one.tokens * heads);
      }),
      { numRuns: 150 },
    );
  });

  it('stays within attentionCapacity and writes nothing outside its sections', () => {
    fc.assert(
      fc.property(cases, (one) => {
        const { layout, section, words, plan } = planned(one, 3);
        const { heads, kvHeads, workgroups, tiles, requests } = one.input;
        const limits = { tokens: one.tokens, requests: requests.length, heads, kvHeads, workgroups, tiles };
        expect(plan.partialRows).toBeLessThanOrEqual(attentionCapacity(limits).partialRows);
        const sections: [number, number][] = [
          [section.counts, ATTENTION_COUNT_WORDS],
          [section.items16, plan.items16 * ITEM_WORDS],
          [section.items128, plan.items128 * ITEM_WORDS],
          [section.workIndptr16, workgroups + 4],
          [section.workIndptr128, workgroups + 4],
          [section.mergeIndptr, plan.mergeRows + 1],
          [section.mergeRow, plan.mergeRows],
        ];
        const expected = new Uint8Array(layout.words);
        for (const [at, count] of sections) expected.fill(1, at, at + count);
        const wrong = expected.findIndex((yes, i) => (words[i] !== POISON) !== (yes === 1));
        expect(wrong).toBe(-1);
      }),
      { numRuns: 80 },
    );
  });

  it('balances: no workgroup exceeds the mean by more than one item', () => {
    fc.assert(
      fc.property(cases, (one) => {
        const { section, words, plan } = planned(one);
        const loads: Record<string, number[]> = {};
        let largest = 0;
        for (const { tile, workgroup, fields } of itemsOf(section, words)) {
          const key = one.input.together ? 'both' : String(tile);
          const cost = 2 * tile + fields.kvEnd - fields.kvStart;
          (loads[key] ??= Array.from<number>({ length: one.input.workgroups }).fill(0))[workgroup] += cost;
          largest = Math.max(largest, cost);
        }
        let imbalance = 1;
        for (const load of Object.values(loads)) {
          const mean = load.reduce((a, b) => a + b, 0) / load.length;
          expect(Math.max(...load)).toBeLessThanOrEqual(mean + largest);
          imbalance = Math.max(imbalance, Math.max(...load) / mean);
        }
        expect(plan.imbalance).toBeCloseTo(imbalance, 6);
      }),
      { numRuns: 100 },
    );
  });

  it('splits one long request over an idle device, and never one that is alone on one workgroup', () => {
    const requests = [{ qStart: 0, qLen: 1, kvLen: 32768, pageStart: 0 }];
    const input = { requests, heads: 32, kvHeads: 8, headDim: 128, pageSize: 16, workgroups: 264 };
    const wide = planned({ input, tokens: 1 }).plan;
    expect(wide.items16).toBeGreaterThanOrEqual(256);
    expect(wide.imbalance).toBeLessThan(1.15);
    const narrow = planned({ input: { ...input, workgroups: 1 }, tokens: 1 }).plan;
    expect(narrow.items16).toBe(8);
    expect(narrow.partialRows).toBe(0);
  });

  it('refuses what does not fit and leaves the metadata as it was', () => {
    const requests = [
      { qStart: 0, qLen: 1, kvLen: 4000, pageStart: 0 },
      { qStart: 1, qLen: 64, kvLen: 4000, pageStart: 250 },
    ];
    const input = { requests, heads: 8, kvHeads: 2, headDim: 64, pageSize: 16, workgroups: 16 };
    const enough = layoutFor({ input, tokens: 65 }).capacity;
    const { plan } = planned({ input, tokens: 65 });
    const small: [string, number][] = [
      ['items16', plan.items16 - 1],
      ['items128', plan.items128 - 1],
      ['mergeRows', plan.mergeRows - 1],
      ['attentionWorkgroups', 15],
      ['tokens', 64],
      ['pages', 499],
    ];
    for (const [name, capacity] of small) {
      const layout = stepMetaLayout({ ...enough, [name]: capacity });
      const words = new Uint32Array(layout.words).fill(POISON);
      expect(() => planAttention(input, layout.attention[0], words)).toThrow(
        new RegExp(`got \\d+ .*expected at most ${capacity}; raise ${name}`),
      );
      expect(words.every((word) => word === POISON)).toBe(true);
    }
  });

  it('prints every item and the merge', () => {
    const requests = [{ qStart: 0, qLen: 1, kvLen: 600, pageStart: 0 }];
    const input = { requests, heads: 2, kvHeads: 1, headDim: 64, pageSize: 16, workgroups: 2 };
    const { section, words, plan } = planned({ input, tokens: 1 });
    const text = printPlan(section, words);
    expect(text.split('\n')).toHaveLength(plan.items16 + 3);
    expect(text).toContain('tokens from 0 (q 1, kv 600), packed rows from 0, kv head 0, kv [0, 320)');
    expect(text).toContain(`merge: 2 rows of ${plan.partialRows} partial rows`);
  });
});
