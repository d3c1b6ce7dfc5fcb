/**
 * A device's profile (timestamps around each call of a program) as spans: the dispatches on their streams, and on the
 * lanes what each of them holds; what runs on a side stream has sub-lanes. Timestamps lie around whole dispatches, so the
 * parts of a joined one are drawn as long as it: a lane's busy time is an upper bound there.
 */
import type { CallTiming } from '../device.ts';
import type { KernelCall, ProgramCall } from '../kernels/calls.ts';
import type { Lane } from '../model/graph.ts';
import type { TraceBuilder } from './builder.ts';
import type { SpanClass } from './trace.ts';

export const LANE_CLASS: Record<Lane, SpanClass> = { compute: 'C', memory: 'M', network: 'N' };

export interface CallRecording {
  /** Name of the group of tracks. */
  device: string;
  /** The calls of the profiled programs, in order; timings that do not name their call are matched by label. */
  calls: readonly ProgramCall[];
  timings: readonly CallTiming[];
  iter?: number;
  /** Where the first call begins; ns. */
  zero?: number;
  /** Workgroups of the whole device (the header's units): shares of joined calls are given when they fit. */
  units?: number;
}

/** The lane that bounds a call, by its kernel: matrix products and prefill attention compute, the rest moves bytes. */
export function laneOf(call: KernelCall): Lane {
  if (call.kernel === 'gemm' || call.kernel === 'moe_gemm') return 'compute';
  return call.kernel === 'attention' && call.tile === 128 ? 'compute' : 'memory';
}

/** "layers.3.kqv" -> layer 3, name "kqv"; a call on a slot of row ranges is a nano-operation, numbered by the slot. */
export function callFacts({ label, range = 0 }: Pick<KernelCall, 'label' | 'range'>): {
  name: string;
  layer?: number;
  nb?: number;
} {
  const [, layer, operation] = /^layers\.(\d+)\.(.*)$/.exec(label) ?? [undefined, undefined, label];
  return {
    name: range > 0 ? `${operation}.${range}` : operation,
    layer: layer === undefined ? undefined : Number(layer),
    nb: range > 0 ? range : undefined,
  };
}

/** @returns where the last call ends; ns */
export function recordCalls(builder: TraceBuilder, recording: CallRecording): number {
  const { timings, iter, zero = 0, units = 0 } = recording;
  // Devices that cannot join calls run and time the parts of a joined one for themselves.
  const labels = new Set(timings.map(({ label }) => label));
  const calls = recording.calls.flatMap((call): readonly ProgramCall[] =>
    call.kernel === 'joined' && !labels.has(call.label) ? call.parts : [call],
  );
  const device = builder.track('device', recording.device);
  let next = 0; // the call that the next timing is looked for from
  const callOf = (timing: CallTiming): ProgramCall => {
    if (timing.call) return timing.call;
    while (next < calls.length && calls[next].label !== timing.label) next++;
    const call = calls[next++];
    if (call) return call;
    throw new Error(
      `the profile holds '${timing.label}', which is no call of the program (or out of order): pass the calls that were profiled`,
    );
  };
  let end = zero;
  let origin = zero; // of the program at hand: starts count from its first call
  let first = true;
  for (const timing of timings) {
    const call = callOf(timing);
    const streamOf = call.kernel === 'joined' ? 0 : (call.stream ?? 0);
    const trackOf = (kind: 'stream' | 'res', name: string): number => {
      const main = builder.track(kind, name, device);
      return streamOf > 0 ? builder.track(kind, `stream ${streamOf}`, main) : main;
    };
    const relative = timing.startNanoseconds;
    // The first call of a program begins at 0; those of a side stream may begin before calls that stand before them.
    if (relative === 0 && !first) origin = end;
    first = false;
    const start = relative === undefined ? end : origin + relative;
    const stop = start + timing.microseconds * 1000;
    end = Math.max(end, stop);
    const parts = call.kernel === 'joined' ? call.parts : [call];
    const classes = parts.map((part) => LANE_CLASS[laneOf(part)]);
    const common = { start, end: stop, iter };
    const described = parts.map(callFacts);
    const cls = classes.includes('C') ? 'C' : classes[0];
    const name = described.map((part) => part.name).join(' | ');
    builder.span({ ...common, ...described[0], track: trackOf('stream', 'dispatches'), cls, name });
    const total = parts.reduce((sum, part) => sum + (part.workgroups ?? Infinity), 0);
    parts.forEach((part, i) => {
      const track = trackOf('res', laneOf(part));
      const share = parts.length > 1 && total <= units ? part.workgroups : undefined;
      builder.span({ ...common, ...described[i], track, cls: classes[i], share });
    });
  }
  return end;
}
