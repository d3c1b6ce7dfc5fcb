import { describe, expect, it } from 'vitest';
import { decodeProfile, profileBytes } from '../../src/engine/device/cuda/profileRecords.ts';

const EPOCH = 1_763_700_000_000_000_000n; // nanoseconds, beyond what a double holds exactly

function tag(event: number, sm: number, number: number): bigint {
  return BigInt(event) | (BigInt(sm) << 8n) | (BigInt(number) << 32n);
}

describe('records of the in-kernel profiler', () => {
  it('are sorted by begin, counted from the first, and keep CTA, SM and item', () => {
    const buffer = new ArrayBuffer(profileBytes(2, 2));
    const words = new BigUint64Array(buffer);
    words.set([1n, tag(2, 131, 70_000), EPOCH + 1500n, EPOCH + 2001n], 0);
    words.set([2n, tag(1, 7, 0), EPOCH + 3n, EPOCH + 900n, tag(9, 7, 1), EPOCH + 1000n, EPOCH + 1001n], 7);
    expect(decodeProfile(buffer, 2, 2)).toEqual({
      records: [
        { cta: 1, sm: 7, event: 'item of 128 rows', number: 0, begin: 0, end: 897 },
        { cta: 1, sm: 7, event: 'event 9', number: 1, begin: 997, end: 998 },
        { cta: 0, sm: 131, event: 'item of 16 rows', number: 70_000, begin: 1497, end: 1998 },
      ],
      zero: EPOCH + 3n,
      dropped: 0,
      most: 2,
    });
  });

  it('say how many events found no room, and read nothing beyond', () => {
    const buffer = new ArrayBuffer(profileBytes(1, 1));
    new BigUint64Array(buffer).set([5n, tag(3, 0, 4), EPOCH, EPOCH + 10n]);
    const { records, dropped, most } = decodeProfile(buffer, 1, 1);
    expect(records).toHaveLength(1);
    expect(records[0].event).toBe('tile');
    expect([dropped, most]).toEqual([4, 5]);
  });

  it('an untouched buffer has none', () => {
    expect(decodeProfile(new ArrayBuffer(profileBytes(3, 4)), 3, 4)).toEqual({
      records: [],
      dropped: 0,
      most: 0,
    });
  });

  it('leave out slots that were taken and not written, and know no negative lengths', () => {
    const buffer = new ArrayBuffer(profileBytes(1, 2));
    new BigUint64Array(buffer).set([2n, 0n, 0n, 0n, tag(4, 1, 2), EPOCH + 10n, EPOCH + 4n]);
    expect(decodeProfile(buffer, 1, 2).records).toEqual([
      { cta: 0, sm: 1, event: 'part of a tile', number: 2, begin: 0, end: 0 },
    ]);
  });

  it('a buffer of another size is refused', () => {
    expect(() => decodeProfile(new ArrayBuffer(8), 1, 1)).toThrow('got 8 bytes, expected 32');
  });
});
