/** The simulator's spans (device/sim/timeline.ts) on the lanes of the simulated device, with their dependencies. */
import type { NanoOperation, Pipeline } from '../pipeline/pipeline.ts';
import type { Cost } from '../model/graph.ts';
import type { TraceBuilder } from './builder.ts';
import { LANE_CLASS } from './recordCalls.ts';
import type { SpanClass } from './trace.ts';

/** One nano-operation that ran; seconds. Those that the pipeline does not list (copies) have a lane of their own. */
export interface ModelSpan {
  id: string;
  layer: number;
  lane: string;
  start: number;
  end: number;
  share: number; // of the pipeline's workgroups
}

export interface ModelRecording {
  device: string;
  pipeline: Pipeline;
  spans: readonly ModelSpan[];
  iter?: number;
  zero?: number; // ns
  /** What a nano-operation computes and moves, by id; for one layer. */
  costs?: ReadonlyMap<string, Cost>;
}

export function recordModel(builder: TraceBuilder, recording: ModelRecording): void {
  const { pipeline, spans, iter, zero = 0, costs } = recording;
  const device = builder.track('device', recording.device);
  const nano = new Map(pipeline.nano.map((one): [string, NanoOperation] => [one.id, one]));
  for (const lane of ['compute', 'memory', 'network']) {
    if (spans.some((span) => span.lane === lane)) builder.track('res', lane, device);
  }
  const handles = new Map<string, number>();
  const key = (id: string, layer: number): string => `${layer}/${id}`;
  for (const span of spans) {
    const { id, layer, lane } = span;
    const cost = costs?.get(id);
    handles.set(
      key(id, layer),
      builder.span({
        track: builder.track(lane === 'copy' ? 'link' : 'res', lane, device),
        name: id,
        cls: (LANE_CLASS as Record<string, SpanClass>)[lane] ?? 'copy',
        start: zero + span.start * 1e9,
        end: zero + span.end * 1e9,
        layer,
        nb: Number(/\.(\d+)$/.exec(id)?.[1] ?? -1),
        iter,
        share: span.share,
        flops: cost?.flops,
        bytes: cost && (cost.linkBytes || cost.bytes),
      }),
    );
  }
  for (const { id, layer } of spans) {
    for (const parent of nano.get(id)?.after ?? []) {
      const from = handles.get(key(parent.id, layer + parent.layer));
      if (from !== undefined) builder.flow(from, handles.get(key(id, layer))!, 'dep');
    }
  }
}
