/** In which order chunks are dealt out, how even that is, and who counts chunks. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SHADER_SOURCES } from '../../src/engine/device/webgpu/shaders.ts';
import { chunkCount, chunkLength } from '../../src/engine/plan/attentionTiles.ts';
import { cases, itemsOf, planned, type Case, type Item } from './attentionCases.ts';

function withOrder(one: Case, order: 'given' | 'largest' | 'best') {
  return planned({ ...one, input: { ...one.input, order } });
}

function cost({ tile, fields }: Item): number {
  return 2 * tile + fields.kvEnd - fields.kvStart;
}

/** Items of one workgroup and tile size, as they stand in its list. */
function listsOf(items: readonly Item[]): Item[][] {
  const lists = new Map<string, Item[]>();
  for (const item of items) {
    const key = `${item.tile} ${item.workgroup}`;
    const list = lists.get(key);
    if (list) list.push(item);
    else lists.set(key, [item]);
  }
  return [...lists.values()];
}

describe('order of the deal', () => {
  it('is the order of the requests, or the largest first, in every list', () => {
    fc.assert(
      fc.property(cases, (one) => {
        const given = withOrder(one, 'given');
        const largest = withOrder(one, 'largest');
        for (const list of listsOf(itemsOf(given.section, given.words))) {
          const places = list.map(({ fields }) => fields.qoStart * 1e7 + fields.rowStart);
          expect(places).toEqual([...places].sort((a, b) => a - b));
        }
        for (const list of listsOf(itemsOf(largest.section, largest.words))) {
          const costs = list.map(cost);
          expect(costs).toEqual([...costs].sort((a, b) => b - a));
        }
      }),
      { numRuns: 60 },
    );
  });

  it('is the better of both by measured imbalance, when the first is not already even', () => {
    let better = 0;
    fc.assert(
      fc.property(cases, (one) => {
        // One tile size, so that one heap makes the figure.
        const single: Case = { ...one, input: { ...one.input, tiles: [16] } };
        const [given, largest, best] = (['given', 'largest', 'best'] as const).map((order) =>
          withOrder(single, order),
        );
        // Orders may stop at different chunk lengths; compare where they cut alike.
        if (given.plan.chunk16 !== best.plan.chunk16 || largest.plan.chunk16 !== best.plan.chunk16) return;
        const { imbalance } = best.plan;
        if (imbalance > 1.1) {
          expect(imbalance).toBe(Math.min(given.plan.imbalance, largest.plan.imbalance));
          if (given.plan.imbalance !== largest.plan.imbalance) better++;
        }
      }),
      { numRuns: 150 },
    );
    expect(better).toBeGreaterThan(0);
  });
});

describe('skewed batches', () => {
  // One context of 32k among 63 short ones.
  it.each([1, 7, 33, 66, 132, 264, 528, 1024])('are even over %i workgroups', (workgroups) => {
    let pageStart = 0;
    const requests = Array.from({ length: 64 }, (_, i) => {
      const kvLen = i === 20 ? 32768 : 100 + i;
      const request = { qStart: i, qLen: 1, kvLen, pageStart };
      pageStart += Math.ceil(kvLen / 16);
      return request;
    });
    const input = { requests, heads: 32, kvHeads: 8, headDim: 128, pageSize: 16, workgroups };
    const { section, words, plan } = planned({ input, tokens: 64 });
    const costs = itemsOf(section, words).map(cost);
    const mean = costs.reduce((a, b) => a + b, 0) / workgroups;
    expect(plan.imbalance).toBeLessThan(1.2);
    // The best schedule with whole (request, KV head) pairs leaves one workgroup with the long context.
    const whole = Math.max(1, (32768 + 32) / mean);
    expect(plan.imbalance).toBeLessThanOrEqual(Math.max(1.1, whole / 2));
  });
});

describe('prompts of a few hundred tokens', () => {
  // 340 tokens after 340 others: 11 tiles of 128 rows for each of 8 KV heads.
  const input = {
    requests: [{ qStart: 0, qLen: 340, kvLen: 680, pageStart: 0 }],
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    pageSize: 16,
  };

  it('keep their tiles whole where every workgroup gets one at most', () => {
    for (const workgroups of [88, 104, 132]) {
      const { plan } = planned({ input: { ...input, workgroups }, tokens: 340 });
      expect(plan).toMatchObject({ items128: 88, mergeRows: 0 });
    }
  });

  it('are cut where parts are done sooner, and beside decoding requests, which fill the gaps', () => {
    const { plan } = planned({ input: { ...input, workgroups: 528 }, tokens: 340 });
    expect(plan.items128).toBeGreaterThan(88);
    const decoding = Array.from({ length: 64 }, (_, i) => ({
      qStart: 340 + i,
      qLen: 1,
      kvLen: 1280,
      pageStart: 43 + 80 * i,
    }));
    const together = {
      ...input,
      requests: [...input.requests, ...decoding],
      workgroups: 132,
      together: true,
    };
    const many = planned({ input: together, tokens: 404 });
    expect(many.plan.imbalance).toBeLessThan(1.1);
  });
});

describe('the chunk-count formula', () => {
  it('stands in one place: parts are equal but the last, none is empty or above the limit', () => {
    fc.assert(
      fc.property(fc.nat(100_000), fc.integer({ min: 1, max: 500 }), (length, steps) => {
        const limit = 64 * steps;
        const size = chunkLength(length, limit);
        const count = chunkCount(length, limit);
        expect(size).toBeLessThanOrEqual(limit);
        expect(size * count).toBeGreaterThanOrEqual(length);
        if (length > 0) expect(size * (count - 1)).toBeLessThan(length);
        else expect(count).toBe(1);
      }),
    );
  });

  it('is what every item carries', () => {
    fc.assert(
      fc.property(cases, (one) => {
        const { section, words, plan } = planned(one);
        const spans = new Map<string, Item[]>();
        for (const item of itemsOf(section, words)) {
          const { qoStart, rowStart, kvHead } = item.fields;
          const key = `${item.tile} ${qoStart} ${rowStart} ${kvHead}`;
          spans.set(key, [...(spans.get(key) ?? []), item]);
        }
        for (const items of spans.values()) {
          const start = Math.min(...items.map(({ fields }) => fields.kvStart));
          const length = Math.max(...items.map(({ fields }) => fields.kvEnd)) - start;
          const limit = items[0].tile === 16 ? plan.chunk16 : plan.chunk128;
          expect(items.length).toBe(chunkCount(length, limit));
          for (const { fields } of items) {
            expect(fields.chunkCount).toBe(items.length);
            expect(fields.kvStart - start).toBe(fields.chunkIndex * chunkLength(length, limit));
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it('is not repeated by any shader: none reads the chunk lengths of the plan', () => {
    const readers = (word: string): string[] =>
      Object.entries(SHADER_SOURCES)
        .filter(([, code]) => code.includes(word))
        .map(([name]) => name);
    expect(readers('ATTENTION_COUNT_CHUNK')).toEqual(['lib/meta.wgsl']);
    expect(readers('ITEM_CHUNK_COUNT').sort()).toEqual(['attention_io.wgsl', 'lib/meta.wgsl']);
  });
});
