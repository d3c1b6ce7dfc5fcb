/**
 * A Pipeline: one iteration's operations split over nano-batches, each nano-operation with its token range, its share
 * of the device, and what runs beside what. Plain data: JSON, printable, comparable, drawn by the lab, carried out by
 * any device (NanoFlow, OSDI '25, section 4).
 */
import type { Lane, OperationName } from '../model/graph.ts';
import type { Halves } from './arrangement.ts';

export const PIPELINE_FORMAT = 'nanoflow-pipeline';
export const PIPELINE_VERSION = 1;

export interface NanoOperation {
  id: string; // "<operation>.<number>", numbered from 1 in token order: "kqv.2"
  operation: OperationName;
  lane: Lane;
  /** Token rows [start, end) of the dense batch that the pipeline was made for; never empty. */
  range: readonly [start: number, end: number];
  /** Workgroups (SMs on CUDA) out of the pipeline's `workgroups`, at least 1. */
  share: number;
  /** Nano-operations that must have ended: of the same layer, or of the layer before (-1). */
  after: readonly { id: string; layer: 0 | -1 }[];
}

/** A nano-operation of layer `L + layer`, where L is the layer that the stage list is repeated for. */
export interface StageMember {
  id: string;
  layer: 0 | 1;
}

/**
 * What runs side by side. Members are independent of each other; a stage starts when the one before has ended. WebGPU
 * makes one dispatch of it (device/webgpu/join.ts), CUDA and the simulator may run ahead as far as `after` allows.
 */
export interface Stage {
  members: readonly StageMember[];
  /**
   * Members share cores instead of dividing them: each core holds a workgroup of the product and one of attention, whose
   * loads wait while the product computes (POD-Attention, arXiv 2410.18038). Shares then may add up to the whole device
   * for each member. CUDA only; other devices run the members as they like. Default false.
   */
  colocated?: boolean;
}

export interface Pipeline {
  format: typeof PIPELINE_FORMAT;
  version: typeof PIPELINE_VERSION;
  name: string; // "non-overlap", "nano-batch-only", "overlap", or what a search called it
  model: string;
  device: string; // the device it was made or measured for; "any" for presets
  ranks: number;
  /** The batch it was made for. Other batches scale the ranges (pipeline/resolve.ts). */
  tokens: number; // B
  decodeTokens: number; // rows that decode: the first ones, unless there are halves
  /**
   * Rows stand as two runs of both kinds, [D1 P1 D2 P2]; these are D1 and P1 (arrangement.ts). The batch is arranged when
   * the step is lowered; sampled rows come back in the batch's own order. Default: decode rows, then prompt rows.
   */
  halves?: Halves;
  /**
   * Overlapped attention and everything else have SMs of their own that the driver keeps apart (green contexts, cuda only;
   * shares come in eights there). Other devices ignore it. Default: budgets alone divide them.
   */
  greenContexts?: true;
  /** The whole device; shares of what runs at the same time add up to at most this. */
  workgroups: number;
  nano: readonly NanoOperation[]; // operations of a layer only, in order of issue
  /**
   * The stages of one layer L in the steady state, in order. The whole run is this list for L = -1, 0, ..., layers - 1,
   * with members of layers that do not exist left out. Operations before and after the layers are not listed.
   */
  stages: readonly Stage[];
  /** How it came to be: search settings, modelled and measured figures. For people; nothing depends on it. */
  notes?: Record<string, string | number>;
}
