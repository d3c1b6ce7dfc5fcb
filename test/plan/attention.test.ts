import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attentionCapacity, planAttention, printPlan } from '../../src/engine/plan/attention.ts';
import type { AttentionPlanInput, TileRows } from '../../src/engine/plan/attention.ts';
import {
  ATTENTION_COUNT,
  ATTENTION_COUNT_WORDS,
  ITEM,
  ITEM_WORDS,
  PARTIAL_NONE,
  stepMetaLayout,
} from '../../src/engine/plan/stepMeta.ts';
import type { AttentionSection, StepMetaLayout } from '../../src/engine/plan/stepMeta.ts';

interface Case {
  input: AttentionPlanInput;
  tokens: number;
}

/** Batches with skewed lengths, empty requests, queries longer than their KV, any grouping and budget. */
const cases = fc
  .record({
    lengths: fc.array(
      fc.record({
        qLen: fc.oneof(fc.constant(1), fc.integer({ min: 0, max: 40 }), fc.integer({ min: 100, max: 300 })),
        past: fc.oneof(
          fc.constant(0),
          fc.integer({ min: -50, max: 40 }),
          fc.integer({ min: 0, max: 700 }),
          fc.integer({ min: 2000, max: 5000 }),
        ),
      }),
      { maxLength: 9 },
    ),
    kvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 7 }),
    pageSize: fc.constantFrom(1, 3, 16, 32),
    slidingWindow: fc.oneof(fc.constant(undefined), fc.integer({ min: 1, max: 400 })),
    workgroups: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 1024 })),
    tiles: fc.constantFrom<TileRows[] | undefined>(undefined, [16], [128]),
    together: fc.boolean(),
  })
  .map(({ lengths, kvHeads, group, ...rest }): Case => {
    let qStart = 0;
    let pageStart = 0;
    const requests = lengths.map(({ qLen, past }) => {
      const kvLen = Math.max(qLen + past, 0);
      const request = { qStart, qLen, kvLen, pageStart };
      qStart += qLen;
      pageStart += Math.ceil(kvLen / rest.pageSize);
      return request;
    });
    return { input: { requests, heads: kvHeads * group, kvHeads, headDim: 64, ...rest }, tokens: qStart };
  });

/** The layout that attentionCapacity calls sufficient, plus `lists` more workgroups. */
function layoutFor({ input, tokens }: Case, lists = 0): StepMetaLayout {
  const { heads, kvHeads, workgroups, tiles } = input;
  const requests = input.requests.length;
  const capacity = attentionCapacity({ tokens, requests, heads, kvHeads, workgroups, tiles });
  return stepMetaLayout({
    tokens,
    requests,
    pages: 100_000,
    items16: capacity.items16,
    items128: capacity.items128,
    mergeRows: capacity.mergeRows,
    attentionWorkgroups: workgroups + lists,
    adjustments: 0,
  });
}

const POISON = 0xdeadbeef;

function planned(one: Case, lists = 0) {
  const layout = layoutFor(one, lists);
  const words = new Uint32Array(layout.words).fill(POISON);
  const [section] = layout.attention;
  return { layout, section, words, plan: planAttention(one.input, section, words) };
}

interface Item {
  tile: TileRows;
  workgroup: number;
  fields: Record<keyof typeof ITEM, number>;
}

function itemsOf(section: AttentionSection, words: Uint32Array): Item[] {
  const items: Item[] = [];
  for (const tile of [16, 128] as const) {
    const indptr = tile === 16 ? section.workIndptr16 : section.workIndptr128;
    const at = tile === 16 ? section.items16 : section.items128;
    for (let workgroup = 0; workgroup < section.capacity.attentionWorkgroups; workgroup++) {
      for (let i = words[indptr + workgroup]; i < words[indptr + workgroup + 1]; i++) {
        const entries = Object.entries(ITEM).map(([name, field]) => [
          name,
          words[at + i * ITEM_WORDS + field],
        ]);
        items.push({ tile, workgroup, fields: Object.fromEntries(entries) as Item['fields'] });
      }
    }
  }
  return items;
}

/** Rows of the tile that exist. */
function rowsOf(item: Item, group: number): number {
  return Math.min(item.tile, item.fields.qLen * group - item.fields.rowStart);
}

describe('planAttention', () => {
  it('covers every visible (row, KV token) of every head exactly once, within one workgroup list each', () => {
    fc.assert(
      fc.property(cases, (one) => {
        const { section, words, plan } = planned(one);
        const { heads, kvHeads, requests, slidingWindow } = one.input;
        const group = heads / kvHeads;
        const items = itemsOf(section, words);
        expect(items.length).toBe(plan.items16 + plan.items128);
        // covered[token * heads + head]: the KV ranges seen.
        const covered = new Map<number, [number, number][]>();
        for (const item of items) {
          const { qoStart, rowStart, kvStart, kvEnd, kvHead } = item.fields;
          expect(kvEnd - kvStart).toBeLessThanOrEqual(item.tile === 16 ? plan.chunk16 : plan.chunk128);
          for (let row = rowStart; row < rowStart + rowsOf(item, group); row++) {
            const key = (qoStart + Math.floor(row / group)) * heads + kvHead * group + (row % group);
            const ranges = covered.get(key);
            if (ranges) ranges.push([kvStart, kvEnd]);
            else covered.set(key, [[kvStart, kvEnd]]);
          }
        }
        const wrong: string[] = [];
        for (const request of requests) {
          for (let row = 0; row < request.qLen * heads; row++) {
            const end = Math.max(request.kvLen - request.qLen + Math.floor(row / heads) + 1, 0);
            const start = Math.max(end - (slidingWindow ?? Infinity), 0);
            const key = request.qStart * heads + row;
            const ranges = (covered.get(key) ?? []).sort((x, y) => x[0] - y[0]);
            covered.delete(key);
            const joined = ranges.every((range, i) => i === 0 || range[0] === ranges[i - 1][1]);
            const holds = start === end || (ranges[0]?.[0] <= start && ranges.at(-1)![1] >= end);
            const inside = (ranges.at(-1)?.[1] ?? Infinity) <= request.kvLen;
            if (!joined || !holds || !inside) wrong.push(`row ${key} sees [${start}, ${end}): ${ranges}`);
          }
        }
        expect(wrong).toEqual([]);
        expect(covered.size).toBe(0);
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
