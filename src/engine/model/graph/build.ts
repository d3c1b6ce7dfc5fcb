/**
 * The operation graph of a Llama-family model, dense or with experts, on one device or as one rank of several.
 *
 * Costs are closed forms: arithmetic of the products, and memory traffic that reads every input and weight once and
 * writes every output once (NanoFlow, OSDI '25, table 2, which counts activations once for all ranks; here each rank
 * reads its own copy). Prefill attention counts the pairs that it is given, so a causal mask is the caller's.
 */
import type { ModelConfig } from '../config.ts';
import type {
  Cost,
  GraphModel,
  GraphOptions,
  Lane,
  Operation,
  OperationGraph,
  OperationName,
  OutputPath,
  Parent,
  Rows,
  Work,
} from '../graph.ts';
import { rankSizes, type RankSizes } from './rank.ts';

const F32_BYTES = 4;

/** The sizes of a loaded model that its graph depends on. */
export function graphModelOf(config: ModelConfig, name: string = config.architecture): GraphModel {
  const { numLayers, hiddenSize, intermediateSize, numHeads, numKvHeads, headDim, vocabSize } = config;
  return {
    name,
    numLayers,
    hiddenSize,
    intermediateSize,
    numHeads,
    numKvHeads,
    headDim,
    vocabSize,
    tieEmbeddings: config.tieEmbeddings,
    moe: config.moe && { numExperts: config.moe.numExperts, topK: config.moe.topK },
  };
}

/**
 * Operations in an order that respects parents of the same layer. Norm 1 of layer 0 reads the embedding, and the final
 * norm the last layer: operations outside the layers have no edges to or from them here.
 * @throws Error when the ranks cannot share the heads or the feed-forward evenly.
 */
export function operationGraph(model: GraphModel, options: GraphOptions): OperationGraph {
  const sizes = rankSizes(model, options);
  const after = model.moe ? experts(sizes) : feedForward(sizes);
  return {
    model,
    options,
    operations: [
      elementwise('embed', { scope: 'before', bytes: ({ tokens }) => 2 * tokens * sizes.hidden }, sizes),
      ...attentionBlock(sizes, last(after)),
      ...after,
      ...head(sizes),
    ],
  };
}

const none: readonly Parent[] = [];

function parents(...names: OperationName[]): Parent[] {
  return names.map((operation) => ({ operation, layer: 0, rows: 'same' }));
}

function last(operations: readonly Operation[]): OperationName {
  return operations[operations.length - 1].name;
}

function attentionBlock(sizes: RankSizes, before: OperationName): Operation[] {
  const { hidden, heads, qkv, ranks, element, options } = sizes;
  const split: OperationName[] = ['decode_attention', 'prefill_attention'];
  const attended: OperationName[] = options.merge ? ['merge'] : split;
  const paths: OutputPath[] =
    ranks === 1
      ? []
      : options.outputPath === 'both'
        ? ['gather', 'reduce']
        : [options.outputPath ?? 'gather'];
  const gather = paths.includes('gather');
  const reduce = paths.includes('reduce');
  const path = (name: OutputPath): { path?: OutputPath } => (paths.length > 1 ? { path: name } : {});
  const merge: Operation = {
    // Partial results in f32: two a row is what a planner that deals out evenly makes at most on average.
    ...elementwise(
      'merge',
      { parents: parents(...split), bytes: ({ tokens }) => tokens * heads * (1 + (2 * F32_BYTES) / element) },
      sizes,
    ),
    splitAs: split,
  };
  return [
    {
      ...norm('norm1', none, sizes),
      parents: [{ operation: before, layer: -1, rows: 'same' }],
    },
    product('kqv', { parents: parents('norm1'), n: qkv, k: hidden }, sizes),
    elementwise('rope_append', { parents: parents('kqv'), bytes: ({ tokens }) => 2 * tokens * qkv }, sizes),
    attention('decode_attention', sizes),
    attention('prefill_attention', sizes),
    ...(options.merge ? [merge] : []),
    ...(gather
      ? [{ ...collective('attention_gather', parents(...attended), 1, sizes), ...path('gather') }]
      : []),
    outputProduct(sizes, paths, attended),
    ...(gather ? [{ ...collective('o_gather', parents('o'), 1, sizes), ...path('gather') }] : []),
    ...(reduce ? [{ ...collective('o_reduce', parents('o'), 2, sizes), ...path('reduce') }] : []),
    norm(
      'norm2',
      paths.length === 0
        ? parents('o')
        : parents(...paths.map((each) => (each === 'gather' ? 'o_gather' : 'o_reduce') as OperationName)),
      sizes,
    ),
  ];
}

/** Wo: columns of it for gathered heads, or rows of it for the rank's own heads. The same arithmetic. */
function outputProduct(sizes: RankSizes, paths: OutputPath[], attended: OperationName[]): Operation {
  const { hidden, heads, ranks } = sizes;
  const gathered = paths[0] === 'gather';
  const from: OperationName[] = gathered ? ['attention_gather'] : attended;
  const needs = paths.length > 1 ? (['attention_gather', ...attended] as OperationName[]) : from;
  const shape = gathered ? { n: hidden / ranks, k: heads * ranks } : { n: hidden, k: heads };
  return product('o', { parents: parents(...needs), ...shape }, sizes);
}

function feedForward(sizes: RankSizes): Operation[] {
  const { hidden, ffn, options } = sizes;
  const { activation } = options;
  return [
    product(
      'up_gate',
      { parents: parents('norm2'), n: 2 * ffn, k: hidden, out: activation ? 2 * ffn : ffn },
      sizes,
    ),
    ...(activation
      ? [
          elementwise(
            'activation',
            { parents: parents('up_gate'), bytes: ({ tokens }) => 3 * tokens * ffn },
            sizes,
          ),
        ]
      : []),
    product('down', { parents: parents(activation ? 'activation' : 'up_gate'), n: hidden, k: ffn }, sizes),
    ...reduced('down', sizes),
  ];
}

function experts(sizes: RankSizes): Operation[] {
  const { hidden, ffn, element, moe, options } = sizes;
  const { numExperts, topK } = moe!;
  const { activation } = options;
  const common = { rowsPerToken: topK, count: numExperts };
  return [
    product('router', { parents: parents('norm2'), n: numExperts, k: hidden }, sizes),
    elementwise(
      'route',
      {
        parents: parents('router'),
        bytes: ({ tokens }) => tokens * (numExperts + (4 * topK * F32_BYTES) / element),
      },
      sizes,
    ),
    product(
      'experts_up_gate',
      { ...common, parents: parents('route'), n: 2 * ffn, k: hidden, out: activation ? 2 * ffn : ffn },
      sizes,
    ),
    ...(activation
      ? [
          elementwise(
            'activation',
            { parents: parents('experts_up_gate'), bytes: ({ tokens }) => 3 * tokens * topK * ffn },
            sizes,
          ),
        ]
      : []),
    product(
      'experts_down',
      { ...common, parents: parents(activation ? 'activation' : 'experts_up_gate'), n: hidden, k: ffn },
      sizes,
    ),
    elementwise(
      'combine',
      { parents: parents('experts_down'), bytes: ({ tokens }) => tokens * (topK + 1) * hidden },
      sizes,
    ),
    ...reduced('combine', sizes),
  ];
}

function reduced(from: OperationName, sizes: RankSizes): Operation[] {
  return sizes.ranks > 1 ? [collective('down_reduce', parents(from), 2, sizes)] : [];
}

function head(sizes: RankSizes): Operation[] {
  const { hidden, vocab } = sizes;
  return [
    elementwise(
      'final_norm',
      { scope: 'after', rows: 'samples', weights: hidden, bytes: ({ samples }) => 3 * samples * hidden },
      sizes,
    ),
    product(
      'logits',
      { scope: 'after', rows: 'samples', parents: parents('final_norm'), n: vocab, k: hidden },
      sizes,
    ),
    elementwise(
      'sample',
      {
        scope: 'after',
        rows: 'samples',
        parents: parents('logits'),
        bytes: ({ samples }) => samples * vocab,
      },
      sizes,
    ),
  ];
}

interface Shape {
  scope?: Operation['scope'];
  rows?: Rows;
  parents?: readonly Parent[];
}

function operation(
  name: OperationName,
  lane: Lane,
  { scope = 'layer', rows = 'tokens', parents: needs = none }: Shape,
  weightBytes: number,
  cost: (work: Work) => Cost,
): Operation {
  return { name, scope, lane, rows, parents: needs, weightBytes, cost };
}

/** Reads its rows' inputs, writes their outputs, computes next to nothing. `bytes` and `weights` are in elements. */
function elementwise(
  name: OperationName,
  shape: Shape & { weights?: number; bytes: (work: Work) => number },
  { element }: RankSizes,
): Operation {
  const weightBytes = (shape.weights ?? 0) * element;
  return operation(name, 'memory', shape, weightBytes, (work) => ({
    flops: 0,
    bytes: weightBytes + shape.bytes(work) * element,
    linkBytes: 0,
  }));
}

/** Adds a residual to the stream and normalises it: two inputs, two outputs. */
function norm(name: OperationName, needs: readonly Parent[], sizes: RankSizes): Operation {
  const { hidden } = sizes;
  return elementwise(
    name,
    { parents: needs, weights: hidden, bytes: ({ tokens }) => 4 * tokens * hidden },
    sizes,
  );
}

/** [rows, K] x [K, N], or `count` of them that share the rows. `out`: columns written, where not N. */
function product(
  name: OperationName,
  shape: Shape & { n: number; k: number; out?: number; rowsPerToken?: number; count?: number },
  { element }: RankSizes,
): Operation {
  const { n, k, out = n, rowsPerToken = 1, count = 1 } = shape;
  const weightBytes = count * n * k * element;
  return {
    ...operation(name, 'compute', shape, weightBytes, ({ tokens, samples }) => {
      const each = shape.rows === 'samples' ? samples : tokens;
      const rows = each * rowsPerToken;
      // Experts that no row chose are not read: rows choose evenly, each `rowsPerToken` different ones.
      const read = count === 1 ? 1 : 1 - (1 - rowsPerToken / count) ** each;
      return {
        flops: 2 * rows * n * k,
        bytes: weightBytes * read + rows * (k + out) * element,
        linkBytes: 0,
      };
    }),
    gemm: count === 1 ? { n, k } : { n, k, count },
  };
}

/** Two products of a query with each key and value; queries in, results out, each request's keys and values once. */
function attention(name: 'decode_attention' | 'prefill_attention', sizes: RankSizes): Operation {
  const { heads, kv, element } = sizes;
  const decode = name === 'decode_attention';
  const needs: Parent[] = [{ operation: 'rope_append', layer: 0, rows: decode ? 'same' : 'prefix' }];
  const shape: Shape = { rows: decode ? 'decode' : 'prefill', parents: needs };
  return operation(name, decode ? 'memory' : 'compute', shape, 0, (work) => {
    const rows = decode ? work.decodeTokens : work.tokens - work.decodeTokens;
    return {
      flops: 4 * heads * (decode ? work.decodeKv : work.prefillPairs),
      bytes: (2 * rows * heads + kv * (decode ? work.decodeKv : work.prefillKv)) * element,
      linkBytes: 0,
    };
  });
}

/**
 * All-gather (1 pass) or all-reduce (2 passes: reduce-scatter, all-gather) of [tokens, hidden]: a rank sends
 * (ranks - 1) / ranks of it a pass. Memory traffic: what is sent, once. An all-reduce adds as many elements as a pass.
 */
function collective(
  name: OperationName,
  needs: readonly Parent[],
  passes: 1 | 2,
  { hidden, ranks, element }: RankSizes,
): Operation {
  return operation(name, 'network', { parents: needs }, 0, ({ tokens }) => {
    const elements = ((ranks - 1) / ranks) * tokens * hidden;
    const linkBytes = passes * elements * element;
    return { flops: passes === 2 ? elements : 0, bytes: linkBytes, linkBytes };
  });
}
