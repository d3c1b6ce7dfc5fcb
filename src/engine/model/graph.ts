/**
 * The operation graph of a model: what one iteration computes, as plain data. A pipeline (pipeline/) splits these
 * operations over nano-batches; devices carry the nano-operations out; the cost model and the simulator price them.
 *
 * Source: NanoFlow (OSDI '25), section 4.1 and table 2.
 */

/** The resource that bounds an operation. */
export type Lane = 'compute' | 'memory' | 'network';

export const LANES: readonly Lane[] = ['compute', 'memory', 'network'];

export type OperationName =
  // before the layers
  | 'embed'
  // a layer
  | 'norm1' // adds the residual of the layer before, RMSNorm
  | 'kqv'
  | 'rope_append' // rotary embedding; keys and values go to the KV pages
  | 'decode_attention'
  | 'prefill_attention'
  | 'merge' // combines partial results of split KV ranges
  | 'attention_gather' // tensor parallel: all-gather of the heads (the "O1" path)
  | 'o'
  | 'o_gather' // tensor parallel: all-gather after a column split of Wo
  | 'o_reduce' // tensor parallel: all-reduce after a row split of Wo (the "O2" path)
  | 'norm2'
  | 'up_gate'
  | 'activation' // SiLU(gate) * up, when it is not part of up_gate
  | 'down'
  | 'down_reduce'
  | 'router' // mixture of experts
  | 'route'
  | 'experts_up_gate'
  | 'experts_down'
  | 'combine'
  // after the layers
  | 'final_norm'
  | 'logits'
  | 'sample';

/** Which rows of the dense batch an operation works on. Decode tokens come before prefill tokens. */
export type Rows = 'tokens' | 'decode' | 'prefill' | 'samples';

/**
 * An edge. `rows`: a nano-operation over [s, e) needs the parent's nano-operations that intersect [s, e) ('same') or
 * [0, e) ('prefix': a prefill chunk that a boundary cuts reads keys of earlier rows of its own request).
 */
export interface Parent {
  operation: OperationName;
  layer: 0 | -1; // of the same layer, or of the layer before
  rows: 'same' | 'prefix';
}

/** What a nano-operation is asked to do: everything that its cost depends on. */
export interface Work {
  tokens: number; // rows in its range
  decodeTokens: number; // of these, rows that are one token of a decoding request
  /** Sum over its decode rows of the KV tokens that each reads. */
  decodeKv: number;
  /** KV tokens that its prefill rows read, each request's keys once. */
  prefillKv: number;
  /** (query, KV) pairs of its prefill rows. */
  prefillPairs: number;
  samples: number; // rows with logits
}

/** For one device (one rank under tensor parallelism), one layer for operations of a layer. */
export interface Cost {
  flops: number;
  bytes: number; // device memory traffic
  linkBytes: number; // sent over the interconnect by one rank
}

export interface Operation {
  name: OperationName;
  scope: 'before' | 'layer' | 'after';
  lane: Lane;
  rows: Rows;
  parents: readonly Parent[];
  /** Bytes of weights that one run reads, whatever the number of rows (for experts: those of all experts). */
  weightBytes: number;
  /** Matrix product: N and K of one rank (M is the rows), for tile quantisation. */
  gemm?: { n: number; k: number; count?: number };
  /** Nano-operations are those of these operations, one each (a merge belongs to its attention). */
  splitAs?: readonly OperationName[];
  /** Only on rows whose O goes this way; those of both paths cover every row once. Undefined: all rows. */
  path?: OutputPath;
  cost(work: Work): Cost;
}

/** 'gather' all-gathers heads, then the columns of the output; 'reduce' splits Wo by rows, then all-reduces. */
export type OutputPath = 'gather' | 'reduce';

/** The sizes that costs depend on; a subset of ModelConfig, so that shapes without weights do as well. */
export interface GraphModel {
  name: string;
  numLayers: number;
  hiddenSize: number;
  intermediateSize: number;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  vocabSize: number;
  tieEmbeddings: boolean;
  moe?: { numExperts: number; topK: number };
}

export interface GraphOptions {
  /** Ranks that share each layer (tensor parallelism); 1 has no network operations. */
  ranks: number;
  /** Bytes of a weight, activation and KV element. */
  elementBytes: number;
  /** Partial attention results are merged by an operation of their own (WebGPU has no grid-wide barrier). */
  merge: boolean;
  /** SiLU(gate) * up is an operation of its own. */
  activation: boolean;
  /** How O is split over ranks; 'both': each nano-batch chooses. Default 'gather'. */
  outputPath?: OutputPath | 'both';
}

export interface OperationGraph {
  model: GraphModel;
  options: GraphOptions;
  operations: readonly Operation[]; // in an order that respects parents of the same layer
}
