/**
 * Chrome's trace event JSON, which chrome://tracing and ui.perfetto.dev load.
 *
 * Rules, after the trace event format and what Perfetto's importer (json_trace_parser, slice_tracker) refuses:
 * - pid is the device, tid the lane; tids are unique in the whole file, since the importer names threads by tid alone.
 * - Complete events (X) on lanes that nest; requests, and lanes that do not nest, are b/e pairs with an id2.local each.
 * - Names begin with the class ("C|kqv.1"): colours are hashed from names.
 * - ts and dur are microseconds. The importer truncates ts * 1000, so a number whose product falls short is taken one
 *   step up; rounding gives the nanoseconds back exactly.
 * - Flows (s, f with bp "e") bind to the slice that is open at their time, so both ends lie inside complete events.
 * - No event has an array at its top level. What has no event of its own travels in otherData.
 */
import { tableToJson } from './columns.ts';
import { firstPartialOverlap } from './lanes.ts';
import { FLOW_KINDS, FLOWS, KV, PLAN, rootTrack, SPAN_CLASSES, SPANS, type Trace } from './trace.ts';

export interface ChromeEvent {
  ph: string;
  name: string;
  pid: number;
  tid: number;
  ts?: number; // us
  dur?: number; // us
  cat?: string;
  id?: number;
  id2?: { local: string };
  bp?: string;
  args?: Record<string, unknown>;
}

export interface ChromeTrace {
  displayTimeUnit: 'ns';
  otherData: Record<string, unknown>;
  traceEvents: ChromeEvent[];
}

/** Columns that travel as arguments of an event; those that say nothing are left out. */
export const ARGUMENTS = [
  'layer',
  'nb',
  'iter',
  'req',
  'share',
  'flops',
  'bytes',
  'tiles',
  'cause',
] as const satisfies (keyof typeof SPANS)[];

/** Nanoseconds as microseconds: three decimals, or the next number up where ts * 1000 would fall below. */
export function toMicroseconds(ns: number): number {
  const us = ns / 1000;
  return Math.trunc(us * 1000) < ns ? us * (1 + Number.EPSILON) : us;
}

export function traceToChrome(trace: Trace): ChromeTrace {
  const { header, tracks, strings, flows, plan, kv } = trace;
  const events: ChromeEvent[] = [...metadata(trace)];
  const timed: { ts: number; order: number; event: ChromeEvent }[] = [];
  // At one time: ends, then counters, begins (outer first), then flows, which need their slices open.
  const add = (ns: number, order: number, event: Omit<ChromeEvent, 'ts'>): void => {
    timed.push({ ts: ns, order, event: { ...event, ts: toMicroseconds(ns) } });
  };
  const isAsync = asyncTracks(trace);
  addSpans(trace, isAsync, add);
  addFlows(trace, isAsync, add);
  const { counters } = trace;
  for (let i = 0; i < counters.rows; i++) {
    const track = counters.track[i];
    const { pid, tid } = place(trace, track);
    add(counters.ts[i], 1, {
      ph: 'C',
      name: tracks[track].name,
      pid,
      tid,
      args: { value: counters.value[i] },
    });
  }
  timed.sort((a, b) => a.ts - b.ts || a.order - b.order);
  for (const { event } of timed) events.push(event);
  return {
    displayTimeUnit: 'ns',
    otherData: {
      fmt: 'lanes',
      header,
      tracks,
      strings,
      flows: tableToJson(FLOWS, flows),
      ...(plan ? { plan: tableToJson(PLAN, plan) } : {}),
      ...(kv ? { kv: tableToJson(KV, kv) } : {}),
    },
    traceEvents: events,
  };
}

type Add = (ns: number, order: number, event: Omit<ChromeEvent, 'ts'>) => void;

/** The numbers that a track goes by: pids from 1, tids above all pids. */
function place({ tracks }: Trace, track: number): { pid: number; tid: number } {
  return { pid: rootTrack(tracks, track) + 1, tid: tracks.length + track + 1 };
}

function metadata(trace: Trace): ChromeEvent[] {
  const { tracks, spans, counters } = trace;
  const used = new Set([...spans.track, ...counters.track]);
  const events: ChromeEvent[] = [];
  const roots = new Set([...used].map((track) => rootTrack(tracks, track)));
  for (const root of [...roots].sort((a, b) => a - b)) {
    const { pid, tid } = place(trace, root);
    events.push(
      { ph: 'M', name: 'process_name', pid, tid, args: { name: tracks[root].name } },
      { ph: 'M', name: 'process_sort_index', pid, tid, args: { sort_index: root } },
    );
  }
  for (const track of [...used].sort((a, b) => a - b)) {
    const { pid, tid } = place(trace, track);
    events.push(
      { ph: 'M', name: 'thread_name', pid, tid, args: { name: tracks[track].name } },
      { ph: 'M', name: 'thread_sort_index', pid, tid, args: { sort_index: track } },
    );
  }
  return events;
}

/** Tracks whose spans are b/e pairs. */
function asyncTracks({ tracks, spans }: Trace): boolean[] {
  const isAsync = tracks.map(({ kind }) => kind === 'req');
  for (let from = 0; from < spans.rows;) {
    let to = from;
    while (to < spans.rows && spans.track[to] === spans.track[from]) to++;
    const rows = Uint32Array.from({ length: to - from }, (_, i) => from + i);
    if (firstPartialOverlap(spans, rows) >= 0) isAsync[spans.track[from]] = true;
    from = to;
  }
  return isAsync;
}

function addSpans(trace: Trace, isAsync: boolean[], add: Add): void {
  const { spans, strings } = trace;
  for (let i = 0; i < spans.rows; i++) {
    const track = spans.track[i];
    const cls = SPAN_CLASSES[spans.cls[i]];
    const args: Record<string, unknown> = { span: i };
    for (const key of ARGUMENTS) if (spans[key][i] !== SPANS[key].missing) args[key] = spans[key][i];
    const event = { name: `${cls}|${strings[spans.name[i]]}`, cat: cls, ...place(trace, track), args };
    const end = spans.ts[i] + spans.dur[i];
    if (isAsync[track]) {
      const id2 = { local: `0x${(i + 1).toString(16)}` };
      add(spans.ts[i], 2, { ...event, ph: 'b', id2 });
      const { args: _, ...bare } = event;
      add(end, spans.dur[i] === 0 ? 3 : 0, { ...bare, ph: 'e', id2 });
    } else add(spans.ts[i], 2, { ...event, ph: 'X', dur: toMicroseconds(spans.dur[i]) });
  }
}

/** From the last nanosecond of one span to the first of the other; spans without a length have no room for an end. */
function addFlows(trace: Trace, isAsync: boolean[], add: Add): void {
  const { flows, spans } = trace;
  for (let i = 0; i < flows.rows; i++) {
    const from = flows.from[i];
    const to = flows.to[i];
    if ([from, to].some((span) => isAsync[spans.track[span]] || spans.dur[span] === 0)) continue;
    const start = Math.min(spans.ts[from] + spans.dur[from] - 1, spans.ts[to]);
    const event = { name: FLOW_KINDS[flows.kind[i]], cat: 'flow', id: i + 1 };
    add(start, 4, { ...event, ph: 's', ...place(trace, spans.track[from]) });
    add(spans.ts[to], 5, { ...event, ph: 'f', bp: 'e', ...place(trace, spans.track[to]) });
  }
}
