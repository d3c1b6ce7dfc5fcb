/**
 * Reads the buffer that kernels built with PROFILE=1 write (native-cuda/kernels/lib/attention.cuh, Profiler): for each
 * CTA the number of events, then `records` records of three 64-bit words: tag, begin, end.
 */

/** What a kernel did from `begin` to `end`, in nanoseconds of the device's clock. */
export interface ProfileRecord {
  cta: number;
  sm: number;
  event: string;
  /** Which one of its kind; for attention the number of the work item within its list. */
  number: number;
  begin: number;
  end: number;
}

export interface ProfileRecords {
  /** In the order of their begin. Times count from the first begin. */
  records: ProfileRecord[];
  /** Events that found no room: profile again with more records for each CTA. */
  dropped: number;
}

/** Names of events by their number in the tag. */
export const PROFILE_EVENTS: Readonly<Record<number, string>> = {
  1: 'attention128',
  2: 'attention16',
  3: 'merge',
};

const RECORD_WORDS = 3;

/** Bytes of a buffer for `ctas` CTAs with up to `records` events each; the host zeroes it before the launch. */
export function profileBytes(ctas: number, records: number): number {
  return ctas * (1 + RECORD_WORDS * records) * 8;
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
  const found: { tag: bigint; begin: bigint; end: bigint; cta: number }[] = [];
  let dropped = 0;
  for (let cta = 0; cta < ctas; cta++) {
    const area = cta * (1 + RECORD_WORDS * records);
    const events = Number(words[area]);
    const written = Math.min(events, records);
    dropped += events - written;
    for (let i = 0; i < written; i++) {
      const at = area + 1 + RECORD_WORDS * i;
      found.push({ tag: words[at], begin: words[at + 1], end: words[at + 2], cta });
    }
  }
  // Nanoseconds since 1970 do not fit a double exactly; differences do.
  let first = found.length > 0 ? found[0].begin : 0n;
  for (const { begin } of found) if (begin < first) first = begin;
  const decoded = found.map(({ tag, begin, end, cta }): ProfileRecord => {
    const event = Number(tag & 0xffn);
    return {
      cta,
      sm: Number((tag >> 8n) & 0xffffffn),
      event: PROFILE_EVENTS[event] ?? `event ${event}`,
      number: Number(tag >> 32n),
      begin: Number(begin - first),
      end: Number(end - first),
    };
  });
  decoded.sort((a, b) => a.begin - b.begin || a.cta - b.cta);
  return { records: decoded, dropped };
}
