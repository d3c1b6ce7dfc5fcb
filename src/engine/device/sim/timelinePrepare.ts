/** A pipeline as flat arrays, for the timeline: nodes are its nano-operations, then the side operations. */
import { LANES, type Lane } from '../../model/graph.ts';
import type { NanoOperation, Pipeline } from '../../pipeline/pipeline.ts';
import { performanceAt, type InterferenceTable } from './interference.ts';

/** Copies to and from host memory have a lane of their own; no operation of a model uses it. */
export type SimLane = Lane | 'copy';

export const SIM_LANES: readonly SimLane[] = [...LANES, 'copy'];

/**
 * In-order queues (NanoFlow's gemm, gemv, net, cpy and other): one for each lane, and one for short memory-bound
 * operations (norms, ...), which would else wait behind the attention of another nano-batch. Rotary embedding follows
 * its product in the compute lane's queue.
 */
export const STREAMS = SIM_LANES.length + 1;
const OTHER = SIM_LANES.length;
const ATTENTION: readonly string[] = ['decode_attention', 'prefill_attention', 'merge'];

/** Work beside the pipeline's own, once a layer (the offload of KV pages). Nothing waits for it. Lanes mode only. */
export interface SideOperation extends Omit<NanoOperation, 'operation' | 'lane' | 'range'> {
  lane: SimLane;
  /** Issued right behind this nano-operation. */
  behind: string;
}

export interface Issue {
  node: number;
  layer: number; // relative to the layer that the stage list is repeated for
}

export interface PreparedPipeline {
  ids: readonly string[];
  /** Index in SIM_LANES. */
  lane: Int8Array;
  stream: Int8Array;
  share: Float64Array; // in workgroups
  rate: Float64Array; // P(share)
  workgroups: number;
  /** Dependencies of node i: pairs (node, layer) in `needs` from needsAt[i] to needsAt[i + 1]. */
  needs: Int32Array;
  needsAt: Int32Array;
  stages: readonly (readonly Issue[])[];
  /** What each stream runs, in order; `order` is the place in the issue order of a layer. */
  queues: readonly (readonly (Issue & { order: number })[])[];
  issuesPerLayer: number;
}

/** @throws Error when a stage or a dependency names a nano-operation that the pipeline has not */
export function preparePipeline(
  pipeline: Pipeline,
  table: InterferenceTable,
  side: readonly SideOperation[],
): PreparedPipeline {
  const nodes: readonly (NanoOperation | SideOperation)[] = [...pipeline.nano, ...side];
  const ids = nodes.map((node) => node.id);
  const index = new Map(ids.map((id, i) => [id, i]));
  const find = (id: string): number => {
    const at = index.get(id);
    if (at === undefined) throw new Error(`pipeline '${pipeline.name}' has no nano-operation '${id}'`);
    return at;
  };
  const needs = nodes.map((node) => node.after.map(({ id, layer }) => ({ node: find(id), layer })));
  const needsAt = new Int32Array(nodes.length + 1);
  needs.forEach((list, i) => (needsAt[i + 1] = needsAt[i] + 2 * list.length));
  const stages = pipeline.stages.map(({ members }) =>
    members.flatMap(({ id, layer }) => {
      const behind = side.filter((other) => other.behind === id);
      return [id, ...behind.map((other) => other.id)].map((member) => ({ node: find(member), layer }));
    }),
  );
  const issues = stages.flat();
  const stream = Int8Array.from(nodes, (node) => {
    if (node.lane !== 'memory') return SIM_LANES.indexOf(node.lane);
    if ('operation' in node && node.operation === 'rope_append') return SIM_LANES.indexOf('compute');
    return 'operation' in node && ATTENTION.includes(node.operation) ? SIM_LANES.indexOf('memory') : OTHER;
  });
  return {
    ids,
    lane: Int8Array.from(nodes, (node) => SIM_LANES.indexOf(node.lane)),
    stream,
    share: Float64Array.from(nodes, (node) => node.share),
    rate: Float64Array.from(nodes, (node) =>
      lanePerformance(table, node.lane, node.share / pipeline.workgroups),
    ),
    workgroups: pipeline.workgroups,
    needs: Int32Array.from(needs.flat().flatMap(({ node, layer }) => [node, layer])),
    needsAt,
    stages,
    queues: Array.from({ length: STREAMS }, (_, queue) =>
      issues.flatMap((issue, order) => (stream[issue.node] === queue ? [{ ...issue, order }] : [])),
    ),
    issuesPerLayer: issues.length,
  };
}

/** P of a lane. Copy engines need no share. */
export function lanePerformance(table: InterferenceTable, lane: SimLane, share: number): number {
  return lane === 'copy' ? 1 : performanceAt(table, lane, Math.min(1, share));
}
