import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bucket, bucketStep, buckets } from '../../src/engine/model/buckets.ts';

const steps = fc.constantFrom(Infinity, 256, 64, 1);

it('a bucket is one of the list, holds the count, and is the smallest that does', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 5000 }), steps, (a, b, step) => {
      const [count, largest] = [Math.min(a, b), Math.max(a, b)];
      const list = buckets(largest, step);
      expect(bucket(count, largest, step)).toBe(list.find((size) => size >= count));
      expect(list).toEqual([...new Set(list)].sort((x, y) => x - y));
      expect(list.at(-1)).toBe(largest);
    }),
  );
});

it('are powers of two, or multiples of the step', () => {
  expect(buckets(2048)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048]);
  expect(buckets(1100, 256)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1100]);
});

it('programs that cost little fit any batch within 64 rows', () => {
  fc.assert(
    fc.property(fc.integer({ min: 65, max: 4096 }), (count) => {
      expect(bucket(count, 4096, bucketStep(true)) - count).toBeLessThan(64);
    }),
  );
  expect(bucketStep(false)).toBe(Infinity);
});
