/** What must hold in every trace; checked when one is finished and when one is loaded. */
import { firstPartialOverlap } from './lanes.ts';
import {
  CAUSES,
  FLOW_KINDS,
  KV_OPS,
  rootTrack,
  SPAN_CLASSES,
  TRACK_KINDS,
  type Trace,
  type Track,
} from './trace.ts';

/** @throws Error with the first rule that the trace breaks, and where */
export function checkTrace(trace: Trace): void {
  checkTracks(trace.tracks);
  checkReferences(trace);
  checkOrder(trace);
  checkFlows(trace);
  checkShares(trace);
}

function checkTracks(tracks: readonly Track[]): void {
  tracks.forEach(({ kind, parent, name }, number) => {
    if (!TRACK_KINDS.includes(kind))
      throw new Error(
        `trace: track ${number} '${name}' is of kind '${kind}'; expected ${TRACK_KINDS.join(', ')}`,
      );
    // Parents come first, so walking up always ends.
    if (!Number.isInteger(parent) || parent < -1 || parent >= number)
      throw new Error(
        `trace: track ${number} '${name}' has parent ${parent}; expected an earlier track, or -1`,
      );
  });
}

function checkReferences({ spans, flows, counters, plan, kv, strings, tracks }: Trace): void {
  const check = (name: string, column: ArrayLike<number>, end: number, start = 0): void => {
    for (let i = 0; i < column.length; i++) {
      if (column[i] < start || column[i] >= end)
        throw new Error(`trace: ${name}[${i}] is ${column[i]}; expected ${start} to ${end - 1}`);
    }
  };
  check('spans.track', spans.track, tracks.length);
  check('spans.name', spans.name, strings.length);
  check('spans.cls', spans.cls, SPAN_CLASSES.length);
  check('spans.cause', spans.cause, CAUSES.length);
  check('flows.from', flows.from, spans.rows);
  check('flows.to', flows.to, spans.rows);
  check('flows.kind', flows.kind, FLOW_KINDS.length);
  check('counters.track', counters.track, tracks.length);
  if (plan) check('plan.span', plan.span, spans.rows, -1);
  if (kv) check('kv.op', kv.op, KV_OPS.length);
}

function checkOrder({ spans, counters, kv, tracks, strings }: Trace): void {
  const { ts, dur, track } = spans;
  for (let i = 1; i < spans.rows; i++) {
    const sorted =
      track[i] > track[i - 1] ||
      (track[i] === track[i - 1] && (ts[i] > ts[i - 1] || (ts[i] === ts[i - 1] && dur[i] <= dur[i - 1])));
    if (!sorted)
      throw new Error(`trace: span ${i} is out of order; expected track, then start, then longest first`);
  }
  const overlap = firstPartialOverlap(
    spans,
    Uint32Array.from(ts, (_, row) => row),
  );
  if (overlap >= 0) {
    const name = strings[spans.name[overlap]];
    throw new Error(
      `trace: span ${overlap} '${name}' overlaps another of track '${tracks[track[overlap]].name}' in part: move it to a sub-lane`,
    );
  }
  for (let i = 1; i < counters.rows; i++) {
    const step = counters.track[i] - counters.track[i - 1] || counters.ts[i] - counters.ts[i - 1];
    if (step < 0) throw new Error(`trace: counter value ${i} is out of order; expected track, then time`);
  }
  for (let i = 1; i < (kv?.rows ?? 0); i++) {
    if (kv!.ts[i] < kv!.ts[i - 1]) throw new Error(`trace: KV event ${i} is earlier than the one before`);
  }
}

function checkFlows({ flows, spans, strings }: Trace): void {
  for (let i = 0; i < flows.rows; i++) {
    const from = flows.from[i];
    const to = flows.to[i];
    if (spans.ts[from] > spans.ts[to]) {
      const names = `'${strings[spans.name[from]]}' to '${strings[spans.name[to]]}'`;
      throw new Error(
        `trace: flow ${i} from ${names} points back in time by ${spans.ts[from] - spans.ts[to]} ns; expected forward`,
      );
    }
  }
}

/** Resource lanes of one device never hold more than the whole of it. */
function checkShares({ spans, tracks, header, strings }: Trace): void {
  const { units } = header.device;
  if (units === 0) return;
  const edges = new Map<number, { at: number; change: number; span: number }[]>();
  for (let i = 0; i < spans.rows; i++) {
    if (spans.share[i] === 0 || spans.dur[i] === 0 || tracks[spans.track[i]].kind !== 'res') continue;
    const root = rootTrack(tracks, spans.track[i]);
    if (!edges.has(root)) edges.set(root, []);
    edges
      .get(root)!
      .push(
        { at: spans.ts[i], change: spans.share[i], span: i },
        { at: spans.ts[i] + spans.dur[i], change: -spans.share[i], span: i },
      );
  }
  for (const list of edges.values()) {
    list.sort((a, b) => a.at - b.at || a.change - b.change); // what ends makes room for what begins
    let sum = 0;
    for (const { at, change, span } of list) {
      sum += change;
      if (sum > units)
        throw new Error(
          `trace: at ${at} ns, where '${strings[spans.name[span]]}' begins, shares add up to ${sum} of ${units} ${header.device.unitKind}s; expected at most all`,
        );
    }
  }
}
