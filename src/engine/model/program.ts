/**
 * The forward pass of a Llama-family model as kernel calls, in order. Reads like the model: embed, then for each layer
 * norm, qkv, rope + append, attention, o, norm, feed-forward (dense or experts); then the head: norm, logits, sample.
 */
import type { TensorView } from '../device.ts';
import type { GemmCall, KernelCall } from '../kernels/calls.ts';
import type { StepMetaLayout } from '../plan/stepMeta.ts';
import type { ModelBuffers } from './buffers.ts';
import type { ModelConfig } from './config.ts';
import type { WeightStore } from './weightStore.ts';

/** What a program is compiled for; the sizes are upper bounds, the metadata has the real ones. */
export interface BodyShape {
  maxTokens: number;
  /** Whether the plan has items with 128-row tiles, and split tiles to merge. */
  tile128: boolean;
  merge: boolean;
}

export interface ProgramParts {
  config: ModelConfig;
  weights: WeightStore;
  buffers: ModelBuffers;
  layout: StepMetaLayout;
  attentionWorkgroups: number;
}

/** Rows up to which gate, up and SiLU are one kernel: there the product is bound by reading weights, not by tiles. */
const FUSED_SILU_ROWS = 16;

/** Embedding and all layers. Leaves the residual stream in x, with the last layer's output still in y. */
export function bodyCalls(parts: ProgramParts, shape: BodyShape): KernelCall[] {
  const { config, buffers, weights } = parts;
  const calls: KernelCall[] = [];
  for (const piece of weights.pieces('embed')) {
    calls.push({
      ...base(parts, 'embed', shape.maxTokens),
      kernel: 'embed',
      table: piece.view,
      rowStart: piece.rowStart,
      sampled: buffers.sampled,
      out: buffers.x,
    });
  }
  for (let layer = 0; layer < config.numLayers; layer++) {
    const name = `layers.${layer}`;
    calls.push(norm(parts, `${name}.norm1`, shape, layer > 0));
    calls.push(...attentionCalls(parts, shape, layer));
    calls.push(norm(parts, `${name}.norm2`, shape, true));
    calls.push(...(config.moe ? expertCalls(parts, shape, name) : denseCalls(parts, shape, name)));
  }
  return calls;
}

/** Final norm of the rows that are sampled, their logits, and their next tokens. */
export function headCalls(parts: ProgramParts, maxRows: number): KernelCall[] {
  const { config, buffers, weights } = parts;
  const projection = config.tieEmbeddings ? 'embed' : 'lm_head';
  return [
    {
      ...base(parts, 'final_norm', maxRows),
      kernel: 'rms_norm',
      rows: 'logitRows',
      x: buffers.x,
      residual: buffers.y,
      weight: weights.whole('final_norm'),
      out: buffers.logitsNormed,
      epsilon: config.rmsNormEps,
    },
    ...gemm(parts, projection, 'lm_head', maxRows, buffers.logitsNormed, buffers.logits, 'logitRows'),
    {
      ...base(parts, 'sample', maxRows),
      kernel: 'sample',
      logits: buffers.logits,
      sampled: buffers.sampled,
      scratch: buffers.sampleScratch,
    },
  ];
}

function attentionCalls(parts: ProgramParts, shape: BodyShape, layer: number): KernelCall[] {
  const { config, buffers, weights } = parts;
  const name = `layers.${layer}`;
  const { k: kCache, v: vCache } = buffers.kv[layer];
  const heads = {
    heads: config.numHeads,
    kvHeads: config.numKvHeads,
    headDim: config.headDim,
    pageSize: kCache.shape[2],
  };
  const calls: KernelCall[] = [
    ...gemm(parts, `${name}.qkv`, `${name}.qkv`, shape.maxTokens, buffers.normed, buffers.qkv),
    {
      ...base(parts, `${name}.rope_append`, shape.maxTokens),
      ...heads,
      kernel: 'rope_append',
      qkv: buffers.qkv,
      qNorm: weights.optional(`${name}.q_norm`),
      kNorm: weights.optional(`${name}.k_norm`),
      epsilon: config.rmsNormEps,
      table: buffers.ropeTable,
      q: buffers.q,
      kCache,
      vCache,
    },
  ];
  for (const tile of shape.tile128 ? ([128, 16] as const) : ([16] as const)) {
    calls.push({
      ...base(parts, `${name}.attention${tile}`, shape.maxTokens),
      ...heads,
      workgroups: parts.attentionWorkgroups,
      kernel: 'attention',
      tile,
      q: buffers.q,
      kCache,
      vCache,
      out: buffers.attended,
      partialOut: buffers.partialOut,
      partialLse: buffers.partialLse,
      scale: 1 / Math.sqrt(config.headDim),
      slidingWindow: config.slidingLayers[layer] ? config.slidingWindow : undefined,
    });
  }
  if (shape.merge) {
    calls.push({
      ...base(parts, `${name}.merge`, shape.maxTokens),
      kernel: 'merge',
      partialOut: buffers.partialOut,
      partialLse: buffers.partialLse,
      out: buffers.attended,
      headDim: config.headDim,
    });
  }
  calls.push(...gemm(parts, `${name}.o`, `${name}.o`, shape.maxTokens, buffers.attended, buffers.y));
  return calls;
}

function denseCalls(parts: ProgramParts, shape: BodyShape, name: string): KernelCall[] {
  const { config, buffers, weights } = parts;
  const { maxTokens } = shape;
  const whole = weights.pieces(`${name}.gate_up`).length === 1;
  const calls: KernelCall[] = [];
  if (whole && !config.mlpBias && maxTokens <= FUSED_SILU_ROWS) {
    const [call] = gemm(parts, `${name}.gate_up`, `${name}.gate_up`, maxTokens, buffers.normed, buffers.ffn);
    calls.push({ ...call, epilogue: 'silu_mul' });
  } else {
    calls.push(
      ...gemm(parts, `${name}.gate_up`, `${name}.gate_up`, maxTokens, buffers.normed, buffers.gateUp!),
      silu(parts, `${name}.silu_mul`, shape, 1),
    );
  }
  calls.push(...gemm(parts, `${name}.down`, `${name}.down`, maxTokens, buffers.ffn, buffers.y));
  return calls;
}

function expertCalls(parts: ProgramParts, shape: BodyShape, name: string): KernelCall[] {
  const { config, buffers, weights } = parts;
  const { topK, normTopK } = config.moe!;
  const { routerLogits, weights: routeWeights, choices, slotSource, expertStart, y } = buffers.moe!;
  const grouped = (weight: string, gather: 'token' | 'slot', a: TensorView, out: TensorView): KernelCall[] =>
    weights.pieces(`${name}.${weight}`).map((piece) => ({
      ...base(parts, `${name}.${weight}`, shape.maxTokens),
      kernel: 'moe_gemm',
      maxRows: shape.maxTokens * topK,
      gather,
      topK,
      a,
      w: piece.view,
      expertFirst: piece.rowStart,
      slotSource,
      expertStart,
      out,
    }));
  return [
    ...gemm(parts, `${name}.router`, `${name}.router`, shape.maxTokens, buffers.normed, routerLogits),
    {
      ...base(parts, `${name}.route`, shape.maxTokens),
      kernel: 'route',
      logits: routerLogits,
      topK,
      normalize: normTopK,
      weights: routeWeights,
      choices,
      slotSource,
      expertStart,
    },
    ...grouped('experts_gate_up', 'token', buffers.normed, buffers.gateUp!),
    silu(parts, `${name}.silu_mul`, shape, topK),
    ...grouped('experts_down', 'slot', buffers.ffn, y),
    {
      ...base(parts, `${name}.moe_combine`, shape.maxTokens),
      kernel: 'moe_combine',
      topK,
      y,
      weights: routeWeights,
      out: buffers.y,
    },
  ];
}

function base(parts: ProgramParts, label: string, maxRows: number) {
  return { label, meta: parts.buffers.meta, layout: parts.layout, maxRows };
}

function norm(parts: ProgramParts, name: string, shape: BodyShape, addResidual: boolean): KernelCall {
  const { config, buffers, weights } = parts;
  return {
    ...base(parts, name, shape.maxTokens),
    kernel: 'rms_norm',
    rows: 'tokens',
    x: buffers.x,
    residual: addResidual ? buffers.y : undefined,
    weight: weights.whole(name),
    out: buffers.normed,
    epsilon: config.rmsNormEps,
  };
}

function silu(parts: ProgramParts, label: string, shape: BodyShape, rowsPerToken: number): KernelCall {
  const { buffers } = parts;
  return {
    ...base(parts, label, shape.maxTokens),
    kernel: 'silu_mul',
    gateUp: buffers.gateUp!,
    out: buffers.ffn,
    rowsPerToken,
  };
}

/** One product, or one for each piece of a weight that is too large for one binding. */
function gemm(
  parts: ProgramParts,
  weight: string,
  label: string,
  maxRows: number,
  a: TensorView,
  out: TensorView,
  rows: GemmCall['rows'] = 'tokens',
): GemmCall[] {
  const { weights } = parts;
  const bias = weights.optional(`${weight}_bias`);
  const pieces = weights.pieces(weight);
  return pieces.map((piece) => ({
    ...base(parts, label, maxRows),
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
