/**
 * The one trace format: what ran where and when, on any device. Spans lie on tracks (lanes); flows tie spans; counters,
 * the attention plan's work items and KV page events are optional sections. In memory: typed arrays. In files:
 * columnar JSON (json.ts). For other viewers: Chrome's JSON, which Perfetto loads (chrome.ts).
 *
 * Times are whole nanoseconds from a common zero. What must hold is in check.ts.
 */
import type { Schema, Table } from './columns.ts';

export const TRACE_FORMAT = 'lanes';
export const TRACE_VERSION = 1;

/**
 * What a track stands for: `device` (a group: one device, or the host), `res` (a resource lane: compute, memory,
 * network), `stream` (a queue in order: stages, dispatches), `sm`, `wg` (workgroup), `cpu` (a thread or a phase of it),
 * `req` (a request), `link`, `counter`.
 */
export const TRACK_KINDS = ['device', 'res', 'stream', 'sm', 'wg', 'cpu', 'req', 'link', 'counter'] as const;
export type TrackKind = (typeof TRACK_KINDS)[number];

export interface Track {
  kind: TrackKind;
  /** Its place among its siblings. */
  index: number;
  /** Number of the track that it belongs to; -1: none. A sub-lane's parent has the same kind as it has. */
  parent: number;
  name: string;
}

/** What bounds a span: compute, memory, network; or what else it is. */
export const SPAN_CLASSES = ['C', 'M', 'N', 'host', 'copy', 'wait'] as const;
export type SpanClass = (typeof SPAN_CLASSES)[number];

/** What a span waited for before it began. */
export const CAUSES = ['none', 'dependency', 'budget', 'launch', 'host', 'link'] as const;

export const FLOW_KINDS = ['dep', 'token', 'kv'] as const;
export type FlowKind = (typeof FLOW_KINDS)[number];

export const KV_OPS = ['alloc', 'free', 'share', 'out', 'in'] as const;
export type KvOp = (typeof KV_OPS)[number];

const none = -1;

export const SPANS = {
  ts: { type: 'time', missing: 0 },
  dur: { type: 'time', missing: 0 },
  track: { type: 'u32', missing: 0 },
  name: { type: 'u32', missing: 0 }, // of `strings`
  cls: { type: 'u8', missing: 0 }, // of SPAN_CLASSES
  layer: { type: 'i16', missing: none },
  nb: { type: 'i16', missing: none }, // nano-batch, from 1
  iter: { type: 'i32', missing: none }, // iteration (step of the engine)
  req: { type: 'i32', missing: none }, // request
  share: { type: 'u16', missing: 0 }, // units of the device (SMs, workgroups); 0: not said
  flops: { type: 'real', missing: 0 },
  bytes: { type: 'real', missing: 0 }, // moved to or from memory, or over the link for class N
  tiles: { type: 'u32', missing: 0 },
  cause: { type: 'u8', missing: 0 }, // of CAUSES
} as const satisfies Schema;

export const FLOWS = {
  from: { type: 'u32', missing: 0 }, // number of a span
  to: { type: 'u32', missing: 0 },
  kind: { type: 'u8', missing: 0 }, // of FLOW_KINDS
} as const satisfies Schema;

export const COUNTERS = {
  track: { type: 'u32', missing: 0 },
  ts: { type: 'time', missing: 0 },
  value: { type: 'real', missing: 0 },
} as const satisfies Schema;

/** Work items of an attention plan: workgroup `wg` computes rows from qStart of `req` for KV [kvStart, kvEnd). */
export const PLAN = {
  wg: { type: 'u32', missing: 0 },
  req: { type: 'i32', missing: none },
  head: { type: 'u32', missing: 0 }, // KV head
  qStart: { type: 'u32', missing: 0 },
  kvStart: { type: 'u32', missing: 0 },
  kvEnd: { type: 'u32', missing: 0 },
  cost: { type: 'real', missing: 0 },
  span: { type: 'i32', missing: none }, // the span that ran it
} as const satisfies Schema;

export const KV = {
  ts: { type: 'time', missing: 0 },
  page: { type: 'u32', missing: 0 },
  req: { type: 'i32', missing: none },
  op: { type: 'u8', missing: 0 }, // of KV_OPS
} as const satisfies Schema;

export type Spans = Table<typeof SPANS>;
export type Flows = Table<typeof FLOWS>;
export type Counters = Table<typeof COUNTERS>;
export type PlanItems = Table<typeof PLAN>;
export type KvEvents = Table<typeof KV>;

export type Facts = Record<string, string | number | boolean>;

export interface TraceHeader {
  /** Who measured: simulated figures carry the word "model" wherever they are shown. */
  source: 'sim' | 'webgpu' | 'cuda' | 'cpu' | 'import';
  producer: string; // "nanoflow 0.1.0"
  date?: string; // ISO 8601; left out by the simulator, whose traces are bit-identical for equal seeds
  commit?: string;
  command?: string;
  device: {
    name: string;
    units: number; // SMs or workgroups: the whole device; 0: not known
    unitKind: 'sm' | 'workgroup' | 'core';
    peakFlops?: number; // per second
    peakBandwidth?: number; // bytes per second
    linkBandwidth?: number;
  };
  clock: {
    unit: 'ns';
    /** Smallest difference that means something; browsers round timestamps to 65536. */
    resolutionNs: number;
    /** "timestamp-query", "performance.now", "model", ... */
    method: string;
    /** Tracks of other clocks are aligned to within this many ns; false: not aligned. */
    synced: false | number;
  };
  /** True when measuring slowed what was measured (a pass for each call, a flush for each step). */
  intrusive: boolean;
  workload?: Facts;
  plan?: Facts;
  modelVersion?: string; // of the cost model, for sim
}

export interface Trace {
  header: TraceHeader;
  strings: readonly string[];
  tracks: readonly Track[];
  spans: Spans;
  flows: Flows;
  counters: Counters;
  plan?: PlanItems;
  kv?: KvEvents;
}

/** The group that a track belongs to: its outermost parent. */
export function rootTrack(tracks: readonly Track[], track: number): number {
  while (tracks[track].parent >= 0) track = tracks[track].parent;
  return track;
}

/** The lane that a sub-lane was split from, or the track itself. */
export function mainLane(tracks: readonly Track[], track: number): number {
  for (;;) {
    const { kind, parent } = tracks[track];
    if (parent < 0 || kind === 'device' || tracks[parent].kind !== kind) return track;
    track = parent;
  }
}
