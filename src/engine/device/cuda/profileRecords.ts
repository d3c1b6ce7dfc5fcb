/**
 * Reads the buffer that kernels built with PROFILE=1 write (native-cuda/kernels/lib/profile.cuh): for each CTA the
 * number of events, then `records` records of three 64-bit words: tag, begin, end.
 */

/** What a kernel did from `begin` to `end`, in nanoseconds of the device's clock. */
export interface ProfileRecord {
  cta: number;
  sm: number;
  event: string;
  /** Which one: of attention the work item within its list, of products the tile. */
  number: number;
  begin: number;
  end: number;
}

export interface ProfileRecords {
  /** In the order of their begin. Times count from the first begin. */
  records: ProfileRecord[];
  /** The device's clock at the first begin; undefined without records. Common to all launches of a device. */
  zero?: bigint;
  /** Events that found no room: profile again with `most` records for each CTA. */
  dropped: number;
  /** Events of the CTA that had most. */
  most: number;
}

/** Names of events by their number in the tag (ProfileEvent in profile.cuh). */
export const PROFILE_EVENTS: Readonly<Record<number, string>> = {
  1: 'item of 128 rows',
  2: 'item of 16 rows',
  3: 'tile',
  4: 'part of a tile',
};

const RECORD_WORDS = 3;

/** Bytes of a buffer for `ctas` CTAs with up to `records` events each; the host zeroes it before the launch. */
export function profileBytes(ctas: number, records: number): number {
  return ctas * (1 + RECORD_WORDS * records) * 8;
}

interface RawRecord {
  tag: bigint;
  begin: bigint;
  end: bigint;
  cta: number;
}

/** @throws Error when the buffer has another size than `ctas` and `records` say. */
export function decodeProfile(buffer: ArrayBuffer, ctas: number, records: number): ProfileRecords {
  const expected = profileBytes(ctas, records);
  if (buffer.byteLength !== expected) {
    throw new Error(
      `profile: got ${buffer.byteLength} bytes, expected ${expected} for ${ctas} CTAs of ${records} records; ` +
        'read the whole buffer',
    );
  }
  const words = new BigUint64Array(buffer);
  const found: RawRecord[] = [];
  let dropped = 0;
  let most = 0;
  for (let cta = 0; cta < ctas; cta++) {
    const area = cta * (1 + RECORD_WORDS * records);
    const events = Number(words[area]);
    const written = Math.min(events, records);
    dropped += events - written;
    most = Math.max(most, events);
    for (let i = 0; i < written; i++) {
      const at = area + 1 + RECORD_WORDS * i;
      // A slot that was taken and never written says nothing: every event has a number.
      if (words[at] !== 0n) found.push({ tag: words[at], begin: words[at + 1], end: words[at + 2], cta });
    }
  }
  if (found.length === 0) return { records: [], dropped, most };
  let zero = found[0].begin;
  for (const { begin } of found) if (begin < zero) zero = begin;
  const decoded = found.map((record) => decodeRecord(record, zero));
  decoded.sort((a, b) => a.begin - b.begin || a.cta - b.cta);
  return { records: decoded, zero, dropped, most };
}

/** Nanoseconds since 1970 do not fit a double exactly; differences do. 64 bits of them do not wrap. */
function decodeRecord({ tag, begin, end, cta }: RawRecord, zero: bigint): ProfileRecord {
  const event = Number(tag & 0xffn);
  return {
    cta,
    sm: Number((tag >> 8n) & 0xffffffn),
    event: PROFILE_EVENTS[event] ?? `event ${event}`,
    number: Number(tag >> 32n),
    begin: Number(begin - zero),
    // The clock is the host's to set: when it was set back in between, the event has no length.
    end: Number((end < begin ? begin : end) - zero),
  };
}
