/** The schedules that the plan is measured against must do the same work. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planFixed, planWhole } from '../../bench/kernels/attentionBaselines.ts';
import { traceBatch } from '../../bench/kernels/attentionBatches.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { cases, coverage, itemsOf, layoutFor } from './attentionCases.ts';

const room = { items16: 20_000, items128: 20_000, mergeRows: 100_000, attentionWorkgroups: 20_000 };

describe('schedules to compare with', () => {
  it('cover what the plan covers: whole ranges, and chunks of a fixed length in turns', () => {
    fc.assert(
      fc.property(cases, fc.boolean(), fc.integer({ min: 1, max: 600 }), (one, oneEach, chunk) => {
        const layout = stepMetaLayout({ ...layoutFor(one).capacity, ...room });
        const [section] = layout.attention;
        const words = new Uint32Array(layout.words);
        const whole = planWhole(one.input, oneEach, section, words);
        const wholeItems = itemsOf(section, words);
        expect(coverage(one.input, wholeItems)).toEqual([]);
        expect(whole.partialRows).toBe(0);
        if (oneEach)
          expect(new Set(wholeItems.map(({ tile, workgroup }) => `${tile} ${workgroup}`)).size).toBe(
            wholeItems.length,
          );
        const long = Math.max(chunk, 64);
        const fixed = planFixed(one.input, long, section, words);
        const items = itemsOf(section, words);
        expect(coverage(one.input, items)).toEqual([]);
        for (const { workgroup, fields } of items) {
          expect(fields.kvEnd - fields.kvStart).toBeLessThanOrEqual(long);
          expect(workgroup).toBeLessThan(one.input.workgroups);
          if (fields.chunkIndex < fields.chunkCount - 1) expect(fields.kvEnd - fields.kvStart).toBe(long);
        }
        expect(fixed.imbalance).toBeGreaterThanOrEqual(1);
      }),
      { numRuns: 40 },
    );
  });

  it('of a trace: requests in the middle of their answers, long answers more often', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'trace-'));
    try {
      const file = join(folder, 'two.csv');
      await writeFile(file, 'TIMESTAMP,ContextTokens,GeneratedTokens\nXXX,10,10\nXXX,5000,990\nXXX,0,5\n');
      let state = 1;
      const random = (): number => (state = (state * 16807) % 2147483647) / 2147483647;
      const { name, lengths } = await traceBatch(file, 1000, 1, random);
      expect(name).toBe('two, 1000 decoding');
      const short = lengths.filter(({ kvLen }) => kvLen <= 20);
      expect(short.every(({ kvLen }) => kvLen > 10)).toBe(true);
      expect(short.length).toBeGreaterThan(0);
      expect(short.length).toBeLessThan(50); // 1 % of the tokens
      const long = lengths.filter(({ kvLen }) => kvLen > 5000 && kvLen <= 5990);
      expect(short.length + long.length).toBe(1000);
      await expect(traceBatch(join(folder, 'none.csv'), 1, 1, random)).rejects.toThrow(
        'cannot read the trace',
      );
      await writeFile(file, 'a,b\n1,2\n');
      await expect(traceBatch(file, 1, 1, random)).rejects.toThrow('has no rows with ContextTokens');
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
