/**
 * Reads Chrome's trace event JSON. A file of chrome.ts comes back as it was; others (Kineto, chrome://tracing,
 * Perfetto's own exports) give spans by thread, with the class of a "C|..." name or `host`.
 */
import { TraceBuilder } from './builder.ts';
import { ARGUMENTS, type ChromeEvent } from './chrome.ts';
import { checkTrace } from './check.ts';
import { describe, emptyTable, fits, GrowingTable, pickRows, tableFromJson } from './columns.ts';
import { parseHeader } from './header.ts';
import { laneOrder } from './lanes.ts';
import {
  COUNTERS,
  FLOWS,
  KV,
  PLAN,
  SPAN_CLASSES,
  SPANS,
  type SpanClass,
  type Trace,
  type Track,
} from './trace.ts';

/** @throws Error that says what is wrong */
export function chromeToTrace(json: unknown): Trace {
  const file = Array.isArray(json) ? { traceEvents: json } : (json as Record<string, unknown> | null);
  const events = file?.['traceEvents'];
  if (!Array.isArray(events))
    throw new Error(`trace: 'traceEvents' is ${describe(events)}; expected a list of trace events`);
  const other = file?.['otherData'] as Record<string, unknown> | undefined;
  return other?.['fmt'] === 'lanes' ? ours(other, events) : foreign(events);
}

/** Splits "C|kqv.1" into class and name. */
function parseName(text: string): { cls: SpanClass; name: string } {
  const bar = text.indexOf('|');
  const cls = SPAN_CLASSES.find((known) => known === text.slice(0, bar));
  return cls === undefined ? { cls: 'host', name: text } : { cls, name: text.slice(bar + 1) };
}

function nanoseconds(us: unknown, where: string): number {
  if (typeof us === 'number' && Number.isFinite(us)) return Math.round(us * 1000);
  throw new Error(`trace: ${where} is ${describe(us)}; expected microseconds`);
}

function ours(other: Record<string, unknown>, events: ChromeEvent[]): Trace {
  const strings = other['strings'] as string[];
  const tracks = other['tracks'] as Track[];
  if (!Array.isArray(strings) || !Array.isArray(tracks))
    throw new Error('trace: otherData lacks strings or tracks; expected what the export wrote');
  const index = new Map(strings.map((text, i) => [text, i]));
  const trackOf = ({ tid }: ChromeEvent): number => tid - tracks.length - 1;
  const ends = new Map<string, number>();
  for (const event of events) if (event.ph === 'e') ends.set(event.id2!.local, event.ts!);
  const begins = events.filter(({ ph }) => ph === 'X' || ph === 'b');
  const spans = emptyTable(SPANS, begins.length);
  for (const event of begins) {
    const { args = {}, name: text } = event;
    const row = args['span'];
    if (!Number.isInteger(row) || (row as number) < 0 || (row as number) >= begins.length)
      throw new Error(`trace: event '${text}' has args.span ${describe(row)}; expected the number of a span`);
    const i = row as number;
    const { cls, name } = parseName(text);
    spans.ts[i] = nanoseconds(event.ts, `ts of '${text}'`);
    spans.dur[i] =
      event.ph === 'X'
        ? nanoseconds(event.dur, `dur of '${text}'`)
        : nanoseconds(ends.get(event.id2!.local), `end of '${text}'`) - spans.ts[i];
    spans.track[i] = trackOf(event);
    spans.name[i] = index.get(name) ?? -1;
    spans.cls[i] = SPAN_CLASSES.indexOf(cls);
    for (const key of ARGUMENTS) {
      const value = args[key];
      if (value !== undefined && !fits(SPANS[key], value))
        throw new Error(`trace: '${text}' has args.${key} ${describe(value)}; expected a number`);
      if (value !== undefined) spans[key][i] = value as number;
    }
  }
  const counts = new GrowingTable(COUNTERS);
  for (const event of events) {
    if (event.ph !== 'C') continue;
    const ts = nanoseconds(event.ts, `ts of '${event.name}'`);
    counts.push({ track: trackOf(event), ts, value: event.args?.['value'] as number });
  }
  const loose = counts.table();
  const instants = { ...loose, dur: new Uint8Array(loose.rows) };
  const trace: Trace = {
    header: parseHeader(other['header']),
    strings,
    tracks,
    spans,
    flows: tableFromJson('flows', FLOWS, other['flows']),
    counters: pickRows(COUNTERS, loose, laneOrder(instants, loose.rows)),
    ...(other['plan'] === undefined ? {} : { plan: tableFromJson('plan', PLAN, other['plan']) }),
    ...(other['kv'] === undefined ? {} : { kv: tableFromJson('kv', KV, other['kv']) }),
  };
  checkTrace(trace);
  return trace;
}

/** Spans of another program's trace: complete events, begin/end pairs (B/E by thread, b/e by id), and counters. */
function foreign(events: ChromeEvent[]): Trace {
  const builder = new TraceBuilder({
    source: 'import',
    producer: 'Chrome trace event JSON',
    device: { name: 'unknown', units: 0, unitKind: 'sm' },
    clock: { unit: 'ns', resolutionNs: 1, method: 'import', synced: false },
    intrusive: false,
  });
  const names = new Map<string, string>();
  for (const { ph, name, pid, tid, args } of events) {
    if (ph !== 'M' || typeof args?.['name'] !== 'string') continue;
    if (name === 'process_name') names.set(`${pid}`, args['name']);
    if (name === 'thread_name') names.set(`${pid}/${tid}`, args['name']);
  }
  const timed = events.filter((event) => event.ts !== undefined);
  const zero = earliest(timed);
  const at = (event: ChromeEvent): number => nanoseconds(event.ts, `ts of '${event.name}'`) - zero;
  const lane = ({ pid, tid }: ChromeEvent): number => {
    const device = builder.track('device', names.get(`${pid}`) ?? `process ${pid}`);
    return builder.track('cpu', names.get(`${pid}/${tid}`) ?? `thread ${tid}`, device);
  };
  const open = new Map<string, ChromeEvent[]>();
  const key = ({ ph, pid, tid, cat, id, id2 }: ChromeEvent): string =>
    ph === 'B' || ph === 'E' ? `${pid}/${tid}` : `${pid}/${cat}/${id ?? id2?.local}`;
  for (const event of timed) {
    if (event.ph === 'X') {
      const start = at(event);
      const length = nanoseconds(event.dur, `dur of '${event.name}'`);
      builder.span({ track: lane(event), ...parseName(event.name), start, end: start + length });
    } else if (event.ph === 'B' || event.ph === 'b') {
      if (!open.has(key(event))) open.set(key(event), []);
      open.get(key(event))!.push(event);
    } else if (event.ph === 'E' || event.ph === 'e') {
      const begin = open.get(key(event))?.pop();
      if (begin)
        builder.span({ track: lane(begin), ...parseName(begin.name), start: at(begin), end: at(event) });
    } else if (event.ph === 'C') {
      for (const [series, value] of Object.entries(event.args ?? {})) {
        const device = builder.track('device', names.get(`${event.pid}`) ?? `process ${event.pid}`);
        const track = builder.track('counter', `${event.name} ${series}`, device);
        if (typeof value === 'number') builder.counter(track, at(event), value);
      }
    }
  }
  return builder.finish();
}

function earliest(events: ChromeEvent[]): number {
  let least = Infinity;
  for (const { ts, name } of events) least = Math.min(least, nanoseconds(ts, `ts of '${name}'`));
  return least === Infinity ? 0 : least;
}
