import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { operationSeconds } from '../../src/engine/device/sim/cost.ts';
import { GPUS, parseGpu, type Gpu } from '../../src/engine/device/sim/gpus.ts';
import { paperTable, TABLES } from '../../src/engine/device/sim/interference.ts';
import { steadyMix, type BatchMix } from '../../src/engine/device/sim/mix.ts';
import { offloadSides } from '../../src/engine/device/sim/offload.ts';
import { StepModel } from '../../src/engine/device/sim/step.ts';
import { kvBytesPerToken, kvCapacity, parameters } from '../../src/engine/device/sim/system.ts';
import { SIM_LANES } from '../../src/engine/device/sim/timeline.ts';
import type { GraphModel, OperationGraph } from '../../src/engine/model/graph.ts';
import { operationGraph } from '../../src/engine/model/graph/build.ts';
import type { Pipeline } from '../../src/engine/pipeline/pipeline.ts';
import { nanoBatchOnly, nonOverlap, overlap } from '../../src/engine/pipeline/presets.ts';
import { randomHalves, randomPipeline } from '../../src/engine/pipeline/random.ts';

const dense: GraphModel = {
  name: 'dense',
  numLayers: 20,
  hiddenSize: 4096,
  intermediateSize: 14336,
  numHeads: 32,
  numKvHeads: 8,
  headDim: 128,
  vocabSize: 128256,
  tieEmbeddings: false,
};
const sparse: GraphModel = { ...dense, name: 'sparse', moe: { numExperts: 8, topK: 2 } };

function graphOf(model: GraphModel, ranks: number): OperationGraph {
  const both = ranks > 1 ? { outputPath: 'both' as const } : {};
  return operationGraph(model, { ranks, elementBytes: 2, merge: false, activation: false, ...both });
}

const graphs = fc.constantFrom(graphOf(dense, 1), graphOf(dense, 8), graphOf(sparse, 1), graphOf(sparse, 8));
const mixes = fc
  .tuple(
    fc.integer({ min: 64, max: 2048 }),
    fc.integer({ min: 64, max: 2048 }),
    fc.constantFrom(256, 1024, 2048),
  )
  .map(([input, output, tokens]) => steadyMix(input, output, tokens));
const presets = fc.constantFrom(nonOverlap, nanoBatchOnly, overlap);
const gpus = fc.constantFrom(...GPUS);
const tables = fc.constantFrom(...TABLES);

const stepModel = (gpu: Gpu, graph: OperationGraph, pipeline: Pipeline, more = {}): StepModel =>
  new StepModel({ gpu, graph, pipelineFor: () => pipeline, table: paperTable, ...more });
const alone = (gpu: Gpu, graph: OperationGraph, mix: BatchMix, scope: (name: string) => boolean): number =>
  graph.operations.reduce((sum, each) => sum + (scope(each.scope) ? operationSeconds(gpu, each, mix) : 0), 0);

describe('price of a step', () => {
  it('of the sequential pipeline is the sum of its operations', () => {
    fc.assert(
      fc.property(
        gpus,
        fc.constantFrom(graphOf(dense, 1), graphOf(sparse, 1)),
        mixes,
        tables,
        (gpu, graph, mix, table) => {
          const pipeline = nonOverlap(graph, mix, gpu.sms);
          const { numLayers } = graph.model;
          const sum =
            numLayers * alone(gpu, graph, mix, (scope) => scope === 'layer') +
            alone(gpu, graph, mix, (scope) => scope !== 'layer');
          for (const mode of ['lanes', 'stages'] as const) {
            const price = stepModel(gpu, graph, pipeline, { table, mode }).price(mix);
            expect(price.seconds / sum).toBeCloseTo(1, 6);
            expect(price.busy.reduce((total, busy) => total + busy, 0) / sum).toBeCloseTo(1, 6);
            expect(price.outside + price.period * numLayers).toBeCloseTo(price.seconds, 9);
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it('never rises when the GPU gets better, for pipelines that run in a row', () => {
    const better: ((gpu: Gpu) => Partial<Gpu>)[] = [
      (gpu) => ({ memoryBandwidth: gpu.memoryBandwidth * 1.3 }),
      (gpu) => ({ peakFlops: gpu.peakFlops * 1.3 }),
      (gpu) => ({ linkBandwidth: gpu.linkBandwidth * 1.3 }),
      () => ({ launchSeconds: 0, attentionSeconds: 0, linkSeconds: 0 }),
    ];
    fc.assert(
      fc.property(
        gpus,
        graphs,
        mixes,
        fc.constantFrom(nonOverlap, nanoBatchOnly),
        fc.constantFrom(...better),
        (gpu, graph, mix, preset, change) => {
          const pipeline = preset(graph, mix, gpu.sms);
          const before = stepModel(gpu, graph, pipeline).price(mix).seconds;
          const after = stepModel({ ...gpu, ...change(gpu) }, graph, pipeline).price(mix).seconds;
          expect(after).toBeLessThanOrEqual(before * (1 + 1e-12));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('scales down with everything that takes time', () => {
    fc.assert(
      fc.property(gpus, graphs, mixes, presets, (gpu, graph, mix, preset) => {
        const pipeline = preset(graph, mix, gpu.sms);
        const twice: Gpu = {
          ...gpu,
          peakFlops: 2 * gpu.peakFlops,
          memoryBandwidth: 2 * gpu.memoryBandwidth,
          linkBandwidth: 2 * gpu.linkBandwidth,
          launchSeconds: gpu.launchSeconds / 2,
          attentionSeconds: gpu.attentionSeconds / 2,
          linkSeconds: gpu.linkSeconds / 2,
        };
        const [before, after] = [gpu, twice].map(
          (each) => stepModel(each, graph, pipeline).price(mix).seconds,
        );
        expect(after / before).toBeCloseTo(0.5, 9);
      }),
      { numRuns: 60 },
    );
  });

  it('is no lower with a barrier after each stage', () => {
    fc.assert(
      fc.property(gpus, graphs, mixes, presets, tables, (gpu, graph, mix, preset, table) => {
        const pipeline = preset(graph, mix, gpu.sms);
        const lanes = stepModel(gpu, graph, pipeline, { table }).price(mix).seconds;
        const stages = stepModel(gpu, graph, pipeline, { table, mode: 'stages' }).price(mix).seconds;
        expect(stages).toBeGreaterThanOrEqual(lanes * (1 - 1e-9));
      }),
      { numRuns: 100 },
    );
  });

  it('is that of any valid pipeline, and no lower than its busiest lane', () => {
    const graph = graphOf(dense, 1);
    fc.assert(
      fc.property(gpus, mixes, fc.integer({ min: 1, max: 1e6 }), tables, (gpu, mix, seed, table) => {
        const rows = seed % 2 === 0 ? mix : randomHalves(mix, seed);
        const pipeline = randomPipeline(graph, rows, gpu.sms, seed);
        for (const mode of ['lanes', 'stages'] as const) {
          const { seconds, busy } = stepModel(gpu, graph, pipeline, { table, mode }).price(mix);
          expect(seconds).toBeGreaterThanOrEqual(Math.max(...busy) * (1 - 1e-6));
          const roof = graph.operations.reduce(
            (sum, each) => sum + (each.scope === 'layer' ? each.cost(mix).flops : 0) * graph.model.numLayers,
            0,
          );
          expect(seconds).toBeGreaterThan(roof / gpu.peakFlops);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('accepts halves: each has its part of the decode rows and of the prompts', () => {
    const graph = graphOf(dense, 1);
    const mix = steadyMix(512, 512, 2048);
    const { gpu } = parseGpu('a100-80x8');
    const whole = stepModel(gpu, graph, nonOverlap(graph, mix, gpu.sms)).costs(mix);
    const pipeline = overlap(graph, mix, gpu.sms, { arrangement: 'halves', cut: 1 });
    const halves = stepModel(gpu, graph, pipeline).costs(mix);
    for (const name of ['decode_attention', 'prefill_attention']) {
      for (const half of [1, 2]) {
        expect(halves.get(`${name}.${half}`)!.flops / whole.get(`${name}.1`)!.flops).toBeCloseTo(0.5, 2);
      }
    }
  });

  it('gives its nano-operations the costs of their rows', () => {
    const graph = graphOf(dense, 8);
    const mix = steadyMix(512, 512, 2048);
    const { gpu } = parseGpu('a100-80x8');
    const whole = stepModel(gpu, graph, nonOverlap(graph, mix, gpu.sms)).costs(mix);
    const parts = stepModel(gpu, graph, overlap(graph, mix, gpu.sms)).costs(mix);
    for (const name of ['kqv', 'up_gate', 'decode_attention', 'down_reduce']) {
      const split = [...parts].filter(([id]) => id.startsWith(`${name}.`)).map(([, cost]) => cost);
      expect(split.length).toBeGreaterThan(1);
      const sum = (key: 'flops' | 'linkBytes' | 'seconds'): number =>
        split.reduce((total, cost) => total + cost[key], 0);
      const one = whole.get(`${name}.1`)!;
      expect(sum('flops') / Math.max(1, one.flops)).toBeCloseTo(one.flops > 0 ? 1 : 0, 9);
      expect(sum('linkBytes')).toBeCloseTo(one.linkBytes, 3);
      expect(sum('seconds')).toBeGreaterThan(one.seconds);
    }
  });

  it('refuses a pipeline for another number of GPUs or another kind of model', () => {
    const { gpu } = parseGpu('a100-80');
    const mix = steadyMix(512, 512, 256);
    const pipeline = overlap(graphOf(dense, 8), mix, gpu.sms);
    expect(() => stepModel(gpu, graphOf(dense, 1), pipeline).price(mix)).toThrow(/for 8 GPUs/);
    expect(() => stepModel(gpu, graphOf(sparse, 8), pipeline).price(mix)).toThrow(/which sparse has not/);
  });
});

describe('offload', () => {
  it('costs something, less than running it alone, and shows its four parts in every layer', () => {
    const { gpu } = parseGpu('a100-80x8');
    const graph = graphOf(dense, 8);
    const mix = steadyMix(512, 512, 2048);
    const pipeline = overlap(graph, mix, gpu.sms);
    const side = offloadSides(gpu, graph.model);
    const plain = stepModel(gpu, graph, pipeline).price(mix);
    const model = stepModel(gpu, graph, pipeline, { side });
    const { seconds, busy } = model.price(mix);
    const sides = side(pipeline, mix).reduce((sum, each) => sum + each.seconds, 0) * graph.model.numLayers;
    expect(seconds).toBeGreaterThan(plain.seconds);
    expect(seconds).toBeLessThan(plain.seconds + sides);
    expect(busy[SIM_LANES.indexOf('copy')]).toBeGreaterThan(0);
    const { spans } = model.spans(mix, 3);
    for (const part of ['gather', 'out', 'in', 'scatter']) {
      expect(spans.filter(({ id }) => id === `offload_${part}`).map(({ layer }) => layer)).toEqual([0, 1, 2]);
    }
  });
});

describe('memory', () => {
  it('holds what the published configuration of LLaMA-2-70B holds, within 5 %', () => {
    const llama: GraphModel = {
      ...dense,
      numLayers: 80,
      hiddenSize: 8192,
      intermediateSize: 28672,
      numHeads: 64,
      vocabSize: 32000,
    };
    expect(parameters(llama)).toBe(68_975_329_280); // 68,976,648,192 with the norms' weights
    expect(kvBytesPerToken(llama)).toBe(327_680);
    const tokens = kvCapacity(parseGpu('a100-80x8'), llama);
    expect(Math.abs(tokens / (1024 * 1480) - 1)).toBeLessThan(0.05);
    expect(() => kvCapacity(parseGpu('a100-80'), llama)).toThrow(/a100-80x2/);
  });
});
