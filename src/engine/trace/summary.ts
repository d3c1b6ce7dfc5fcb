/** A trace as a few lines of text: how busy each lane was, how idle the device was between iterations, what took longest. */
import { Union } from './lanes.ts';
import { mainLane, rootTrack, SPAN_CLASSES, type Trace } from './trace.ts';

export interface LaneSummary {
  device: string;
  lane: string;
  kind: string;
  spans: number;
  /** Nanoseconds in which something ran on the lane or one of its sub-lanes. */
  busy: number;
  /** Of the time from the trace's first start to its last end. */
  share: number;
}

export interface NameSummary {
  name: string; // with its class: "C|kqv"
  count: number;
  total: number; // ns, the sum of its spans
}

export interface TraceSummary {
  length: number; // ns
  lanes: LaneSummary[];
  /** Time between the last end of an iteration on resource lanes and the first start of a later one; ns. */
  idleBetweenIterations: number;
  iterations: number;
  top: NameSummary[];
}

/** `top`: how many names to list. Numbers at the end ("kqv.1", "layers.3.") do not make a name of their own. */
export function summarize(trace: Trace, top = 8): TraceSummary {
  const { spans, tracks, strings } = trace;
  let first = Infinity;
  let last = -Infinity;
  const rowsOf = new Map<number, number[]>();
  const names = new Map<string, NameSummary>();
  const hasLanes = tracks.some(({ kind }) => kind === 'res');
  for (let i = 0; i < spans.rows; i++) {
    first = Math.min(first, spans.ts[i]);
    last = Math.max(last, spans.ts[i] + spans.dur[i]);
    const lane = mainLane(tracks, spans.track[i]);
    if (!rowsOf.has(lane)) rowsOf.set(lane, []);
    rowsOf.get(lane)!.push(i);
    if (tracks[lane].kind === 'stream' && hasLanes) continue; // its spans are on the lanes as well
    const name = `${SPAN_CLASSES[spans.cls[i]]}|${strings[spans.name[i]].replace(/\.\d+$/, '')}`;
    const sum = names.get(name) ?? { name, count: 0, total: 0 };
    names.set(name, { name, count: sum.count + 1, total: sum.total + spans.dur[i] });
  }
  const length = spans.rows === 0 ? 0 : last - first;
  const lanes = [...rowsOf]
    .sort(([a], [b]) => a - b)
    .map(([lane, rows]): LaneSummary => {
      rows.sort((a, b) => spans.ts[a] - spans.ts[b]);
      const union = new Union();
      for (const row of rows) union.add(spans.ts[row], spans.ts[row] + spans.dur[row]);
      return {
        device: tracks[rootTrack(tracks, lane)].name,
        lane: tracks[lane].name,
        kind: tracks[lane].kind,
        spans: rows.length,
        busy: union.busy,
        share: length > 0 ? union.busy / length : 0,
      };
    });
  return {
    length,
    lanes,
    ...idleTime(trace),
    top: [...names.values()].sort((a, b) => b.total - a.total || (a.name < b.name ? -1 : 1)).slice(0, top),
  };
}

function idleTime({ spans, tracks }: Trace): { idleBetweenIterations: number; iterations: number } {
  const bounds = new Map<number, { start: number; end: number }>();
  for (let i = 0; i < spans.rows; i++) {
    const { kind } = tracks[spans.track[i]];
    if (spans.iter[i] < 0 || (kind !== 'res' && kind !== 'stream')) continue;
    const bound = bounds.get(spans.iter[i]) ?? { start: Infinity, end: -Infinity };
    bound.start = Math.min(bound.start, spans.ts[i]);
    bound.end = Math.max(bound.end, spans.ts[i] + spans.dur[i]);
    bounds.set(spans.iter[i], bound);
  }
  const ordered = [...bounds.values()].sort((a, b) => a.start - b.start);
  let end = ordered[0]?.end ?? 0;
  let idle = 0;
  for (const bound of ordered) {
    idle += Math.max(0, bound.start - end);
    end = Math.max(end, bound.end);
  }
  return { idleBetweenIterations: idle, iterations: ordered.length };
}

/** The summary as lines. Simulated traces say "model" in the first one. */
export function printTrace(trace: Trace, top?: number): string[] {
  const { header } = trace;
  const summary = summarize(trace, top);
  const clock =
    header.source === 'sim' ? 'model' : `${header.clock.method}, ${formatNs(header.clock.resolutionNs)}`;
  const lines = [
    `trace of ${header.device.name} (${clock}): ${formatNs(summary.length)}, ${trace.spans.rows} spans${
      header.intrusive ? '; measuring slowed it' : ''
    }`,
  ];
  lines.push(...laneLines(summary.lanes));
  if (summary.iterations > 1) {
    const share = summary.length > 0 ? summary.idleBetweenIterations / summary.length : 0;
    lines.push(
      `  idle between ${summary.iterations} iterations: ${formatNs(summary.idleBetweenIterations)} (${percent(share).trim()})`,
    );
  }
  for (const { name, count, total } of summary.top) {
    lines.push(`  ${formatNs(total).padStart(9)}  ${String(count).padStart(5)} x ${name}`);
  }
  return lines;
}

/** More lanes of a kind than this on one device (requests, workgroups) are one line. */
const MANY = 8;

function laneLines(lanes: readonly LaneSummary[]): string[] {
  const groups = new Map<string, LaneSummary[]>();
  for (const lane of lanes) {
    const key = `${lane.device}/${lane.kind}`;
    groups.set(key, [...(groups.get(key) ?? []), lane]);
  }
  const several = new Set(lanes.map(({ device }) => device)).size > 1;
  const name = ({ device, lane }: LaneSummary): string => (several ? `${device}: ${lane}` : lane);
  const width = Math.min(48, Math.max(0, ...lanes.map((lane) => name(lane).length)));
  return [...groups.values()].flatMap((group) => {
    if (group.length <= MANY) {
      return group.map(
        (lane) =>
          `  ${name(lane).padEnd(width)}  busy ${percent(lane.share)}  ${formatNs(lane.busy).padStart(9)}  in ${lane.spans} spans`,
      );
    }
    const shares = group.map(({ share }) => share);
    const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    const spans = group.reduce((sum, lane) => sum + lane.spans, 0);
    const range = `${percent(Math.min(...shares)).trim()} to ${percent(Math.max(...shares)).trim()}`;
    const many = name({ ...group[0], lane: `${group.length} tracks` });
    return [`  ${many.padEnd(width)}  busy ${percent(mean)}  (${range}) in ${spans} spans`];
  });
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`.padStart(7);
}

export function formatNs(ns: number): string {
  if (ns >= 1e9) return `${(ns / 1e9).toFixed(3)} s`;
  if (ns >= 1e6) return `${(ns / 1e6).toFixed(3)} ms`;
  return ns >= 1e3 ? `${(ns / 1e3).toFixed(2)} us` : `${Math.round(ns)} ns`;
}
