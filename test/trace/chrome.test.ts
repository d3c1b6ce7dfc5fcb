/** The export to Chrome's JSON: no import errors by Perfetto's rules, nothing lost, and files of others read. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { toMicroseconds, traceToChrome, type ChromeEvent } from '../../src/engine/trace/chrome.ts';
import { chromeToTrace } from '../../src/engine/trace/fromChrome.ts';
import { importedNs, importErrors } from './chromeRules.ts';
import { build, header, randomSpans } from './traces.ts';

const roundTrip = (value: unknown) => JSON.parse(JSON.stringify(value));

describe('the checker', () => {
  const thread: ChromeEvent = { ph: 'M', name: 'thread_name', pid: 1, tid: 2, args: { name: 't' } };
  const x = (ts: number, dur: number): ChromeEvent => ({ ph: 'X', name: 'C|x', pid: 1, tid: 2, ts, dur });
  it.each([
    ['partial overlap', [x(0, 10), x(5, 10)], 'in part'],
    ['a flow that hangs', [x(0, 1), { ...x(5, 0), ph: 's', id: 1 }], 'flow_no_enclosing_slice'],
    ['an end alone', [{ ...x(0, 0), ph: 'e', id2: { local: '1' } }], 'without a begin'],
    ['an array', [{ ...x(0, 1), extra: [] }], 'array at the top level'],
    ['no name of its thread', [{ ...x(0, 1), tid: 9 }], 'thread without a name'],
  ] as [string, ChromeEvent[], string][])('finds %s', (_, events, message) => {
    expect(importErrors([thread, ...events]).join()).toContain(message);
  });
});

describe('the export', () => {
  it('has no import errors, and every span once', () => {
    fc.assert(
      fc.property(randomSpans, (random) => {
        const trace = build(random);
        const { traceEvents, otherData } = roundTrip(traceToChrome(trace));
        expect(importErrors(traceEvents)).toEqual([]);
        const begins = traceEvents.filter(({ ph }: ChromeEvent) => ph === 'X' || ph === 'b');
        expect(begins).toHaveLength(random.length);
        expect(begins.every(({ name, cat }: ChromeEvent) => name.startsWith(`${cat}|`))).toBe(true);
        expect(otherData.header).toEqual(trace.header);
      }),
    );
  });

  it('comes back as it was', () => {
    fc.assert(
      fc.property(randomSpans, (random) => {
        const trace = build(random);
        expect(chromeToTrace(roundTrip(traceToChrome(trace)))).toEqual(trace);
      }),
    );
  });

  it('has flows from open slice to open slice', () => {
    const builder = new TraceBuilder(header);
    const device = builder.track('device', 'd');
    const spans = [0, 1, 2].map((i) =>
      builder.span({
        track: builder.track('res', `lane ${i}`, device),
        name: `n.${i}`,
        cls: 'M',
        start: i * 10,
        end: i * 10 + 10,
      }),
    );
    builder.flow(spans[0], spans[1], 'dep');
    builder.flow(spans[1], spans[2], 'kv');
    const { traceEvents } = traceToChrome(builder.finish());
    expect(traceEvents.filter(({ ph }) => ph === 's').map(({ name }) => name)).toEqual(['dep', 'kv']);
    expect(traceEvents.filter(({ ph, bp }) => ph === 'f' && bp === 'e')).toHaveLength(2);
    expect(importErrors(traceEvents)).toEqual([]);
  });

  it('falls back to pairs with an id each on lanes that do not nest', () => {
    const trace = build([]);
    const builder = new TraceBuilder(header);
    const track = builder.track('res', 'compute', builder.track('device', 'd'));
    for (const start of [0, 5]) builder.span({ track, name: 'x', cls: 'C', start, end: start + 10 });
    const split = builder.finish();
    // As a producer without sub-lanes would have it.
    const flat = { ...trace, ...split, spans: { ...split.spans, track: new Uint32Array(2).fill(track) } };
    const { traceEvents } = traceToChrome(flat);
    expect(traceEvents.filter(({ ph }) => ph !== 'M').map(({ ph }) => ph)).toEqual(['b', 'b', 'e', 'e']);
    expect(new Set(traceEvents.map(({ id2 }) => id2?.local)).size).toBe(3); // two ids, and none
    expect(importErrors(traceEvents)).toEqual([]);
  });

  it('gives microseconds that become the same nanoseconds by truncation and by rounding', () => {
    let plain = 0;
    const check = (ns: number) => {
      const us = toMicroseconds(ns);
      expect(importedNs(us)).toBe(ns);
      expect(Math.round(us * 1000)).toBe(ns);
      if (us === ns / 1000) plain++;
    };
    for (let ns = 0; ns < 20_000; ns++) check(ns);
    expect(plain).toBeGreaterThan(15_000);
    fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 49 }), check));
  });
});

describe('files of other programs', () => {
  it('give spans by thread, overlapping ones on sub-lanes', () => {
    const trace = chromeToTrace([
      { ph: 'M', name: 'process_name', pid: 7, tid: 7, args: { name: 'GPU 0' } },
      { ph: 'M', name: 'thread_name', pid: 7, tid: 8, args: { name: 'stream 20' } },
      { ph: 'X', name: 'gemm', cat: 'kernel', pid: 7, tid: 8, ts: 1000.5, dur: 2 },
      { ph: 'X', name: 'N|all_reduce', pid: 7, tid: 8, ts: 1001.5, dur: 2.25 },
      { ph: 'B', name: 'outer', pid: 7, tid: 9, ts: 1000 },
      { ph: 'B', name: 'inner', pid: 7, tid: 9, ts: 1001 },
      { ph: 'E', name: 'inner', pid: 7, tid: 9, ts: 1002 },
      { ph: 'E', pid: 7, tid: 9, ts: 1004 },
      { ph: 'C', name: 'power', pid: 7, tid: 7, ts: 1003, args: { watts: 350 } },
    ]);
    const list = Array.from({ length: trace.spans.rows }, (_, i) => [
      trace.tracks[trace.spans.track[i]].name,
      trace.strings[trace.spans.name[i]],
      trace.spans.ts[i],
      trace.spans.dur[i],
    ]);
    expect(list).toEqual([
      ['stream 20', 'gemm', 500, 2000],
      ['thread 9', 'outer', 0, 4000],
      ['thread 9', 'inner', 1000, 1000],
      ['stream 20 (2)', 'all_reduce', 1500, 2250],
    ]);
    expect([trace.counters.ts[0], trace.counters.value[0]]).toEqual([3000, 350]);
  });
  it.each([
    [{}, 'expected a list of trace events'],
    [null, 'expected a list of trace events'],
    [[{ ph: 'X', name: 'x', pid: 1, tid: 1, ts: 'now', dur: 1 }], 'expected microseconds'],
  ])('that are broken are refused: %j', (json, message) => {
    expect(() => chromeToTrace(json)).toThrow(message);
  });
});
