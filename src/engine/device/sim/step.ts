/**
 * The price of a step: the operations before the layers, a pipeline over the layers, the operations behind them, on one
 * of the GPUs that share the model (all do the same).
 */
import type { Cost, Operation, OperationGraph, Work } from '../../model/graph.ts';
import type { Pipeline } from '../../pipeline/pipeline.ts';
import { resolver, resolveRows } from '../../pipeline/resolve.ts';
import { operationSeconds } from './cost.ts';
import type { Gpu } from './gpus.ts';
import type { InterferenceTable } from './interference.ts';
import { emptyMix, workOfRange, type BatchMix } from './mix.ts';
import { SIM_LANES, Timeline, type SideOperation, type Span, type TimelineMode } from './timeline.ts';

/** Which pipeline a batch runs through. The same object each time for the same pipeline. */
export type PipelineFor = (mix: Readonly<BatchMix>) => Pipeline;

export interface StepModelOptions {
  gpu: Gpu;
  /** For one of the ranks; its `options.ranks` GPUs work side by side. */
  graph: OperationGraph;
  pipelineFor: PipelineFor;
  table: InterferenceTable;
  mode?: TimelineMode;
  /** Work beside a pipeline's own (offload.ts): once a layer, with its duration. */
  side?: (pipeline: Pipeline, mix: Readonly<BatchMix>) => readonly TimedSide[];
}

export interface TimedSide extends SideOperation {
  seconds: number;
}

export interface StepPrice {
  seconds: number;
  /** Of `seconds`: outside the layers. */
  outside: number;
  /** One more layer in the steady state. */
  period: number;
  /** Time in which each lane ran something, by index in SIM_LANES. */
  busy: readonly number[];
}

interface Prepared {
  timeline: Timeline;
  operations: readonly Operation[]; // of pipeline.nano
  seconds: Float64Array;
}

export class StepModel {
  readonly options: StepModelOptions;
  readonly #operations: ReadonlyMap<string, Operation>;
  readonly #prepared = new Map<Pipeline, Prepared>();
  readonly #work: Work = emptyMix();

  constructor(options: StepModelOptions) {
    this.options = options;
    this.#operations = new Map(options.graph.operations.map((operation) => [operation.name, operation]));
  }

  /** @throws Error when the batch's pipeline does not fit the model */
  price(mix: Readonly<BatchMix>): StepPrice {
    const pipeline = this.options.pipelineFor(mix);
    const { timeline, seconds } = this.#fill(pipeline, mix);
    const layers = timeline.run(seconds, this.options.graph.model.numLayers);
    const busy = [...layers.busy];
    let outside = 0;
    for (const operation of this.options.graph.operations) {
      if (operation.scope === 'layer') continue;
      const alone = operationSeconds(this.options.gpu, operation, mix);
      busy[SIM_LANES.indexOf(operation.lane)] += alone;
      outside += alone;
    }
    return { seconds: layers.seconds + outside, outside, period: layers.period, busy };
  }

  /** Every nano-operation of the first `layers` layers, in order of starts; seconds from the start of layer 0. */
  spans(mix: Readonly<BatchMix>, layers: number): { pipeline: Pipeline; spans: Span[] } {
    const pipeline = this.options.pipelineFor(mix);
    const { timeline, seconds } = this.#fill(pipeline, mix);
    return { pipeline, spans: timeline.spans(seconds, layers) };
  }

  /** What each nano-operation computes and moves in one layer, and how long it takes alone. */
  costs(mix: Readonly<BatchMix>): Map<string, Cost & { seconds: number }> {
    const pipeline = this.options.pipelineFor(mix);
    const { operations, seconds } = this.#fill(pipeline, mix);
    const rows = resolveRows(pipeline, mix);
    const resolve = resolver(pipeline, mix);
    return new Map(
      pipeline.nano.map((nano, i) => {
        const [start, end] = resolve(nano.range);
        const cost = operations[i].cost(workOfRange(mix, start, end, this.#work, rows));
        return [nano.id, { ...cost, seconds: seconds[i] }];
      }),
    );
  }

  #fill(pipeline: Pipeline, mix: Readonly<BatchMix>): Prepared {
    const prepared = this.#prepare(pipeline, mix);
    const { operations, seconds } = prepared;
    const rows = resolveRows(pipeline, mix);
    const resolve = resolver(pipeline, mix);
    pipeline.nano.forEach((nano, i) => {
      const [start, end] = resolve(nano.range);
      const work = workOfRange(mix, start, end, this.#work, rows);
      seconds[i] = end > start ? operationSeconds(this.options.gpu, operations[i], work) : 0;
    });
    this.options
      .side?.(pipeline, mix)
      .forEach((side, i) => (seconds[pipeline.nano.length + i] = side.seconds));
    return prepared;
  }

  #prepare(pipeline: Pipeline, mix: Readonly<BatchMix>): Prepared {
    let prepared = this.#prepared.get(pipeline);
    if (prepared) return prepared;
    const { graph, table, mode, side } = this.options;
    if (pipeline.ranks !== graph.options.ranks) {
      throw new Error(
        `pipeline '${pipeline.name}' is for ${pipeline.ranks} GPUs and the model is on ${graph.options.ranks}`,
      );
    }
    const operations = pipeline.nano.map((nano) => {
      const operation = this.#operations.get(nano.operation);
      if (operation) return operation;
      throw new Error(
        `pipeline '${pipeline.name}' runs '${nano.operation}', which ${graph.model.name} has not`,
      );
    });
    const sides = side?.(pipeline, mix) ?? [];
    const timeline = new Timeline(pipeline, table, mode, sides);
    prepared = { timeline, operations, seconds: new Float64Array(pipeline.nano.length + sides.length) };
    this.#prepared.set(pipeline, prepared);
    return prepared;
  }
}
