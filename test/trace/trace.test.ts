/** The trace format: order and sub-lanes, the columnar file, and what a reader refuses. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { checkTrace } from '../../src/engine/trace/check.ts';
import { decodeTrace, encodeTrace } from '../../src/engine/trace/file.ts';
import { parseTrace, traceToJson } from '../../src/engine/trace/json.ts';
import { mainLane, rootTrack, type Trace } from '../../src/engine/trace/trace.ts';
import { build, header, randomSpans, spanList } from './traces.ts';

describe('a finished trace', () => {
  it('keeps every span on its lane or a sub-lane of it, sorted, with no partial overlap', () => {
    fc.assert(
      fc.property(randomSpans, (random) => {
        const { spans, tracks, strings } = build(random);
        expect(spans.rows).toBe(random.length);
        const got = Array.from({ length: spans.rows }, (_, i) => {
          const lane = mainLane(tracks, spans.track[i]);
          return `${tracks[lane].name} ${spans.ts[i]} ${spans.ts[i] + spans.dur[i]} ${strings[spans.name[i]]}`;
        });
        const names = ['compute', 'memory', 'dispatches', 'plan', 'requests'];
        const wanted = random.map(
          ({ track, start, length, name }) =>
            `${names[track]} ${Math.round(start)} ${Math.round(start + length)} ${name}`,
        );
        expect(got.toSorted()).toEqual(wanted.toSorted());
        // Pairwise, unlike the stack that the code uses.
        for (let i = 0; i < spans.rows; i++) {
          for (let j = 0; j < i; j++) {
            if (spans.track[i] !== spans.track[j]) continue;
            const [a, b] = [j, i].map((row) => [spans.ts[row], spans.ts[row] + spans.dur[row]]);
            const apart = a[1] <= b[0] || b[1] <= a[0];
            const inside = (a[0] <= b[0] && b[1] <= a[1]) || (b[0] <= a[0] && a[1] <= b[1]);
            if (!apart && !inside) expect.fail(`${a} and ${b} overlap in part`);
          }
        }
      }),
    );
  });

  it('ties flows, plan items and spans together as they were recorded', () => {
    fc.assert(
      fc.property(randomSpans, (random) => {
        const { flows, spans, plan } = build(random);
        const starts = random.map(({ start }) => Math.round(start)).toSorted((a, b) => a - b);
        const ends: number[] = [];
        for (let i = 0; i < flows.rows; i++) ends.push(spans.ts[flows.from[i]], spans.ts[flows.to[i]]);
        expect(ends).toEqual(starts.slice(0, ends.length));
        for (let i = 0; i < (plan?.rows ?? 0); i++) {
          const { name, start } = random[plan!.wg[i]];
          expect([spans.ts[plan!.span[i]], build(random).strings[spans.name[plan!.span[i]]]]).toEqual([
            Math.round(start),
            name,
          ]);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('is the same whatever the order of recording', () => {
    const spans = fc.sample(randomSpans, { numRuns: 1, seed: 7 })[0];
    const other = build(spans.toReversed());
    expect(spanList(other).toSorted()).toEqual(spanList(build(spans)).toSorted());
  });

  it('refuses shares above the device, flows that go back, and ends before starts', () => {
    const builder = new TraceBuilder(header);
    const device = builder.track('device', 'd');
    const lane = (name: string) => builder.track('res', name, device);
    const span = (track: number, start: number, end: number, share: number) =>
      builder.span({ track, name: 'x', cls: 'C', start, end, share });
    const late = span(lane('compute'), 100, 200, 60);
    span(lane('memory'), 0, 100, 48);
    span(lane('memory'), 100, 150, 48); // 108 of 108
    expect(() => builder.finish()).not.toThrow();
    const early = span(lane('network'), 149, 160, 1);
    expect(() => builder.finish()).toThrow('at 149 ns');
    expect(() => span(lane('compute'), 5, 4, 1)).toThrow('expected a later end');
    const other = new TraceBuilder({ ...header, device: { ...header.device, units: 0 } });
    const track = other.track('res', 'compute');
    other.span({ track, name: 'a', cls: 'C', start: 9, end: 10 });
    other.span({ track, name: 'b', cls: 'C', start: 1, end: 2 });
    other.flow(late, early === 0 ? 1 : 1, 'dep');
    expect(() => other.finish()).toThrow('back in time by 8 ns');
  });
});

it('a number that does not fit its column is refused when it is recorded', () => {
  const builder = new TraceBuilder(header);
  const track = builder.track('res', 'compute');
  const span = (more: object) => () =>
    builder.span({ track, name: 'x', cls: 'C', start: 0, end: 1, ...more });
  expect(span({ layer: 40_000 })).toThrow("'layer' got 40000");
  expect(span({ nb: 0.5 })).toThrow("'nb' got 0.5");
  expect(span({ flops: NaN })).toThrow("'flops' got NaN");
  expect(span({ start: -5, end: -1 })).toThrow("'ts' got -5");
  expect(builder.spanCount).toBe(0);
  expect(span({ layer: 79, nb: undefined })()).toBe(0);
});

describe('the file', () => {
  it('round-trips in every form, and is stable', async () => {
    await fc.assert(
      fc.asyncProperty(randomSpans, async (random) => {
        const trace = build(random);
        expect(parseTrace(traceToJson(trace))).toEqual(trace);
        for (const name of ['t.json', 't.json.gz', 't.chrome.json', 't.perfetto.json.gz'])
          expect(await decodeTrace(await encodeTrace(name, trace)), name).toEqual(trace);
        expect(traceToJson(build(random))).toBe(traceToJson(trace));
      }),
      { numRuns: 60 },
    );
  });

  it('is a fifth of the export in size', () => {
    const builder = new TraceBuilder(header);
    const lane = builder.track('res', 'compute', builder.track('device', 'd'));
    for (let i = 0; i < 5000; i++)
      builder.span({
        track: lane,
        name: `kqv.${i % 4}`,
        cls: 'C',
        start: i * 1234,
        end: i * 1234 + 1000,
        layer: i % 80,
      });
    const trace = builder.finish();
    return encodeTrace('a.chrome.json', trace).then((chrome) =>
      expect(traceToJson(trace).length * 5).toBeLessThan(chrome.length),
    );
  });

  const good = (): any => {
    const spans = fc.sample(randomSpans, { numRuns: 50, seed: 3 }).find((list) => list.length > 20)!;
    return JSON.parse(traceToJson(build(spans)));
  };
  const edits: [string, (json: any) => void, string][] = [
    ['another format', (json) => (json.fmt = 'x'), `'fmt' is "x"`],
    ['another version', (json) => (json.v = 2), 'version 2'],
    ['an unknown section', (json) => (json.more = 1), "'more' is no section"],
    ['no header', (json) => delete json.header, "'header' is missing"],
    ['an unknown header field', (json) => (json.header.x = 1), "'header.x' is no field"],
    ['a wrong source', (json) => (json.header.source = 'gpu'), `'header.source' is "gpu"`],
    ['a clock in us', (json) => (json.header.clock.unit = 'us'), "'header.clock.unit'"],
    ['no units', (json) => delete json.header.device.units, "'header.device.units' is missing"],
    ['nested facts', (json) => (json.header.workload = { a: {} }), "'header.workload'"],
    ['strings of numbers', (json) => (json.strings[0] = 1), "'strings[0]' is 1"],
    ['a track that is its own parent', (json) => (json.tracks[0].parent = 0), 'parent 0'],
    ['a track of no kind', (json) => (json.tracks[1].kind = 'lane'), "of kind 'lane'"],
    ['a short column', (json) => json.spans.dur.pop(), "'spans.dur' has"],
    ['a fractional time', (json) => (json.spans.dur[1] = 0.5), "'spans.dur[1]' is 0.5"],
    ['a negative time', (json) => (json.spans.ts[0] = -1), "'spans.ts[0]' is -1"],
    ['an unknown column', (json) => (json.spans.color = 1), "'spans.color' is no column"],
    ['many rows in a small file', (json) => (json.spans = { rows: 1e9, dur: 1 }), 'no column of that length'],
    ['a name that is not there', (json) => (json.spans.name[0] = 1e6), 'spans.name[0] is 1000000'],
    ['a class that is not there', (json) => (json.spans.cls = 9), 'spans.cls[0] is 9'],
    ['spans out of order', (json) => (json.spans.track = json.spans.track.toReversed()), 'out of order'],
    ['a flow to nowhere', (json) => (json.flows.to[0] = 1e6), 'flows.to[0] is 1000000'],
    ['KV events back in time', (json) => (json.kv.ts = json.kv.ts.toReversed()), 'KV event'],
  ];
  it.each(edits)('with %s is refused in one sentence', (_, edit, message) => {
    const json = good();
    edit(json);
    expect(() => parseTrace(JSON.stringify(json))).toThrow(message);
  });
  it('that is no JSON is refused', () => {
    expect(() => parseTrace('hello')).toThrow('not JSON');
    expect(() => parseTrace('[]')).toThrow("'the file' is []");
  });
});

it('walks to the group and the main lane of a sub-lane', () => {
  const builder = new TraceBuilder(header);
  const device = builder.track('device', 'd');
  const lane = builder.track('res', 'compute', device);
  for (const start of [0, 5, 9]) builder.span({ track: lane, name: 'x', cls: 'C', start, end: start + 10 });
  const trace: Trace = builder.finish();
  const names = Array.from(trace.spans.track, (track) => trace.tracks[track].name);
  expect(names).toEqual(['compute', 'compute (2)', 'compute (3)']);
  for (const track of trace.spans.track) {
    expect(mainLane(trace.tracks, track)).toBe(lane);
    expect(rootTrack(trace.tracks, track)).toBe(device);
  }
  expect(() => checkTrace(trace)).not.toThrow();
});
