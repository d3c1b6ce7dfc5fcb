/** Random batches for the tests of the attention plan, and readers of what it wrote. */
import fc from 'fast-check';
import { attentionCapacity, planAttention } from '../../src/engine/plan/attention.ts';
import type { AttentionPlanInput, TileRows } from '../../src/engine/plan/attention.ts';
import { ITEM, ITEM_WORDS, stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import type { AttentionSection, StepMetaLayout } from '../../src/engine/plan/stepMeta.ts';

export interface Case {
  input: AttentionPlanInput;
  tokens: number;
}

/** Batches with skewed lengths, empty requests, queries longer than their KV, any grouping and budget. */
export const cases = fc
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
    order: fc.constantFrom('given' as const, 'largest' as const, 'best' as const),
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
export function layoutFor({ input, tokens }: Case, lists = 0): StepMetaLayout {
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

export const POISON = 0xdeadbeef;

export function planned(one: Case, lists = 0) {
  const layout = layoutFor(one, lists);
  const words = new Uint32Array(layout.words).fill(POISON);
  const [section] = layout.attention;
  return { layout, section, words, plan: planAttention(one.input, section, words) };
}

export interface Item {
  tile: TileRows;
  workgroup: number;
  fields: Record<keyof typeof ITEM, number>;
}

export function itemsOf(section: AttentionSection, words: Uint32Array): Item[] {
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
export function rowsOf(item: Item, group: number): number {
  return Math.min(item.tile, item.fields.qLen * group - item.fields.rowStart);
}

/** What is wrong with how the items cover the KV tokens that every (token, head) row of the batch sees: nothing. */
export function coverage(
  { heads, kvHeads, requests, slidingWindow = Infinity }: AttentionPlanInput,
  items: readonly Item[],
): string[] {
  const group = heads / kvHeads;
  // covered[token * heads + head]: the KV ranges seen.
  const covered = new Map<number, [number, number][]>();
  for (const item of items) {
    const { qoStart, rowStart, kvStart, kvEnd, kvHead } = item.fields;
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
      const start = Math.max(end - slidingWindow, 0);
      const key = request.qStart * heads + row;
      const ranges = (covered.get(key) ?? []).sort((x, y) => x[0] - y[0]);
      const found = covered.delete(key);
      const joined = ranges.every((range, i) => i === 0 || range[0] === ranges[i - 1][1]);
      const holds = start === end || (ranges[0]?.[0] <= start && ranges.at(-1)![1] >= end);
      const inside = (ranges.at(-1)?.[1] ?? Infinity) <= request.kvLen;
      if (!found || !joined || !holds || !inside) wrong.push(`row ${key} sees [${start}, ${end}): ${ranges}`);
    }
  }
  for (const key of covered.keys()) wrong.push(`row ${key} is not of the batch`);
  return wrong;
}
