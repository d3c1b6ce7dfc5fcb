/**
 * The forward pass of a Llama-family model in the plain order: embedding, layers, head. Pipelines have another order
 * for the layers (lower.ts).
 */
import type { KernelCall } from '../kernels/calls.ts';
import type { ActivationSet } from './buffers.ts';
import type { OperationName } from './graph.ts';
import {
  activationIsFused,
  base,
  gemm,
  operationCalls,
  outputParts,
  partsOf,
  residualParts,
  type OutputParts,
  type Placement,
  type ProgramParts,
} from './program.ts';

/** What a program is compiled for; the sizes are upper bounds, the metadata has the real ones. */
export interface BodyShape {
  maxTokens: number;
  /** Whether the plan has items with 128-row tiles, and split tiles to merge. */
  tile128: boolean;
  merge: boolean;
}

/** Embedding and all layers. Leaves the residual stream in x, with the last layer's output still in y. */
export function bodyCalls(parts: ProgramParts, shape: BodyShape): KernelCall[] {
  const at: Placement = { set: parts.buffers.sets[0], maxTokens: shape.maxTokens };
  const calls = embedCalls(parts, at);
  for (let layer = 0; layer < parts.config.numLayers; layer++) {
    for (const operation of layerOperations(parts, shape)) {
      const both = parts.streams && shape.tile128;
      calls.push(...operationCalls(parts, operation, layer, { ...at, both }));
    }
  }
  return calls;
}

/** A layer's operations in the plain order. Prefill attention goes first: it is the longer one. */
function layerOperations(parts: ProgramParts, { maxTokens, tile128, merge }: BodyShape): OperationName[] {
  const feedForward: OperationName[] = parts.config.moe
    ? ['router', 'route', 'experts_up_gate', 'activation', 'experts_down', 'combine']
    : activationIsFused(parts, maxTokens)
      ? ['up_gate', 'down']
      : ['up_gate', 'activation', 'down'];
  return [
    'norm1',
    'kqv',
    'rope_append',
    // Where one call does both tile sizes and the merge, it stands for all three.
    ...(tile128 && !parts.streams ? (['prefill_attention'] as const) : []),
    'decode_attention',
    ...(merge && !parts.streams ? (['merge'] as const) : []),
    'o',
    'norm2',
    ...feedForward,
  ];
}

/** Final norm of the rows that are sampled, their logits, and their next tokens. */
export function headCalls(parts: ProgramParts, maxRows: number, maxTokens: number): KernelCall[] {
  const count = outputParts(parts, maxTokens);
  return [finalNormCall(parts, parts.buffers.sets[0], maxRows, count), ...logitsCalls(parts, maxRows)];
}

export function finalNormCall(
  parts: ProgramParts,
  set: ActivationSet,
  maxRows: number,
  count: OutputParts,
  range?: number,
): KernelCall {
  const { config, buffers, weights } = parts;
  const { down } = residualParts(parts, count);
  return {
    ...base(parts, 'final_norm', { maxTokens: maxRows, range }),
    kernel: 'rms_norm',
    rows: 'logitRows',
    x: set.x,
    residual: down > 0 ? partsOf(set.y, down) : undefined,
    weight: weights.whole('final_norm'),
    out: buffers.logitsNormed,
    epsilon: config.rmsNormEps,
  };
}

export function logitsCalls(parts: ProgramParts, maxRows: number): KernelCall[] {
  const { config, buffers } = parts;
  const projection = config.tieEmbeddings ? 'embed' : 'lm_head';
  const at = { maxTokens: maxRows };
  return [
    ...gemm(parts, projection, 'lm_head', at, buffers.logitsNormed, buffers.logits, 'logitRows'),
    {
      ...base(parts, 'sample', at),
      kernel: 'sample',
      logits: buffers.logits,
      sampled: buffers.sampled,
      scratch: buffers.sampleScratch,
    },
  ];
}

export function embedCalls(parts: ProgramParts, at: Placement): KernelCall[] {
  const { buffers, weights } = parts;
  return weights.pieces('embed').map((piece) => ({
    ...base(parts, 'embed', at),
    kernel: 'embed',
    table: piece.view,
    rowStart: piece.rowStart,
    sampled: buffers.sampled,
    out: at.set.x,
  }));
}
