/**
 * A trace as columnar JSON. Starts of spans are differences to the span before on the same track, so that numbers stay
 * short. Reading is strict: an unknown field, a wrong type, a number that does not fit or a broken rule (check.ts) is an
 * error that says where.
 */
import { checkTrace } from './check.ts';
import { describe, tableFromJson, tableToJson } from './columns.ts';
import { parseHeader } from './header.ts';
import {
  COUNTERS,
  FLOWS,
  KV,
  PLAN,
  SPANS,
  TRACE_FORMAT,
  TRACE_VERSION,
  type Spans,
  type Trace,
  type Track,
} from './trace.ts';

export function traceToJson(trace: Trace): string {
  const { header, strings, tracks, spans, flows, counters, plan, kv } = trace;
  return JSON.stringify({
    fmt: TRACE_FORMAT,
    v: TRACE_VERSION,
    header,
    strings,
    tracks,
    spans: tableToJson(SPANS, withDifferences(spans)),
    flows: tableToJson(FLOWS, flows),
    counters: tableToJson(COUNTERS, counters),
    ...(plan ? { plan: tableToJson(PLAN, plan) } : {}),
    ...(kv ? { kv: tableToJson(KV, kv) } : {}),
  });
}

/** @throws Error that says what is wrong with the text */
export function parseTrace(text: string): Trace {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new Error(`trace: not JSON (${(error as Error).message}); expected a file that --trace wrote`, {
      cause: error,
    });
  }
  const { fmt, v, header, strings, tracks, spans, flows, counters, plan, kv, ...rest } = record(
    'the file',
    json,
  );
  if (fmt !== TRACE_FORMAT)
    throw new Error(
      `trace: 'fmt' is ${describe(fmt)}; expected "${TRACE_FORMAT}" (a Chrome trace? those are imported, not read)`,
    );
  if (v !== TRACE_VERSION)
    throw new Error(`trace: version ${describe(v)}; this reader knows ${TRACE_VERSION}: record it again`);
  const unknown = Object.keys(rest);
  if (unknown.length > 0) throw new Error(`trace: '${unknown[0]}' is no section of version ${TRACE_VERSION}`);
  const trace: Trace = {
    header: parseHeader(header),
    strings: list('strings', strings).map((text, i) => {
      if (typeof text === 'string') return text;
      throw new Error(`trace: 'strings[${i}]' is ${describe(text)}; expected text`);
    }),
    tracks: list('tracks', tracks).map(parseTrack),
    spans: withStarts(tableFromJson('spans', SPANS, spans)),
    flows: tableFromJson('flows', FLOWS, flows),
    counters: tableFromJson('counters', COUNTERS, counters),
    ...(plan === undefined ? {} : { plan: tableFromJson('plan', PLAN, plan) }),
    ...(kv === undefined ? {} : { kv: tableFromJson('kv', KV, kv) }),
  };
  checkTrace(trace);
  return trace;
}

function withDifferences(spans: Spans): Spans {
  const ts = spans.ts.map((start, i) => (isFirst(spans, i) ? start : start - spans.ts[i - 1]));
  return { ...spans, ts };
}

/** @throws Error when a start is beyond what a number holds exactly */
function withStarts(spans: Spans): Spans {
  const ts = new Float64Array(spans.rows);
  for (let i = 0; i < spans.rows; i++) {
    ts[i] = spans.ts[i] + (isFirst(spans, i) ? 0 : ts[i - 1]);
    if (!Number.isSafeInteger(ts[i] + spans.dur[i]))
      throw new Error(`trace: span ${i} lies beyond 2^53 ns; expected times from a common zero`);
  }
  return { ...spans, ts };
}

function isFirst({ track }: Spans, i: number): boolean {
  return i === 0 || track[i] !== track[i - 1];
}

function parseTrack(json: unknown, number: number): Track {
  const { kind, index, parent, name, ...rest } = record(`tracks[${number}]`, json);
  if (typeof kind !== 'string' || typeof name !== 'string' || !isInteger(index) || !isInteger(parent))
    throw new Error(`trace: 'tracks[${number}]' is ${describe(json)}; expected kind, index, parent and name`);
  const unknown = Object.keys(rest);
  if (unknown.length > 0) throw new Error(`trace: 'tracks[${number}].${unknown[0]}' is no field of a track`);
  return { kind: kind as Track['kind'], index, parent, name }; // check.ts checks kind and parent
}

function isInteger(value: unknown): value is number {
  return Number.isInteger(value);
}

function record(name: string, json: unknown): Record<string, unknown> {
  if (typeof json === 'object' && json !== null && !Array.isArray(json))
    return json as Record<string, unknown>;
  throw new Error(`trace: '${name}' is ${describe(json)}; expected an object`);
}

function list(name: string, json: unknown): unknown[] {
  if (Array.isArray(json)) return json;
  throw new Error(`trace: '${name}' is ${describe(json)}; expected a list`);
}
