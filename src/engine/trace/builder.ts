/**
 * Records a trace: cheap appends while something runs, order and sub-lanes at the end. Recorders for the device
 * profile, the simulator, the engine's steps and attention plans are the other files named record*.
 */
import { checkTrace } from './check.ts';
import { GrowingTable, pickRows, type Row } from './columns.ts';
import { laneOrder, splitLanes } from './lanes.ts';
import {
  COUNTERS,
  FLOW_KINDS,
  FLOWS,
  KV,
  KV_OPS,
  PLAN,
  SPAN_CLASSES,
  SPANS,
  type FlowKind,
  type KvOp,
  type SpanClass,
  type Trace,
  type TraceHeader,
  type Track,
  type TrackKind,
} from './trace.ts';

type SpanNumbers = Omit<Row<typeof SPANS>, 'ts' | 'dur' | 'track' | 'name' | 'cls'>;

export interface SpanInput extends SpanNumbers {
  track: number;
  name: string;
  cls: SpanClass;
  /** Nanoseconds. Both ends are rounded, so spans that touch still touch. */
  start: number;
  end: number;
}

export class TraceBuilder {
  readonly #header: TraceHeader;
  readonly #strings: string[] = [];
  readonly #stringIndex = new Map<string, number>();
  readonly #tracks: Track[] = [];
  readonly #trackIndex = new Map<string, number>();
  readonly #spans = new GrowingTable(SPANS);
  readonly #flows = new GrowingTable(FLOWS);
  readonly #counters = new GrowingTable(COUNTERS);
  readonly #plan = new GrowingTable(PLAN);
  readonly #kv = new GrowingTable(KV);

  constructor(header: TraceHeader) {
    this.#header = header;
  }

  /** The track of that name under that parent; made when there is none. */
  track(kind: TrackKind, name: string, parent = -1): number {
    const key = `${parent}/${kind}/${name}`;
    let track = this.#trackIndex.get(key);
    if (track === undefined) {
      const index = this.#tracks.filter((other) => other.parent === parent && other.kind === kind).length;
      track = this.#tracks.push({ kind, index, parent, name }) - 1;
      this.#trackIndex.set(key, track);
    }
    return track;
  }

  /** @returns the span's handle, for flows and plan items. @throws Error when it ends before it starts */
  span(input: SpanInput): number {
    const { track, start, end, name, cls, layer, nb, iter, req, share, flops, bytes, tiles, cause } = input;
    const ts = Math.round(start);
    const dur = Math.round(end) - ts;
    if (!(dur >= 0))
      throw new Error(`span '${name}' starts at ${start} and ends at ${end} ns; expected a later end`);
    const text = this.#string(name);
    const kind = SPAN_CLASSES.indexOf(cls);
    return this.#spans.push({
      ts,
      dur,
      track,
      name: text,
      cls: kind,
      layer,
      nb,
      iter,
      req,
      share,
      flops,
      bytes,
      tiles,
      cause,
    });
  }

  flow(from: number, to: number, kind: FlowKind): void {
    this.#flows.push({ from, to, kind: FLOW_KINDS.indexOf(kind) });
  }

  counter(track: number, ns: number, value: number): void {
    this.#counters.push({ track, ts: Math.round(ns), value });
  }

  planItem(item: Row<typeof PLAN>): void {
    this.#plan.push(item);
  }

  kvEvent(ns: number, page: number, op: KvOp, req = -1): void {
    this.#kv.push({ ts: Math.round(ns), page, req, op: KV_OPS.indexOf(op) });
  }

  get spanCount(): number {
    return this.#spans.rows;
  }

  /** Sorts, splits overlapping lanes and checks. @throws Error when the trace breaks a rule of check.ts */
  finish(): Trace {
    const tracks = this.#tracks.map((track) => ({ ...track }));
    const raw = this.#spans.table();
    raw.track.set(splitLanes(raw, raw.rows, tracks));
    const order = laneOrder(raw, raw.rows);
    const spans = pickRows(SPANS, raw, order);
    const place = new Uint32Array(raw.rows);
    order.forEach((row, index) => (place[row] = index));

    const flows = this.#flows.table();
    for (let i = 0; i < flows.rows; i++) {
      flows.from[i] = place[flows.from[i]];
      flows.to[i] = place[flows.to[i]];
    }
    const plan = this.#plan.table();
    for (let i = 0; i < plan.rows; i++) if (plan.span[i] >= 0) plan.span[i] = place[plan.span[i]];
    const loose = this.#counters.table();
    const instants = { ...loose, dur: new Uint8Array(loose.rows) };
    const kv = this.#kv.table();
    const byTime = Uint32Array.from(kv.ts, (_, row) => row).sort((a, b) => kv.ts[a] - kv.ts[b] || a - b);
    const trace: Trace = {
      header: this.#header,
      strings: [...this.#strings],
      tracks,
      spans,
      flows,
      counters: pickRows(COUNTERS, loose, laneOrder(instants, loose.rows)),
      ...(plan.rows > 0 ? { plan } : {}),
      ...(kv.rows > 0 ? { kv: pickRows(KV, kv, byTime) } : {}),
    };
    checkTrace(trace);
    return trace;
  }

  #string(text: string): number {
    let index = this.#stringIndex.get(text);
    if (index === undefined) {
      index = this.#strings.push(text) - 1;
      this.#stringIndex.set(text, index);
    }
    return index;
  }
}
