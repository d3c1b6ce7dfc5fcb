/** Batches that stand as [D1 P1 D2 P2]: the arrangement, what it resolves to, the overlap preset, validation. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { OperationName } from '../../src/engine/model/graph.ts';
import { operationGraph } from '../../src/engine/model/graph/build.ts';
import { graphModelOfShape } from '../../src/engine/model/shapes.ts';
import {
  arrange,
  blocksOf,
  decodeRowsIn,
  rowRuns,
  type BatchRows,
} from '../../src/engine/pipeline/arrangement.ts';
import { parsePipeline, pipelineToJson } from '../../src/engine/pipeline/json.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { nanoBatchOnly, nonOverlap, overlap } from '../../src/engine/pipeline/presets.ts';
import { printPipeline } from '../../src/engine/pipeline/print.ts';
import { randomHalves, randomPipeline } from '../../src/engine/pipeline/random.ts';
import { groups, resolveRange, resolveRows } from '../../src/engine/pipeline/resolve.ts';
import { pipelineProblems } from '../../src/engine/pipeline/validate.ts';

const options = { elementBytes: 2, merge: false, activation: false };
const graph = operationGraph(graphModelOfShape('llama-3-8b'), { ...options, ranks: 1 });
const batch = { tokens: 1024, decodeTokens: 344 };
const halves = overlap(graph, batch, 132, { arrangement: 'halves', attentionShare: 32, cut: 1 });

const rows = fc
  .tuple(fc.integer({ min: 1, max: 400 }), fc.double({ min: 0, max: 1, noNaN: true }))
  .map(([tokens, part]): BatchRows => ({ tokens, decodeTokens: Math.round(tokens * part) }));
const arranged = fc
  .tuple(rows, fc.nat(), fc.boolean())
  .map(([each, seed, plain]) => (plain ? each : randomHalves(each, seed)));

const rangesOf = ({ nano }: Pipeline, name: OperationName): (readonly [number, number])[] =>
  nano.filter(({ operation }) => operation === name).map(({ range }) => range);

describe('arrangement', () => {
  it('blocks are all rows in order, decode rows as many as there are', () => {
    fc.assert(
      fc.property(arranged, (each) => {
        const blocks = blocksOf(each);
        expect(blocks[0].range[0]).toBe(0);
        expect(blocks.at(-1)!.range[1]).toBe(each.tokens);
        blocks.slice(1).forEach(({ range }, i) => expect(range[0]).toBe(blocks[i].range[1]));
        expect(decodeRowsIn(each, [0, each.tokens])).toBe(each.decodeTokens);
        for (const { kind, range } of blocks) {
          expect(decodeRowsIn(each, range)).toBe(kind === 'decode' ? range[1] - range[0] : 0);
        }
      }),
    );
  });

  it('runs give each row of the batch one place, of its kind, in order within a kind', () => {
    fc.assert(
      fc.property(arranged, (each) => {
        const places = rowRuns(each).flatMap(([start, end]) =>
          Array.from({ length: end - start }, (_, i) => start + i),
        );
        expect([...places].sort((a, b) => a - b)).toEqual([...places.keys()]);
        places.forEach((place, row) => {
          expect(decodeRowsIn(each, [place, place + 1])).toBe(row < each.decodeTokens ? 1 : 0);
          if (row > 0 && row !== each.decodeTokens) expect(place).toBeGreaterThan(places[row - 1]);
        });
      }),
    );
  });

  it('nothing moves where decode rows come first, or a half lacks the rows that would be in between', () => {
    expect(rowRuns(batch)).toEqual([[0, 1024]]);
    const one = (decode: number, prefill: number) => rowRuns({ ...batch, halves: { decode, prefill } });
    expect(one(344, 300)).toEqual([[0, 1024]]); // no D2
    expect(one(100, 0)).toEqual([[0, 1024]]); // no P1
    expect(one(100, 300)).toEqual([
      [0, 100],
      [400, 644],
      [100, 400],
      [644, 1024],
    ]);
  });

  it('splits both kinds in the same proportion', () => {
    fc.assert(
      fc.property(rows, fc.double({ min: 0, max: 1, noNaN: true }), (each, part) => {
        const boundary = Math.round(each.tokens * part);
        const { decode, prefill } = arrange(each, boundary, 'halves').halves!;
        expect(decode + prefill).toBe(boundary);
        expect(Math.abs(decode - (each.decodeTokens * boundary) / each.tokens)).toBeLessThanOrEqual(0.5);
        expect(prefill).toBeGreaterThanOrEqual(0);
        expect(prefill).toBeLessThanOrEqual(each.tokens - each.decodeTokens);
      }),
    );
  });
});

describe('resolving halves', () => {
  it('keeps kinds apart and the parts of both halves, in any batch', () => {
    fc.assert(
      fc.property(arranged, fc.nat(), rows, (own, seed, other) => {
        const pipeline = randomPipeline(graph, own, 8, seed);
        const resolved = resolveRows(pipeline, other);
        const prompts = own.tokens - own.decodeTokens;
        if (own.halves && own.decodeTokens > 0) {
          const wanted = (own.halves.decode * other.decodeTokens) / own.decodeTokens;
          expect(Math.abs(resolved.halves!.decode - wanted)).toBeLessThanOrEqual(0.5);
        }
        if (own.halves && prompts > 0) {
          const wanted = (own.halves.prefill * (other.tokens - other.decodeTokens)) / prompts;
          expect(Math.abs(resolved.halves!.prefill - wanted)).toBeLessThanOrEqual(1);
        }
        for (const { operation, range } of pipeline.nano) {
          const got = resolveRange(pipeline, range, other);
          // A batch may lack a kind, but the pipeline must have what the batch has.
          if (operation === 'decode_attention' && (prompts > 0 || other.tokens === other.decodeTokens))
            expect(decodeRowsIn(resolved, got)).toBe(got[1] - got[0]);
          if (operation === 'prefill_attention' && (own.decodeTokens > 0 || other.decodeTokens === 0))
            expect(decodeRowsIn(resolved, got)).toBe(0);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('keeps halves of whole tiles in batches of the same size', () => {
    for (let decodeTokens = 200; decodeTokens < 500; decodeTokens++) {
      const { decode, prefill } = resolveRows(halves, { tokens: 1024, decodeTokens }).halves!;
      expect(decode).toBe(Math.round(decodeTokens / 2));
      expect(decode + prefill).toBe(512);
    }
  });

  it('is the identity in the own batch', () => {
    fc.assert(
      fc.property(arranged, fc.nat(), (own, seed) => {
        const pipeline = randomPipeline(graph, own, 8, seed);
        for (const { range } of pipeline.nano) expect(resolveRange(pipeline, range, own)).toEqual(range);
        expect(resolveRows(pipeline, own)).toEqual(own);
      }),
    );
  });
});

describe('overlap in halves', () => {
  it('gives both nano-batches half of the decode rows and half of the prompts', () => {
    expect(halves.halves).toEqual({ decode: 172, prefill: 340 });
    expect(groups(halves)).toEqual([
      [0, 512],
      [512, 1024],
    ]);
    expect(rangesOf(halves, 'decode_attention').toSorted((a, b) => a[0] - b[0])).toEqual([
      [0, 172],
      [512, 684],
    ]);
    expect(rangesOf(halves, 'prefill_attention').toSorted((a, b) => a[0] - b[0])).toEqual([
      [172, 512],
      [684, 1024],
    ]);
    const lines = halves.stages.map(({ members }) => members.map(({ id }) => id).join(' | '));
    expect(lines).toContain('up_gate.1 | decode_attention.2');
    expect(lines).toContain('up_gate.2 | decode_attention.1');
  });

  it('prompt rows of the second half wait for the keys of the first', () => {
    const find = (id: string) => halves.nano.find((nano) => nano.id === id)!;
    const needs = (id: string): string[] => find(id).after.map((need) => `${need.id} ${need.layer}`);
    expect(needs('prefill_attention.1')).toEqual(['rope_append.1 0']);
    expect(needs('prefill_attention.2').toSorted()).toEqual(['rope_append.1 0', 'rope_append.2 0']);
    expect(needs('decode_attention.2')).toEqual(['rope_append.2 0']);
    const without: Pipeline = {
      ...halves,
      nano: halves.nano.map((nano) => ({
        ...nano,
        after: nano.after.filter(({ id }) => !(nano.id === 'prefill_attention.2' && id === 'rope_append.1')),
      })),
    };
    expect(pipelineProblems(without, graph).join()).toMatch(
      /prefill_attention\.2 does not wait for rope_append\.1 of layer 0/,
    );
  });

  it('is valid for every batch, fraction, cut and share', () => {
    fc.assert(
      fc.property(
        rows,
        fc.double({ min: 0.01, max: 0.99, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer({ min: 0, max: 132 }),
        fc.boolean(),
        (each, firstHalf, cut, attentionShare, colocated) => {
          const more = { arrangement: 'halves' as const, firstHalf, cut, attentionShare, colocated };
          for (const preset of [overlap, nanoBatchOnly]) {
            const pipeline = preset(graph, each, 132, more);
            expect(pipelineProblems(pipeline, graph)).toEqual([]);
            expect(groups(pipeline).length).toBeLessThanOrEqual(2);
          }
        },
      ),
    );
    expect(pipelineProblems(nonOverlap(graph, { ...batch, halves: halves.halves! }, 132), graph)).toEqual([]);
  });

  it('refuses fractions outside the batch, and several ranks', () => {
    const make = (more: object) => () => overlap(graph, batch, 132, { arrangement: 'halves', ...more });
    expect(make({ firstHalf: 1 })).toThrow(/firstHalf is 1; expected a fraction between 0 and 1/);
    const ranks = operationGraph(graphModelOfShape('llama-2-70b'), { ...options, ranks: 8 });
    expect(() => overlap(ranks, batch, 132, { arrangement: 'halves' })).toThrow(
      /for 8 ranks; halves are for one device/,
    );
    expect(() => nonOverlap(graph, { ...batch, halves: { decode: 345, prefill: 0 } }, 132)).toThrow(
      /345 decode rows and 0 prompt rows, expected whole numbers of at most 344 and 680/,
    );
  });
});

describe('halves as data', () => {
  it('are printed, and survive JSON', () => {
    expect(printPipeline(halves).split('\n')[0]).toBe(
      'overlap: llama-3-8b on any, 1024 tokens (344 decode, halves 172 + 340 and 172 + 340), 132 workgroups',
    );
    expect(parsePipeline(pipelineToJson(halves))).toEqual(halves);
    const wrong = pipelineToJson(halves).replace('"decode":172', '"decode":"172"');
    expect(() => parsePipeline(wrong)).toThrow(/halves\.decode is "172"; expected a whole number from 0 up/);
    const unknown = pipelineToJson(halves).replace('"prefill":340', '"prefill":340,"third":1');
    expect(() => parsePipeline(unknown)).toThrow(/halves\.third is 1; expected no such key/);
  });

  it.each([
    [{ decode: 345, prefill: 0 }, /345 decode rows and 0 prompt rows/],
    [{ decode: 0, prefill: 681 }, /0 decode rows and 681 prompt rows/],
    [{ decode: -1, prefill: 0 }, /-1 decode rows/],
    [{ decode: 1.5, prefill: 0 }, /1\.5 decode rows/],
    [{ decode: 171, prefill: 341 }, /decode_attention covers rows .*, expected \[0, 171\) \[512, 685\)/],
    [undefined, /decode_attention covers rows \[0, 172\) \[512, 684\), expected \[0, 344\)/],
  ])('%j is found', (other, message) => {
    const { halves: _, ...rest } = halves;
    const changed: Pipeline = other ? { ...rest, halves: other } : rest;
    expect(pipelineProblems(changed, graph).join('\n')).toMatch(message);
  });
});
