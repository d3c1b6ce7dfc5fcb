/**
 * The simulator against published figures: NanoFlow (OSDI '25) on A100s. Every row goes through the public parts of
 * the simulator: operation graph, preset pipelines with the published splits, cost model, interference table and, for
 * offline throughput, the engine's scheduler.
 *
 * Calibrated: three fractions of the A100's record (gpus.ts), on table 2 of the paper (the rows marked "calibrated"). No
 * constant is fitted to another row. The interference table is the paper's (table 3).
 */
import type { GraphModel, OperationGraph } from '../../model/graph.ts';
import { operationGraph } from '../../model/graph/build.ts';
import type { Pipeline } from '../../pipeline/pipeline.ts';
import { nanoBatchOnly, nonOverlap, overlap } from '../../pipeline/presets.ts';
import { findPublished, type PublishedPipeline } from '../../pipeline/published.ts';
import { constantArrivals } from './arrivals.ts';
import { parseGpu, type GpuSystem } from './gpus.ts';
import { paperTable } from './interference.ts';
import { steadyMix, type BatchMix } from './mix.ts';
import { offloadSides } from './offload.ts';
import { FIGURES, type Column } from './publishedFigures.ts';
import { StepModel } from './step.ts';
import { kvCapacity } from './system.ts';
import { simulateTrace } from './trace.ts';

export interface FidelityRow {
  group: string;
  name: string;
  unit: 'tokens/s/GPU' | 'ms';
  published: number;
  modelled: number;
  /** modelled / published - 1. */
  error: number;
  /** The row that constants were read off; all others test them. */
  calibrated: boolean;
}

const LLAMA_2_70B: GraphModel = {
  name: 'llama-2-70b',
  numLayers: 80,
  hiddenSize: 8192,
  intermediateSize: 28672,
  numHeads: 64,
  numKvHeads: 8,
  headDim: 128,
  vocabSize: 32000,
  tieEmbeddings: false,
};

const LLAMA_3_8B: GraphModel = {
  ...LLAMA_2_70B,
  name: 'llama-3-8b',
  numLayers: 32,
  hiddenSize: 4096,
  intermediateSize: 14336,
  numHeads: 32,
  vocabSize: 128256,
};

type Variant = 'non-overlap' | 'nano-batch only' | 'NanoFlow' | 'NanoFlow + offload';

/** One model on one system, as NanoFlow runs it. */
class Setting {
  readonly system: GpuSystem;
  readonly graph: OperationGraph;
  /** Where the published configuration splits the batch. */
  readonly splits: PublishedPipeline;

  constructor(gpu: string, model: GraphModel, tokens: number) {
    this.system = parseGpu(gpu);
    this.splits = findPublished(model.name, tokens)!;
    this.graph = residualInEpilogue(
      operationGraph(model, {
        ranks: this.system.count,
        elementBytes: 2,
        merge: false,
        activation: false,
        outputPath: this.system.count > 1 ? 'both' : undefined,
      }),
    );
  }

  mix(input: number, output: number): BatchMix {
    return steadyMix(input, output, this.splits.tokens, kvCapacity(this.system, this.graph.model));
  }

  stepModel(variant: Variant, mix: BatchMix): StepModel {
    const pipeline = this.#pipeline(variant, mix);
    const { gpu } = this.system;
    const side = variant === 'NanoFlow + offload' ? offloadSides(gpu, this.graph.model) : undefined;
    return new StepModel({ gpu, graph: this.graph, pipelineFor: () => pipeline, table: paperTable, side });
  }

  /** Tokens per second and GPU of the mean batch of the steady state. */
  throughput(variant: Variant, input: number, output: number): number {
    const mix = this.mix(input, output);
    return mix.tokens / (this.stepModel(variant, mix).price(mix).seconds * this.system.count);
  }

  /** The same through the scheduler, request by request, as NanoFlow measures: after many steps, over many. */
  offline(variant: Variant, input: number, output: number, { skip, steps }: OfflineSteps): number {
    const pageSize = 16;
    const { steadyTokensPerSecond } = simulateTrace({
      model: this.stepModel(variant, this.mix(input, output)),
      arrivals: constantArrivals(input, output, { count: Infinity }),
      sizes: {
        pages: Math.floor(kvCapacity(this.system, this.graph.model) / pageSize),
        pageSize,
        maxBatchTokens: this.splits.tokens,
        maxRequests: this.splits.tokens,
      },
      hostSeconds: this.system.gpu.hostSeconds,
      skipSteps: skip,
      maxSteps: skip + steps,
    });
    return steadyTokensPerSecond / this.system.count;
  }

  /** Milliseconds of each operation of an iteration, alone, unsplit, all layers. */
  operations(mix: BatchMix): Map<string, number> {
    const costs = this.stepModel('non-overlap', mix).costs(mix);
    const layers = this.graph.model.numLayers * 1e3;
    return new Map([...costs].map(([id, { seconds }]) => [id.replace(/\.\d+$/, ''), seconds * layers]));
  }

  #pipeline(variant: Variant, mix: BatchMix): Pipeline {
    const { sms } = this.system.gpu;
    if (variant === 'non-overlap') return nonOverlap(this.graph, mix, sms);
    const make = variant === 'nano-batch only' ? nanoBatchOnly : overlap;
    const { boundary, kqv1, kqv3 } = this.splits;
    const splits = this.system.count > 1 ? { boundary, kqv1, kqv3 } : { boundary };
    return make(this.graph, mix, sms, splits);
  }
}

/** NanoFlow adds residuals in the epilogue of O and down, so its norms read and write one tensor each, not two. */
export function residualInEpilogue(graph: OperationGraph): OperationGraph {
  const operations = graph.operations.map((operation) => {
    if (operation.name !== 'norm1' && operation.name !== 'norm2') return operation;
    const { cost } = operation;
    return { ...operation, cost: (work: Parameters<typeof cost>[0]) => halved(cost(work)) };
  });
  return { ...graph, operations };
}

function halved<C extends { bytes: number }>(cost: C): C {
  return { ...cost, bytes: cost.bytes / 2 };
}

/** Steps of an offline run: those until requests of equal length no longer end in waves, and those measured. */
export interface OfflineSteps {
  skip: number;
  steps: number;
}

/**
 * @param offline default: NanoFlow's evaluation, but for 6000 measured steps instead of 1500, which is little more than
 *   the life of one request of 512-1024; its waves die out slowly
 */
export function fidelity(offline: OfflineSteps = { skip: 10_000, steps: 6000 }): FidelityRow[] {
  const large = new Setting('a100-80x8', LLAMA_2_70B, 2048);
  const small = new Setting('a100-80', LLAMA_3_8B, 1024);
  const rows: FidelityRow[] = [];
  const add = (
    group: string,
    name: string,
    published: number,
    modelled: number,
    unit: FidelityRow['unit'],
  ): void =>
    void rows.push({
      group,
      name,
      unit,
      published,
      modelled,
      error: modelled / published - 1,
      calibrated: group === CALIBRATION && name !== 'PfAttn',
    });

  // Table 2 is of 512 in, 1024 out: 1365 tokens decode over 1024 KV tokens each.
  const alone = large.operations(large.mix(512, 1024));
  for (const [name, { milliseconds, operations }] of Object.entries(FIGURES.operations)) {
    const sum = operations.reduce((total, operation) => total + (alone.get(operation) ?? 0), 0);
    add(CALIBRATION, name, milliseconds, sum, 'ms');
  }

  const products = ['kqv', 'o', 'up_gate', 'down'].reduce((sum, name) => sum + alone.get(name)!, 0) / 1e3;
  const optimum = large.splits.tokens / (products * large.system.count);
  add('llama-2-70b, 8x A100', 'optimum: matrix products alone', FIGURES.optimum, optimum, 'tokens/s/GPU');
  for (const column of Object.keys(FIGURES.offline) as (keyof typeof FIGURES.offline)[]) {
    const modelled = large.offline('NanoFlow + offload', ...lengths(column), offline);
    add(
      'llama-2-70b, 8x A100',
      `offline ${column}, scheduler`,
      FIGURES.offline[column],
      modelled,
      'tokens/s/GPU',
    );
  }
  for (const [variant, columns] of Object.entries(FIGURES.ablation)) {
    for (const [column, published] of Object.entries(columns)) {
      const modelled = large.throughput(variant as Variant, ...lengths(column as Column));
      add('llama-2-70b, 8x A100', `${variant} ${column}`, published, modelled, 'tokens/s/GPU');
    }
  }
  const single = small.throughput('NanoFlow', 1024, 512);
  add('llama-3-8b, 1x A100', 'NanoFlow 1024-512', FIGURES.llama3, single, 'tokens/s/GPU');
  return rows;
}

const CALIBRATION = 'table 2, per iteration';

function lengths(column: Column): [input: number, output: number] {
  const [input, output] = column.split('-').map(Number);
  return [input, output];
}
