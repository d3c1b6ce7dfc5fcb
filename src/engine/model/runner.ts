/**
 * Runs dense batches of one model on one device: owns weights, buffers and compiled programs. Knows nothing of queues,
 * text and events.
 */
import type { CallTiming, CompiledProgram, CompileEvent, Device, ProfiledItem } from '../device.ts';
import type { GemmCall, ProgramCall } from '../kernels/calls.ts';
import { MOST_PARTS } from '../kernels/gemm/choose.ts';
import { attentionCapacity, planAttention } from '../plan/attention.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';
import { usedRanges, writeBatch, type PlannedRequest } from '../plan/batchMeta.ts';
import { SAMPLED_WORDS, stepMetaLayout, type StepMetaLayout } from '../plan/stepMeta.ts';
import { writeSampling } from '../schedule/sampling.ts';
import type { DenseBatch } from '../schedule/scheduler.ts';
import type { BatchRunner, LaunchedStep, RunnerProgress } from './batchRunner.ts';
import { allocateBuffers, bufferList, type ModelBuffers } from './buffers.ts';
import { bucket, buckets, bucketStep } from './buckets.ts';
import type { ModelConfig } from './config.ts';
import { batchShape, runsOf, type BatchShape } from './lowerBatch.ts';
import type { ModelFiles } from './modelFiles.ts';
import { graphModelOf, operationGraph } from './graph/build.ts';
import type { OperationGraph } from './graph.ts';
import { bodyCalls, headCalls, type BodyShape } from './plainProgram.ts';
import { activationCanFuse, outputParts, type ProgramParts } from './program.ts';
import { attendsTo, PipelineSteps, SLOTS, type PipelineChoice, type PlannedStep } from './pipelineSteps.ts';
import { sampledTokens } from './sampled.ts';
import { longPromptRow, needsOwnRow, ropeTable } from './ropeTable.ts';
import type { EngineSizes } from './sizes.ts';
import { directLoad } from './weightFiles.ts';
import { loadWeights } from './weights.ts';
import { WeightStore } from './weightStore.ts';

export type { PipelineChoice } from './pipelineSteps.ts';
export type { BatchRunner, LaunchedStep, RunnerProgress } from './batchRunner.ts';
export type { SampledToken } from './sampled.ts';

export class ModelRunner implements BatchRunner {
  readonly config: ModelConfig;
  readonly sizes: EngineSizes;
  readonly device: Device;
  readonly buffers: ModelBuffers;
  readonly weightBytes: number;
  /** Tensors of the checkpoint that nothing reads. */
  readonly unexpectedTensors: readonly string[];
  readonly #parts: ProgramParts;
  readonly #layout: StepMetaLayout;
  readonly #words: Uint32Array;
  readonly #floats: Float32Array;
  readonly #programs = new Map<string, CompiledProgram>();
  #choose: PipelineChoice = () => undefined;
  readonly #pipelines: PipelineSteps;
  #last: CompiledProgram[] = [];

  private constructor(
    device: Device,
    config: ModelConfig,
    sizes: EngineSizes,
    parts: ProgramParts,
    unexpected: readonly string[],
  ) {
    this.device = device;
    this.config = config;
    this.sizes = sizes;
    this.buffers = parts.buffers;
    this.weightBytes = parts.weights.bytes;
    this.unexpectedTensors = unexpected;
    this.#parts = parts;
    this.#layout = parts.layout;
    this.#words = new Uint32Array(parts.layout.words);
    this.#floats = new Float32Array(this.#words.buffer);
    this.#pipelines = new PipelineSteps(device, parts, sizes, (label, calls) => this.#program(label, calls));
  }

  /** Loads the weights and allocates everything; compile() comes next. */
  static async load(
    device: Device,
    config: ModelConfig,
    files: ModelFiles,
    sizes: EngineSizes,
    progress: RunnerProgress = {},
  ): Promise<ModelRunner> {
    const weights = new WeightStore(device);
    let current: string | undefined;
    const unexpected = await loadWeights(
      config,
      files,
      (spec) => WeightStore.dtypeOf(spec, sizes.types.weights),
      (spec, chunk) => {
        if (current !== spec.name) weights.allocate(spec, WeightStore.dtypeOf(spec, sizes.types.weights));
        current = spec.name;
        weights.write(spec, chunk);
      },
      (loaded) => progress.weights?.({ ...loaded, bytes: weights.bytes }),
      directLoad(device, weights, sizes.types.weights),
    );
    const attentionWorkgroups = device.target.defaultWorkgroups;
    const attention = attentionCapacity({
      tokens: sizes.maxBatchTokens,
      requests: sizes.maxRequests,
      heads: config.numHeads,
      kvHeads: config.numKvHeads,
      workgroups: attentionWorkgroups,
    });
    const layout = stepMetaLayout({
      tokens: sizes.maxBatchTokens,
      requests: sizes.maxRequests,
      pages: sizes.pages,
      ranges: SLOTS.ranges,
      attentionSlots: SLOTS.attention,
      items16: attention.items16,
      items128: attention.items128,
      mergeRows: attention.mergeRows,
      attentionWorkgroups,
      adjustments: Math.max(sizes.maxModelLen + 1024, 2 ** 18),
    });
    const { f16, subgroupMatrix } = device.target.features;
    const { activations, weights: stored } = sizes.types;
    const matrices = subgroupMatrix && f16 && activations !== 'f32' && stored === activations;
    const addsToStream = device.target.kind === 'cuda';
    const dynamic = config.rope.scaling.kind === 'dynamic';
    const ropeRows = sizes.maxModelLen + (dynamic ? sizes.maxBatchTokens : 0);
    const buffers = allocateBuffers(
      device,
      config,
      layout,
      {
        tokens: sizes.maxBatchTokens,
        requests: sizes.maxRequests,
        pages: sizes.pages,
        pageSize: sizes.pageSize,
        partialRows: Math.max(1, attention.partialRows),
        parts: matrices && !addsToStream ? MOST_PARTS : 1,
        ropeRows,
      },
      sizes.types,
    );
    device.write(buffers.ropeTable.buffer, 0, ropeTable(config, sizes.maxModelLen));
    const parts: ProgramParts = {
      config,
      weights,
      buffers,
      layout,
      attentionWorkgroups,
      matrices,
      addsToStream,
      streams: addsToStream,
    };
    return new ModelRunner(device, config, sizes, parts, unexpected);
  }

  get #bucketStep(): number {
    return bucketStep(this.#parts.streams);
  }

  get maxAdjustments(): number {
    return this.#layout.capacity.adjustments;
  }

  /** The operations as this engine carries them out: what its pipelines are made of. */
  graph(name: string = this.config.architecture): OperationGraph {
    return operationGraph(graphModelOf(this.config, name), {
      ranks: 1,
      elementBytes: this.sizes.types.weights === 'f32' ? 4 : 2,
      merge: !this.#parts.streams,
      activation: !this.#parts.matrices || !activationCanFuse(this.#parts),
    });
  }

  /**
   * From the next step on, batches run through the pipeline that `choose` names, or in the plain order where it names
   * none. Its programs are compiled when they are first needed (warm them up with a batch of the size).
   */
  usePipelines(choose: PipelineChoice | undefined): void {
    this.#choose = choose ?? (() => undefined);
  }

  /** Builds the programs that batches of this make-up run through, when a pipeline is chosen for them. */
  async compileFor(shape: BatchShape): Promise<void> {
    const pipeline = this.#pipelineFor(shape);
    if (pipeline) await this.#pipelines.compileFor(pipeline, shape);
  }

  #pipelineFor(shape: BatchShape): Pipeline | undefined {
    const pipeline = this.#choose(shape);
    return pipeline && attendsTo(pipeline, shape) ? pipeline : undefined;
  }

  /** Builds the programs of every shape bucket, so that no request waits for a compiler. */
  async compile(onCompile?: (event: CompileEvent) => void): Promise<void> {
    for (const maxTokens of buckets(this.sizes.maxBatchTokens, this.#bucketStep)) {
      for (const tile128 of [true, false]) await this.#body({ maxTokens, tile128, merge: true }, onCompile);
    }
    for (const rows of buckets(this.sizes.maxRequests, this.#bucketStep)) {
      for (const tokens of buckets(this.sizes.maxBatchTokens, this.#bucketStep)) {
        if (tokens >= rows) await this.#head(rows, tokens, onCompile);
      }
    }
  }

  /**
   * Runs every program once on an empty batch: drivers finish compiling at the first dispatch. Before the first step
   * only; the metadata still holds zeros then, so nothing is computed.
   */
  async warmUp(): Promise<void> {
    for (const program of this.#programs.values()) this.device.submit(program);
    await this.device.idle();
  }

  async launch(batch: DenseBatch, endTokens: readonly number[]): Promise<LaunchedStep> {
    const words = this.#words;
    const layout = this.#layout;
    const { sizes } = this;
    const shape = batchShape(batch);
    const pipeline = this.#pipelineFor(shape);
    const requests = writeBatch(
      batch,
      sizes.pageSize,
      layout,
      words,
      (prompt, position, row) => this.#ropeRow(prompt, position, row),
      pipeline && runsOf(pipeline, shape),
    );
    const step = pipeline
      ? this.#pipelines.plan(pipeline, batch, shape, requests, words)
      : this.#plainStep(batch, requests);
    const sampled = batch.segments.filter((segment) => segment.sample).map((segment) => segment.request);
    writeSampling(sampled, endTokens, layout, { u32: words, f32: this.#floats });

    const last = requests.at(-1)!;
    const pageEntries = last.pageStart + batch.segments.at(-1)!.request.pages.length;
    const meta = this.buffers.meta.buffer;
    for (const [start, end] of usedRanges(layout, words, pageEntries, step.used)) {
      this.device.write(meta, start * 4, words.subarray(start, end));
    }
    this.#last = await step.programs();
    for (const program of this.#last) this.device.submit(program);
    // The copy is enqueued here, so that a later step cannot overwrite the tokens before they are read.
    const rows = sampled.length;
    const bytes =
      rows > 0
        ? this.device.read(this.buffers.sampled.buffer, 0, rows * SAMPLED_WORDS * 4)
        : this.device.idle();
    bytes.catch(() => undefined); // reported by collect()
    return { collect: async () => sampledTokens(await bytes, rows) };
  }

  /** One batch through the operations in the plain order. */
  #plainStep(batch: DenseBatch, requests: readonly PlannedRequest[]): PlannedStep {
    const { config, sizes } = this;
    const plan = planAttention(
      {
        requests,
        heads: config.numHeads,
        kvHeads: config.numKvHeads,
        headDim: config.headDim,
        pageSize: sizes.pageSize,
        // Layers with and without a window share the plan, so it may be cut only when all layers have one.
        slidingWindow: config.slidingLayers.every(Boolean) ? config.slidingWindow : undefined,
        workgroups: this.#parts.attentionWorkgroups,
        together: this.#parts.streams,
      },
      this.#layout.attention[0],
      this.#words,
    );
    const shape = {
      maxTokens: bucket(batch.tokens, sizes.maxBatchTokens, this.#bucketStep),
      tile128: plan.items128 > 0,
      merge: plan.mergeRows > 0 || this.#parts.streams,
    };
    return {
      used: { ranges: 1, attention: 1 },
      programs: async () => {
        const body = await this.#body(shape);
        if (batch.samples === 0) return [body];
        return [
          body,
          await this.#head(bucket(batch.samples, sizes.maxRequests, this.#bucketStep), shape.maxTokens),
        ];
      },
    };
  }

  /** The products of a program for so many rows, head included: what an autotuner times. */
  products(rows: number): GemmCall[] {
    const maxTokens = Math.min(rows, this.sizes.maxBatchTokens);
    const calls = [
      ...bodyCalls(this.#parts, { maxTokens, tile128: false, merge: false }),
      ...headCalls(this.#parts, Math.min(maxTokens, this.sizes.maxRequests), maxTokens),
    ];
    return calls.filter((call) => call.kernel === 'gemm');
  }

  /** Runs the programs of the last step again, with a timestamp around each call. Only for measuring. */
  async profileLast(): Promise<CallTiming[]> {
    const timings: CallTiming[] = [];
    for (const program of this.#last) timings.push(...(await this.device.profile(program)));
    return timings;
  }

  /**
   * Runs the programs of the last step again, one after the other, and tells what every CTA of those kernels that can
   * record worked on; undefined on devices that cannot. Only for measuring.
   */
  async profileLastItems(): Promise<ProfiledItem[] | undefined> {
    const { device } = this;
    if (!device.profileItems) return undefined;
    const items: ProfiledItem[] = [];
    let start = 0;
    for (const program of this.#last) {
      const found = await device.profileItems(program);
      for (const item of found) {
        items.push({ ...item, beginNs: start + item.beginNs, endNs: start + item.endNs });
      }
      start = items.reduce((end, { endNs }) => Math.max(end, endNs), start);
    }
    return items;
  }

  /** The calls that profileLast() times, in order. */
  get lastCalls(): readonly ProgramCall[] {
    return this.#last.flatMap(({ calls }) => calls);
  }

  /** Enqueues the programs of the last step again. Only for measuring. */
  repeatLast(): void {
    for (const program of this.#last) this.device.submit(program);
  }

  /** Frees programs, weights and buffers; the device stays. */
  destroy(): void {
    for (const program of this.#programs.values()) program.destroy();
    this.#programs.clear();
    const buffers = [
      ...this.#parts.weights.buffers(),
      ...bufferList(this.buffers),
      ...this.#pipelines.buffers,
    ];
    for (const buffer of buffers) {
      this.device.destroyBuffer(buffer);
    }
  }

  #ropeRow(promptLength: number, position: number, row: number): number {
    if (!needsOwnRow(this.config, promptLength, position)) return position;
    const own = this.sizes.maxModelLen + row;
    const { buffer } = this.buffers.ropeTable;
    this.device.write(
      buffer,
      own * this.config.headDim * 4,
      longPromptRow(this.config, promptLength, position),
    );
    return own;
  }

  #body(shape: BodyShape, onCompile?: (event: CompileEvent) => void): Promise<CompiledProgram> {
    const label = `body ${shape.maxTokens}${shape.tile128 ? ' tile128' : ''}${shape.merge ? ' merge' : ''}`;
    return this.#program(label, () => bodyCalls(this.#parts, shape), onCompile);
  }

  /** The final norm adds up what the body left, so the head depends on how the body computed it. */
  #head(
    maxRows: number,
    maxTokens: number,
    onCompile?: (event: CompileEvent) => void,
  ): Promise<CompiledProgram> {
    const { down } = outputParts(this.#parts, maxTokens);
    const label = `head ${maxRows}${down > 1 ? ` of ${down} parts` : ''}`;
    return this.#program(label, () => headCalls(this.#parts, maxRows, maxTokens), onCompile);
  }

  async #program(
    label: string,
    calls: () => ProgramCall[],
    onCompile?: (event: CompileEvent) => void,
  ): Promise<CompiledProgram> {
    let program = this.#programs.get(label);
    if (!program) {
      program = await this.device.compile(label, calls(), onCompile);
      this.#programs.set(label, program);
    }
    return program;
  }
}
