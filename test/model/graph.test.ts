import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type {
  Cost,
  GraphOptions,
  OperationGraph,
  OperationName,
  Work,
} from '../../src/engine/model/graph.ts';
import { operationGraph } from '../../src/engine/model/graph/build.ts';
import { workOf, type WorkSegment } from '../../src/engine/model/graph/work.ts';
import { graphModelOfShape, SHAPE_NAMES } from '../../src/engine/model/shapes.ts';
import { parameters } from '../../src/engine/device/sim/system.ts';

const RANKS = 8;
const llama70b = graphModelOfShape('llama-2-70b');
const plain: GraphOptions = { ranks: 1, elementBytes: 2, merge: false, activation: true };

/** 2048 rows of requests with 512 prompt and 1024 answer tokens; the paper counts attention without the mask. */
const batch: Work = {
  tokens: 2048,
  decodeTokens: 1365,
  decodeKv: 1365 * 1024.5,
  prefillKv: 683,
  prefillPairs: 683 * 512,
  samples: 1366,
};

function total(graph: OperationGraph, names: readonly OperationName[], of: keyof Cost, work = batch): number {
  const costs = graph.operations.filter(({ name }) => names.includes(name)).map(({ cost }) => cost(work)[of]);
  return (graph.model.numLayers * costs.reduce((a, b) => a + b, 0)) / 1e9;
}

const NETWORK: OperationName[] = ['attention_gather', 'o_gather', 'o_reduce', 'down_reduce'];

/** NanoFlow (OSDI '25), table 2: GFLOP and GB of one iteration of LLaMA-2-70B over all 8 GPUs. */
const PUBLISHED: [OperationName, gflop: number, gigabytes: number][] = [
  ['kqv', 27487.8, 19.5],
  ['o', 21990.2, 16.1],
  ['up_gate', 153931.6, 96.6],
  ['down', 76965.8, 49.7],
  ['decode_attention', 3665.9, 462.2],
  ['prefill_attention', 916.3, 2.1],
];

describe('costs against the published table', () => {
  const one = operationGraph(llama70b, plain);
  const ranks = operationGraph(llama70b, { ...plain, ranks: RANKS, outputPath: 'reduce' });

  it.each(PUBLISHED)('%s', (name, gflop, gigabytes) => {
    expect(Math.abs(total(one, [name], 'flops') / gflop - 1)).toBeLessThan(0.02);
    expect(Math.abs((RANKS * total(ranks, [name], 'flops')) / gflop - 1)).toBeLessThan(0.02);
    // Two per cent, and the last digit that was printed.
    const bytes = total(one, [name], 'bytes');
    expect(Math.abs(bytes - gigabytes)).toBeLessThan(0.02 * gigabytes + 0.05);
  });

  it('network', () => {
    expect(total(one, NETWORK, 'linkBytes')).toBe(0);
    for (const outputPath of ['gather', 'reduce'] as const) {
      const graph = operationGraph(llama70b, { ...plain, ranks: RANKS, outputPath });
      expect(Math.abs((RANKS * total(graph, NETWORK, 'linkBytes')) / 75.2 - 1)).toBeLessThan(0.02);
      expect(Math.abs((RANKS * total(graph, NETWORK, 'bytes')) / 75.2 - 1)).toBeLessThan(0.02);
    }
    expect(Math.abs((RANKS * total(ranks, NETWORK, 'flops')) / 18.8 - 1)).toBeLessThan(0.02);
  });

  it('time on the link is 0.273 of that of the arithmetic, and 1857 tokens/s the optimum', () => {
    const count = parameters(llama70b);
    expect(Math.abs(count / 70e9 - 1)).toBeLessThan(0.02);
    // A100: 312 TFLOPS, 300 GB/s one way. The sum of the table's operations takes 114.17 ms.
    const layer = one.operations.filter(({ scope }) => scope === 'layer').map(({ name }) => name);
    const link = (total(ranks, NETWORK, 'linkBytes') * 1e9) / 300e9;
    const arithmetic = (total(one, layer, 'flops') * 1e9) / (RANKS * 312e12);
    expect(Math.abs(arithmetic / 0.11417 - 1)).toBeLessThan(0.02);
    expect(Math.abs(link / arithmetic / 0.273 - 1)).toBeLessThan(0.02);
    const products: OperationName[] = ['kqv', 'o', 'up_gate', 'down'];
    // All products of a token, logits included, on one GPU of 260 TFLOPS (the peak that the paper's optimum stands for).
    const logits =
      one.operations.find(({ name }) => name === 'logits')!.cost({ ...batch, samples: 2048 }).flops / 1e9;
    const perToken = ((total(one, products, 'flops') + logits) * 1e9) / batch.tokens;
    expect(Math.abs(260e12 / perToken / 1857 - 1)).toBeLessThan(0.02);
  });
});

const graphs = fc
  .record({
    name: fc.constantFrom(...SHAPE_NAMES.filter((name) => !name.includes('3b'))),
    ranks: fc.constantFrom(1, 2, 4),
    elementBytes: fc.constantFrom(2, 4),
    merge: fc.boolean(),
    activation: fc.boolean(),
    outputPath: fc.constantFrom<GraphOptions['outputPath']>('gather', 'reduce', 'both'),
  })
  .map(({ name, ...options }) => operationGraph(graphModelOfShape(name), options));

describe('graphs', () => {
  it('have unique names, and parents that exist and come first', () => {
    fc.assert(
      fc.property(graphs, ({ operations }) => {
        const seen = new Set<string>();
        const all = new Set<string>(operations.map(({ name }) => name));
        for (const { name, parents, scope } of operations) {
          expect(seen.has(name)).toBe(false);
          for (const parent of parents) {
            expect(parent.layer === 0 ? seen : all).toContain(parent.operation);
          }
          if (scope === 'layer') expect(parents.length).toBeGreaterThan(0);
          seen.add(name);
        }
      }),
    );
  });

  it('read all weights of a layer and the ends once on one device', () => {
    for (const name of SHAPE_NAMES) {
      const model = graphModelOfShape(name);
      const { operations } = operationGraph(model, plain);
      const bytes = operations.reduce(
        (sum, { scope, weightBytes }) => sum + weightBytes * (scope === 'layer' ? model.numLayers : 1),
        0,
      );
      const embedding = model.tieEmbeddings ? 0 : model.vocabSize * model.hiddenSize;
      // Norms are not in the number of parameters.
      const norms = (2 * model.numLayers + 1) * model.hiddenSize;
      expect(bytes).toBe(2 * (parameters(model) - embedding + norms));
    }
  });

  it('cost at least the weights, and no less for more rows', () => {
    fc.assert(
      fc.property(
        graphs,
        fc.integer({ min: 1, max: 4096 }),
        fc.integer({ min: 1, max: 512 }),
        (graph, n, more) => {
          const work = (tokens: number): Work => ({
            tokens,
            decodeTokens: tokens >> 1,
            decodeKv: 100 * tokens,
            prefillKv: tokens,
            prefillPairs: 50 * tokens,
            samples: tokens,
          });
          for (const { cost, weightBytes, gemm } of graph.operations) {
            const [less, greater] = [cost(work(n)), cost(work(n + more))];
            expect(greater.flops).toBeGreaterThanOrEqual(less.flops);
            expect(greater.bytes).toBeGreaterThanOrEqual(less.bytes);
            expect(greater.linkBytes).toBeGreaterThanOrEqual(less.linkBytes);
            if (!gemm?.count) expect(less.bytes).toBeGreaterThanOrEqual(weightBytes);
          }
        },
      ),
    );
  });

  it('share the products of a model among the ranks, whichever way O goes', () => {
    fc.assert(
      fc.property(graphs, (graph) => {
        const { model, options } = graph;
        const alone = operationGraph(model, { ...options, ranks: 1 });
        for (const { name, gemm, cost } of alone.operations) {
          if (!gemm || name === 'router' || name === 'logits') continue;
          const part = graph.operations.find((other) => other.name === name)!;
          expect(part.cost(batch).flops * options.ranks).toBeCloseTo(cost(batch).flops, -3);
        }
      }),
    );
  });

  it('refuse ranks that cannot share the heads', () => {
    expect(() => operationGraph(llama70b, { ...plain, ranks: 3 })).toThrow(/64 query heads.*multiple of 3/);
    expect(() => operationGraph(llama70b, { ...plain, ranks: 0 })).toThrow(/ranks is 0/);
  });
});

describe('workOf', () => {
  const segments = fc
    .tuple(
      fc.array(fc.nat(500), { maxLength: 20 }),
      fc.array(
        fc.record({ start: fc.nat(200), count: fc.integer({ min: 2, max: 60 }), sample: fc.boolean() }),
        {
          maxLength: 4,
        },
      ),
    )
    .map(([decode, prefill]): WorkSegment[] => [
      ...decode.map((start) => ({ start, count: 1, sample: true })),
      ...prefill,
    ]);

  it('is that of the single rows; only keys of a chunk are read once for all of them', () => {
    fc.assert(
      fc.property(segments, fc.nat(), fc.nat(), (list, a, b) => {
        const rows = list.reduce((sum, { count }) => sum + count, 0);
        const [start, end] = [a % (rows + 1), b % (rows + 1)].sort((x, y) => x - y);
        const work = workOf([start, end], list);
        const single = Array.from({ length: end - start }, (_, i) =>
          workOf([start + i, start + i + 1], list),
        );
        const sum = (key: keyof Work): number => single.reduce((s, each) => s + each[key], 0);
        for (const key of ['tokens', 'decodeTokens', 'decodeKv', 'prefillPairs', 'samples'] as const) {
          expect(work[key]).toBe(sum(key));
        }
        expect(work.tokens).toBe(end - start);
        expect(work.prefillKv).toBeLessThanOrEqual(sum('prefillKv'));
      }),
    );
  });
});
