/**
 * The operations of a Llama-family layer as kernel calls. One operation of the graph (model/graph.ts) is one or a few
 * calls, for the rows, the share and the buffers that it is asked for; plainProgram.ts puts them in the plain order,
 * lower.ts in a pipeline's.
 */
import type { TensorView } from '../device.ts';
import type { GemmCall, KernelCall } from '../kernels/calls.ts';
import { chooseParts } from '../kernels/gemm/choose.ts';
import type { StepMetaLayout } from '../plan/stepMeta.ts';
import type { ActivationSet, ModelBuffers } from './buffers.ts';
import type { ModelConfig } from './config.ts';
import type { OperationName } from './graph.ts';
import type { WeightStore } from './weightStore.ts';

export interface ProgramParts {
  config: ModelConfig;
  weights: WeightStore;
  buffers: ModelBuffers;
  layout: StepMetaLayout;
  attentionWorkgroups: number;
  /** Products that end in the residual stream are added to it by the GEMM itself (GemmCall.add). */
  addsToStream: boolean;
  /** The device runs streams side by side (lowerStreams.ts); else stages are joined calls. */
  streams: boolean;
  /** Subgroup matrices compute gate, up and SiLU in one kernel faster than in two, whatever the number of rows. */
  matrices: boolean;
}

/** Which rows an operation works on, with what and where. */
export interface Placement {
  set: ActivationSet;
  maxTokens: number; // most rows it is for
  /** Parts of the products that the next norm adds up; the same for all rows of a set. Default: by maxTokens. */
  parts?: OutputParts;
  range?: number; // slot of the metadata's ranges; default everything
  slot?: number; // attention plan; default 0
  tile?: 16 | 128; // of attention; default by operation
  both?: boolean; // attention of both tile sizes in one call
  /** Whether up_gate computes the activation too; default activationIsFused. */
  fused?: boolean;
  /** Workgroups of each call; default the kernels' own choice (attention: the plan's). */
  workgroups?: number;
}

/** In how many ranges of K the products that end in the residual stream are computed (GemmCall.parts). */
export interface OutputParts {
  o: number;
  down: number;
}

export function outputParts(
  { config, weights, matrices, addsToStream }: ProgramParts,
  maxTokens: number,
): OutputParts {
  const { hiddenSize: N, numHeads, headDim, intermediateSize } = config;
  const choose = (weight: string, K: number): number => {
    const name = `layers.0.${weight}`;
    if (
      !matrices ||
      addsToStream ||
      weights.optional(`${name}_bias`) ||
      weights.pieces(name).length > 1 ||
      K % 8 !== 0
    )
      return 1;
    return chooseParts({ maxRows: maxTokens, N, K });
  };
  return { o: choose('o', numHeads * headDim), down: config.moe ? 1 : choose('down', intermediateSize) };
}

/** What norms add to the residual stream before they normalise: parts of y; 0 where the products did it. */
export function residualParts({ addsToStream, config }: ProgramParts, count: OutputParts): OutputParts {
  return addsToStream ? { o: 0, down: config.moe ? 1 : 0 } : count;
}

/** Rows up to which gate, up and SiLU are one kernel without matrices: there the product is bound by reading weights. */
const FUSED_SILU_ROWS = 16;

/** Whether up_gate can compute SiLU(gate) * up itself, so that there is no `activation`. */
export function activationCanFuse({ config, weights }: Pick<ProgramParts, 'config' | 'weights'>): boolean {
  return !config.moe && !config.mlpBias && weights.pieces('layers.0.gate_up').length === 1;
}

/** Whether it does so in the plain order. */
export function activationIsFused(parts: ProgramParts, maxTokens: number): boolean {
  return activationCanFuse(parts) && (parts.matrices || maxTokens <= FUSED_SILU_ROWS);
}

/**
 * The calls of one operation of a layer; several where a weight is in pieces, none of them depends on another.
 * decode_attention runs the plan's 16-row tiles, prefill_attention its 128-row tiles.
 * @throws Error for operations that a single device does not have.
 */
export function operationCalls(
  parts: ProgramParts,
  operation: OperationName,
  layer: number,
  at: Placement,
): KernelCall[] {
  const { set } = at;
  const name = `layers.${layer}`;
  const count = at.parts ?? outputParts(parts, at.maxTokens);
  switch (operation) {
    case 'norm1':
      return [norm(parts, `${name}.norm1`, at, layer > 0 ? residualParts(parts, count).down : 0)];
    case 'kqv':
      return gemm(parts, `${name}.qkv`, `${name}.qkv`, at, set.normed, set.qkv);
    case 'rope_append':
      return [ropeAppend(parts, layer, at)];
    case 'decode_attention':
      return [attention(parts, layer, at, at.tile ?? 16)];
    case 'prefill_attention':
      return [attention(parts, layer, at, at.tile ?? 128)];
    case 'merge':
      return [
        {
          ...base(parts, `${name}.merge`, at),
          kernel: 'merge',
          slot: at.slot,
          partialOut: set.partialOut,
          partialLse: set.partialLse,
          out: set.attended,
          headDim: parts.config.headDim,
        },
      ];
    case 'o':
      if (parts.addsToStream) return added(gemm(parts, `${name}.o`, `${name}.o`, at, set.attended, set.x));
      return summed(
        gemm(parts, `${name}.o`, `${name}.o`, at, set.attended, partsOf(set.y, 1)),
        set.y,
        count.o,
      );
    case 'norm2':
      return [norm(parts, `${name}.norm2`, at, residualParts(parts, count).o)];
    case 'up_gate':
      return upGate(parts, name, at);
    case 'activation':
      return [activation(parts, `${name}.silu_mul`, at)];
    case 'down':
      if (parts.addsToStream) return added(gemm(parts, `${name}.down`, `${name}.down`, at, set.ffn, set.x));
      return summed(
        gemm(parts, `${name}.down`, `${name}.down`, at, set.ffn, partsOf(set.y, 1)),
        set.y,
        count.down,
      );
    case 'router':
      return gemm(parts, `${name}.router`, `${name}.router`, at, set.normed, set.moe!.routerLogits);
    case 'route':
    case 'experts_up_gate':
    case 'experts_down':
    case 'combine':
      return expertCalls(parts, operation, name, at);
    default:
      throw new Error(`operation ${operation} does not run in a layer of one device`);
  }
}

function ropeAppend(parts: ProgramParts, layer: number, at: Placement): KernelCall {
  const { config, buffers, weights } = parts;
  const { k: kCache, v: vCache } = buffers.kv[layer];
  const name = `layers.${layer}`;
  return {
    ...base(parts, `${name}.rope_append`, at),
    kernel: 'rope_append',
    ...heads(parts, kCache),
    qkv: at.set.qkv,
    qNorm: weights.optional(`${name}.q_norm`),
    kNorm: weights.optional(`${name}.k_norm`),
    epsilon: config.rmsNormEps,
    table: buffers.ropeTable,
    q: at.set.q,
    kCache,
    vCache,
  };
}

function attention(parts: ProgramParts, layer: number, at: Placement, tile: 16 | 128): KernelCall {
  const { config, buffers } = parts;
  const { k: kCache, v: vCache } = buffers.kv[layer];
  const { set } = at;
  return {
    ...base(parts, `layers.${layer}.attention${tile}`, at),
    kernel: 'attention',
    ...heads(parts, kCache),
    workgroups: at.workgroups ?? parts.attentionWorkgroups,
    slot: at.slot,
    tile,
    ...(parts.streams && { merged: true, both: at.both }),
    q: set.q,
    kCache,
    vCache,
    out: set.attended,
    partialOut: set.partialOut,
    partialLse: set.partialLse,
    scale: 1 / Math.sqrt(config.headDim),
    slidingWindow: config.slidingLayers[layer] ? config.slidingWindow : undefined,
  };
}

function heads({ config }: ProgramParts, kCache: TensorView) {
  return {
    heads: config.numHeads,
    kvHeads: config.numKvHeads,
    headDim: config.headDim,
    pageSize: kCache.shape[2],
  };
}

function upGate(parts: ProgramParts, name: string, at: Placement): KernelCall[] {
  const { set } = at;
  const label = `${name}.gate_up`;
  if (!(at.fused ?? activationIsFused(parts, at.maxTokens)))
    return gemm(parts, label, label, at, set.normed, set.gateUp!);
  const [call] = gemm(parts, label, label, at, set.normed, set.ffn);
  return [{ ...call, epilogue: 'silu_mul' }];
}

function expertCalls(
  parts: ProgramParts,
  operation: 'route' | 'experts_up_gate' | 'experts_down' | 'combine',
  name: string,
  at: Placement,
): KernelCall[] {
  const { config, weights } = parts;
  const { set } = at;
  const { topK, normTopK } = config.moe!;
  const { routerLogits, weights: routeWeights, choices, slotSource, expertStart, y } = set.moe!;
  const grouped = (weight: string, gather: 'token' | 'slot', a: TensorView, out: TensorView): KernelCall[] =>
    weights.pieces(`${name}.${weight}`).map((piece) => ({
      ...base(parts, `${name}.${weight}`, at),
      kernel: 'moe_gemm',
      maxRows: at.maxTokens * topK,
      gather,
      topK,
      a,
      w: piece.view,
      expertFirst: piece.rowStart,
      slotSource,
      expertStart,
      out,
    }));
  if (operation === 'experts_up_gate') return grouped('experts_gate_up', 'token', set.normed, set.gateUp!);
  if (operation === 'experts_down') return grouped('experts_down', 'slot', set.ffn, y);
  if (operation === 'route') {
    return [
      {
        ...base(parts, `${name}.route`, at),
        kernel: 'route',
        logits: routerLogits,
        topK,
        normalize: normTopK,
        weights: routeWeights,
        choices,
        slotSource,
        expertStart,
      },
    ];
  }
  return [
    {
      ...base(parts, `${name}.moe_combine`, at),
      kernel: 'moe_combine',
      topK,
      y,
      weights: routeWeights,
      out: partsOf(set.y, 1),
    },
  ];
}

export function base(
  parts: ProgramParts,
  label: string,
  at: Pick<Placement, 'maxTokens' | 'range' | 'workgroups'>,
) {
  const { meta } = parts.buffers;
  return {
    label,
    meta,
    layout: parts.layout,
    maxRows: at.maxTokens,
    range: at.range,
    workgroups: at.workgroups,
  };
}

/** @param residualParts parts of y that are added first; 0 for none */
function norm(parts: ProgramParts, name: string, at: Placement, residualParts: number): KernelCall {
  return {
    ...base(parts, name, at),
    kernel: 'rms_norm',
    rows: 'tokens',
    x: at.set.x,
    residual: residualParts > 0 ? partsOf(at.set.y, residualParts) : undefined,
    weight: parts.weights.whole(name),
    out: at.set.normed,
    epsilon: parts.config.rmsNormEps,
  };
}

function activation(parts: ProgramParts, label: string, at: Placement): KernelCall {
  return {
    ...base(parts, label, at),
    kernel: 'silu_mul',
    gateUp: at.set.gateUp!,
    out: at.set.ffn,
    rowsPerToken: parts.config.moe?.topK ?? 1,
    compact: parts.config.moe !== undefined,
  };
}

/** One product, or one for each piece of a weight that is too large for one binding. */
export function gemm(
  parts: ProgramParts,
  weight: string,
  label: string,
  at: Pick<Placement, 'maxTokens' | 'range' | 'workgroups'>,
  a: TensorView,
  out: TensorView,
  rows: GemmCall['rows'] = 'tokens',
): GemmCall[] {
  const { weights } = parts;
  const bias = weights.optional(`${weight}_bias`);
  const pieces = weights.pieces(weight);
  return pieces.map((piece) => ({
    ...base(parts, label, at),
    kernel: 'gemm',
    rows,
    a: flat(a),
    w: piece.view,
    bias: bias && part(bias, piece.rowStart, piece.rows),
    out: flat(out),
    outColumn: piece.rowStart,
    epilogue: 'none',
  }));
}

/** The first `count` parts of y: [B, H] for one, so that kernels without parts can write it. */
export function partsOf(y: TensorView, count: number): TensorView {
  const [, ...rest] = y.shape;
  return { ...y, shape: count === 1 ? rest : [count, ...rest] };
}

/** The same products in `count` parts, where that is more than one. */
function summed(calls: GemmCall[], y: TensorView, count: number): GemmCall[] {
  return count === 1 ? calls : calls.map((call) => ({ ...call, parts: count, out: partsOf(y, count) }));
}

function added(calls: GemmCall[]): GemmCall[] {
  return calls.map((call) => ({ ...call, add: true }));
}

/** [B, heads, D] seen as [B, heads * D]. */
function flat(view: TensorView): TensorView {
  const [rows, ...rest] = view.shape;
  return rest.length === 1 ? view : { ...view, shape: [rows, rest.reduce((a, b) => a * b, 1)] };
}

/** Part of a vector. Pieces start on multiples of 64 rows, so the offset is a multiple of 256 bytes. */
function part(vector: TensorView, start: number, count: number): TensorView {
  return start === 0 && count === vector.shape[0]
    ? vector
    : { ...vector, offset: vector.offset + start * 4, shape: [count] };
}
