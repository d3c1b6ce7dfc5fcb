/** Random traces, as a recorder could have made them. */
import fc from 'fast-check';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { CAUSES, KV_OPS, SPAN_CLASSES, type Trace, type TraceHeader } from '../../src/engine/trace/trace.ts';

export const header: TraceHeader = {
  source: 'sim',
  producer: 'test',
  device: { name: 'A100-80', units: 108, unitKind: 'sm', peakFlops: 312e12 },
  clock: { unit: 'ns', resolutionNs: 1, method: 'model', synced: 0 },
  intrusive: false,
  workload: { model: 'llama-2-70b', tokens: 2048 },
};

export interface RandomSpan {
  track: number;
  start: number;
  length: number;
  name: string;
  cls: (typeof SPAN_CLASSES)[number];
  layer: number;
  cause: number;
  flops: number;
}

/** Times are not whole on purpose; names hold what a JSON or a class prefix could trip over. */
export const randomSpans = fc.array(
  fc.record({
    track: fc.integer({ min: 0, max: 4 }),
    start: fc.oneof(fc.integer({ min: 0, max: 60 }), fc.double({ min: 0, max: 3e12, noNaN: true })),
    length: fc.oneof(fc.integer({ min: 0, max: 30 }), fc.double({ min: 0, max: 1e9, noNaN: true })),
    name: fc.oneof(fc.constantFrom('kqv.1', 'C|x', 'stage "2"', 'M|M|', 'é\u0001'), fc.string()),
    cls: fc.constantFrom(...SPAN_CLASSES),
    layer: fc.integer({ min: -1, max: 79 }),
    cause: fc.nat(CAUSES.length - 1),
    flops: fc.double({ min: 0, max: 1e15, noNaN: true }),
  }),
  { maxLength: 40, size: 'max' },
);

export function build(spans: readonly RandomSpan[], seed = 0): Trace {
  const builder = new TraceBuilder(header);
  const device = builder.track('device', 'A100-80');
  const host = builder.track('device', 'host');
  const tracks = [
    builder.track('res', 'compute', device),
    builder.track('res', 'memory', device),
    builder.track('stream', 'dispatches', device),
    builder.track('cpu', 'plan', host),
    builder.track('req', 'requests', host),
  ];
  const counter = builder.track('counter', 'tokens', host);
  const handles = spans.map(({ track, start, length, ...rest }) =>
    builder.span({ ...rest, track: tracks[track], start, end: start + length }),
  );
  const bySpanStart = handles.toSorted((a, b) => Math.round(spans[a].start) - Math.round(spans[b].start));
  for (let i = 1; i < bySpanStart.length; i += 2) builder.flow(bySpanStart[i - 1], bySpanStart[i], 'dep');
  spans.forEach(({ start, length }, i) => {
    if ((i + seed) % 3 === 0) builder.counter(counter, start, length);
    if ((i + seed) % 4 === 0) builder.kvEvent(start, i, KV_OPS[i % KV_OPS.length], i);
    if ((i + seed) % 5 === 0)
      builder.planItem({ wg: i, head: 1, qStart: 2, kvStart: 3, kvEnd: 9, cost: 96, span: handles[i] });
  });
  return builder.finish();
}

/** Spans as comparable records, with names instead of numbers. */
export function spanList({ spans, strings, tracks }: Trace): string[] {
  return Array.from({ length: spans.rows }, (_, i) =>
    [
      tracks[spans.track[i]].name,
      spans.ts[i],
      spans.dur[i],
      strings[spans.name[i]],
      SPAN_CLASSES[spans.cls[i]],
      spans.layer[i],
      spans.cause[i],
      spans.flops[i],
    ].join(' / '),
  );
}
