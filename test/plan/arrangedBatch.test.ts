/** Metadata of a batch whose rows stand as [D1 P1 D2 P2]. */
import { describe, expect, it } from 'vitest';
import { batchShape } from '../../src/engine/model/lowerBatch.ts';
import { rowRuns, type BatchRows } from '../../src/engine/pipeline/arrangement.ts';
import { randomHalves } from '../../src/engine/pipeline/random.ts';
import { writeBatch } from '../../src/engine/plan/batchMeta.ts';
import { FROM_SAMPLED, stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { Request } from '../../src/engine/schedule/request.ts';
import type { DenseBatch, Segment } from '../../src/engine/schedule/scheduler.ts';
import { ask } from '../engine/fakeRunner.ts';

describe('metadata of an arranged batch', () => {
  const PAGE = 4;
  const segments = [...Array(3).keys()].map((i): Segment => segment(`d${i}`, 5 + i, 1, 10 + i));
  segments.push(segment('p0', 0, 6), segment('p1', 3, 8));
  const dense: DenseBatch = { segments, tokens: 17, samples: 5, adjustments: 0 };

  function segment(id: string, start: number, count: number, fromSampled?: number): Segment {
    const prompt = Array.from({ length: start + count }, (_, i) => id.charCodeAt(1) * 100 + i);
    const request = new Request(ask(id, prompt), [0, 0], 1, 0);
    for (let page = 0; page * PAGE < start + count; page++) request.pages.push(prompt[0] + page);
    return { request, start, count, sample: true, ...(fromSampled !== undefined && { fromSampled }) };
  }

  const layout = stepMetaLayout({
    tokens: 32,
    requests: 8,
    pages: 64,
    items16: 1,
    items128: 1,
    mergeRows: 1,
    attentionWorkgroups: 1,
    adjustments: 1,
  });
  const write = (each?: BatchRows) => {
    const words = new Uint32Array(layout.words);
    const planned = writeBatch(dense, PAGE, layout, words, (_, position) => position, each && rowRuns(each));
    const section = (at: number, length: number) => [...words.subarray(at, at + length)];
    return {
      planned,
      tokens: section(layout.tokenIds, 17).map((id, i) => [
        id,
        words[layout.positions + i],
        words[layout.kvSlots + i],
      ]),
      logitRows: section(layout.logitRows, 5),
      pages: section(layout.pages, 64),
    };
  };

  it('has every token at its place, and logit rows in the order of the batch', () => {
    expect(batchShape(dense)).toEqual({ tokens: 17, decodeTokens: 3 });
    const plain = write();
    for (let seed = 0; seed < 50; seed++) {
      const each = randomHalves({ tokens: 17, decodeTokens: 3 }, seed);
      const got = write(each);
      const places = rowRuns(each).flatMap(([start, end]) =>
        Array.from({ length: end - start }, (_, i) => start + i),
      );
      expect(places.map((place) => got.tokens[place])).toEqual(plain.tokens);
      expect(got.logitRows).toEqual(plain.logitRows.map((row) => places[row]));
      expect(got.pages).toEqual(plain.pages);
    }
    // Rows of the step before are by its samples, whatever the arrangement of either.
    expect(plain.tokens.slice(0, 3).map(([id]) => id)).toEqual(
      [10, 11, 12].map((row) => (FROM_SAMPLED | row) >>> 0),
    );
  });

  it('plans a prompt that the cut divides as two, the first without the keys of the second', () => {
    const { planned, logitRows } = write({ tokens: 17, decodeTokens: 3, halves: { decode: 1, prefill: 8 } });
    expect(planned.map(({ qStart, qLen, kvLen }) => [qStart, qLen, kvLen])).toEqual([
      [0, 1, 6],
      [9, 1, 7],
      [10, 1, 8],
      [1, 6, 6],
      [7, 2, 5],
      [11, 6, 11],
    ]);
    expect(planned[5].pageStart).toBe(planned[4].pageStart);
    expect(logitRows).toEqual([0, 9, 10, 6, 16]);
  });
});
