/**
 * Which tensors of a checkpoint make up which weight of ours: a list of plain records per architecture.
 *
 * A weight is a stack of whole rows of checkpoint tensors (q, k and v in one matrix, gate and up in one), so that
 * one GEMM reads it. Knows tensor names; does not read them.
 */

import type { ModelConfig } from './config.ts';

/** Rows of one checkpoint tensor and where they go. Rows are counted over all but the last dimension. */
export interface WeightPart {
  readonly tensor: string; // its name in the checkpoint
  readonly sourceShape: readonly number[]; // what the checkpoint must have under that name
  readonly rowOffset: number; // first row in our weight; all rows of the tensor follow it
  readonly rows: number;
}

/**
 * One weight of ours. A 'matrix' has shape [rows, columns] or [experts, rows, columns], row-major, the last
 * dimension being the one that is summed over; a 'vector' has shape [n] and each element counts as a row.
 */
export interface WeightSpec {
  readonly name: string;
  readonly kind: 'matrix' | 'vector';
  readonly shape: readonly number[];
  readonly parts: readonly WeightPart[];
}

/**
 * The weights of a model: embed, layers.N.{norm1, qkv, qkv_bias, q_norm, k_norm, o, o_bias, norm2, gate_up,
 * gate_up_bias, down, down_bias | router, experts_gate_up, experts_down}, final_norm, lm_head (not when tied).
 * Where checkpoints spell names in two ways (Mixtral's experts one by one or fused; with and without the prefix
 * 'model.'), `has` decides; without it the common spelling is used.
 */
export function weightPlan(
  config: ModelConfig,
  has: (tensor: string) => boolean = () => false,
): WeightSpec[] {
  const { hiddenSize: H, numHeads, numKvHeads, headDim, intermediateSize: F, vocabSize } = config;
  const root = !has('model.embed_tokens.weight') && has('embed_tokens.weight') ? '' : 'model.';
  const q = numHeads * headDim;
  const kv = numKvHeads * headDim;
  const specs: WeightSpec[] = [matrix('embed', H, [[`${root}embed_tokens.weight`, vocabSize]])];

  for (let layer = 0; layer < config.numLayers; layer++) {
    const from = `${root}layers.${layer}.`;
    const to = `layers.${layer}.`;
    const attention = `${from}self_attn.`;
    const qkv = (suffix: string): Named[] => [
      [`${attention}q_proj.${suffix}`, q],
      [`${attention}k_proj.${suffix}`, kv],
      [`${attention}v_proj.${suffix}`, kv],
    ];
    specs.push(vector(`${to}norm1`, [[`${from}input_layernorm.weight`, H]]));
    specs.push(matrix(`${to}qkv`, H, qkv('weight')));
    if (config.qkvBias) specs.push(vector(`${to}qkv_bias`, qkv('bias')));
    if (config.qkNorm) {
      specs.push(vector(`${to}q_norm`, [[`${attention}q_norm.weight`, headDim]]));
      specs.push(vector(`${to}k_norm`, [[`${attention}k_norm.weight`, headDim]]));
    }
    specs.push(matrix(`${to}o`, q, [[`${attention}o_proj.weight`, H]]));
    if (config.oBias) specs.push(vector(`${to}o_bias`, [[`${attention}o_proj.bias`, H]]));
    specs.push(vector(`${to}norm2`, [[`${from}post_attention_layernorm.weight`, H]]));
    if (config.moe) {
      specs.push(...expertSpecs(config, from, to, has));
      continue;
    }
    const gateUp = (suffix: string): Named[] => [
      [`${from}mlp.gate_proj.${suffix}`, F],
      [`${from}mlp.up_proj.${suffix}`, F],
    ];
    specs.push(matrix(`${to}gate_up`, H, gateUp('weight')));
    if (config.mlpBias) specs.push(vector(`${to}gate_up_bias`, gateUp('bias')));
    specs.push(matrix(`${to}down`, F, [[`${from}mlp.down_proj.weight`, H]]));
    if (config.mlpBias) specs.push(vector(`${to}down_bias`, [[`${from}mlp.down_proj.bias`, H]]));
  }

  specs.push(vector('final_norm', [[`${root}norm.weight`, H]]));
  if (!config.tieEmbeddings) specs.push(matrix('lm_head', H, [['lm_head.weight', vocabSize]]));
  return specs;
}

/** Elements of all weights, each tied one once. */
export function weightElements(config: ModelConfig): number {
  return weightPlan(config).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

/** Mixtral: experts saved one by one (w1 gate, w3 up, w2 down), or fused as transformers 5 holds them. */
function expertSpecs(
  config: ModelConfig,
  from: string,
  to: string,
  has: (tensor: string) => boolean,
): WeightSpec[] {
  const { hiddenSize: H, intermediateSize: F } = config;
  const E = config.moe!.numExperts;
  const block = has(`${from}mlp.gate.weight`) ? `${from}mlp.` : `${from}block_sparse_moe.`;
  const router = matrix(`${to}router`, H, [[`${block}gate.weight`, E]]);
  const fused = `${block}experts.gate_up_proj`;
  if (has(fused)) {
    return [
      router,
      stack(`${to}experts_gate_up`, [E, 2 * F, H], [{ tensor: fused, sourceShape: [E, 2 * F, H] }]),
      stack(
        `${to}experts_down`,
        [E, H, F],
        [{ tensor: `${block}experts.down_proj`, sourceShape: [E, H, F] }],
      ),
    ];
  }
  const experts = Array.from({ length: E }, (_, e) => `${block}experts.${e}.`);
  const gateUp = experts.flatMap((expert) => [
    { tensor: `${expert}w1.weight`, sourceShape: [F, H] },
    { tensor: `${expert}w3.weight`, sourceShape: [F, H] },
  ]);
  const down = experts.map((expert) => ({ tensor: `${expert}w2.weight`, sourceShape: [H, F] }));
  return [
    router,
    stack(`${to}experts_gate_up`, [E, 2 * F, H], gateUp),
    stack(`${to}experts_down`, [E, H, F], down),
  ];
}

type Named = readonly [tensor: string, rows: number];

function matrix(name: string, columns: number, parts: readonly Named[]): WeightSpec {
  const rows = parts.reduce((sum, part) => sum + part[1], 0);
  return stack(
    name,
    [rows, columns],
    parts.map(([tensor, rows]) => ({ tensor, sourceShape: [rows, columns] })),
  );
}

function vector(name: string, parts: readonly Named[]): WeightSpec {
  const length = parts.reduce((sum, part) => sum + part[1], 0);
  return stack(
    name,
    [length],
    parts.map(([tensor, rows]) => ({ tensor, sourceShape: [rows] })),
  );
}

function stack(
  name: string,
  shape: readonly number[],
  sources: readonly Pick<WeightPart, 'tensor' | 'sourceShape'>[],
): WeightSpec {
  let rowOffset = 0;
  const parts = sources.map(({ tensor, sourceShape }) => {
    const rows = shape.length === 1 ? sourceShape[0] : sourceShape.slice(0, -1).reduce((a, b) => a * b, 1);
    const part = { tensor, sourceShape, rowOffset, rows };
    rowOffset += rows;
    return part;
  });
  return { name, kind: shape.length === 1 ? 'vector' : 'matrix', shape, parts };
}
