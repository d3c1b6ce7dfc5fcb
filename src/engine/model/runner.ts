/**
 * Runs dense batches of one model on one device: owns weights, buffers and compiled programs. Knows nothing of queues,
 * text and events.
 */
import type { CallTiming, CompiledProgram, CompileEvent, Device } from '../device.ts';
import { attentionCapacity, planAttention } from '../plan/attention.ts';
import { usedRanges, writeBatch } from '../plan/batchMeta.ts';
import { COUNT, SAMPLED, SAMPLED_WORDS, stepMetaLayout, type StepMetaLayout } from '../plan/stepMeta.ts';
import { writeSampling } from '../schedule/sampling.ts';
import type { DenseBatch } from '../schedule/scheduler.ts';
import { allocateBuffers, bufferList, type ModelBuffers } from './buffers.ts';
import type { ModelConfig } from './config.ts';
import type { ModelFiles } from './modelFiles.ts';
import { bodyCalls, headCalls, type BodyShape, type ProgramParts } from './program.ts';
import { longPromptRow, needsOwnRow, ropeTable } from './ropeTable.ts';
import type { EngineSizes } from './sizes.ts';
import { loadWeights, type LoadProgress } from './weights.ts';
import { WeightStore } from './weightStore.ts';

/** What the device says about one sampled row. */
export interface SampledToken {
  token: number;
  logprob: number;
  rank: number;
  top: { token: number; logprob: number }[];
}

export interface RunnerProgress {
  weights?(progress: LoadProgress & { bytes: number }): void;
  compiled?(event: CompileEvent): void;
}

/** What the engine needs of a runner; tests hand in one without a device. */
export interface BatchRunner {
  readonly config: Pick<ModelConfig, 'vocabSize'>;
  readonly sizes: Pick<EngineSizes, 'pages' | 'pageSize' | 'maxBatchTokens' | 'maxRequests' | 'maxModelLen'>;
  /** Most logit adjustments of one batch. */
  readonly maxAdjustments: number;
  /**
   * Plans the batch and enqueues its step; resolves when it is enqueued, not when it has run. Steps run in order, and
   * one may be launched before the last was collected (the overlapped loop). `endTokens`: forbidden before a
   * request's minimum length.
   */
  launch(batch: DenseBatch, endTokens: readonly number[]): Promise<LaunchedStep>;
}

/** A step on its way. */
export interface LaunchedStep {
  /** Waits for the step and returns its sampled rows, in the order of the batch's samples. Once only. */
  collect(): Promise<SampledToken[]>;
}

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
      items16: attention.items16,
      items128: attention.items128,
      mergeRows: attention.mergeRows,
      attentionWorkgroups,
      adjustments: Math.max(sizes.maxModelLen + 1024, 2 ** 18),
    });
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
        ropeRows,
      },
      sizes.types,
    );
    device.write(buffers.ropeTable.buffer, 0, ropeTable(config, sizes.maxModelLen));
    const { f16, subgroupMatrix } = device.target.features;
    const matrices = subgroupMatrix && f16 && sizes.types.activations === 'f16' && sizes.types.weights === 'f16';
    const parts = { config, weights, buffers, layout, attentionWorkgroups, matrices };
    return new ModelRunner(device, config, sizes, parts, unexpected);
  }

  get maxAdjustments(): number {
    return this.#layout.capacity.adjustments;
  }

  /** Builds the programs of every shape bucket, so that no request waits for a compiler. */
  async compile(onCompile?: (event: CompileEvent) => void): Promise<void> {
    for (const maxTokens of buckets(this.sizes.maxBatchTokens)) {
      for (const tile128 of [true, false]) await this.#body({ maxTokens, tile128, merge: true }, onCompile);
    }
    for (const rows of buckets(this.sizes.maxRequests)) await this.#head(rows, onCompile);
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
    const { config, sizes } = this;
    words.fill(0, 0, Object.keys(COUNT).length);
    const requests = writeBatch(batch, sizes.pageSize, layout, words, (prompt, position, row) =>
      this.#ropeRow(prompt, position, row),
    );
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
      },
      layout.attention[0],
      words,
    );
    const sampled = batch.segments.filter((segment) => segment.sample).map((segment) => segment.request);
    writeSampling(sampled, endTokens, layout, { u32: words, f32: this.#floats });

    const last = requests.at(-1)!;
    const pageEntries = last.pageStart + batch.segments.at(-1)!.request.pages.length;
    const meta = this.buffers.meta.buffer;
    for (const [start, end] of usedRanges(layout, words, pageEntries)) {
      this.device.write(meta, start * 4, words.subarray(start, end));
    }
    const shape = {
      maxTokens: bucket(batch.tokens, sizes.maxBatchTokens),
      tile128: plan.items128 > 0,
      merge: plan.mergeRows > 0,
    };
    this.#last = [await this.#body(shape)];
    if (sampled.length > 0) this.#last.push(await this.#head(bucket(sampled.length, sizes.maxRequests)));
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

  /** Runs the programs of the last step again, with a timestamp around each call. Only for measuring. */
  async profileLast(): Promise<CallTiming[]> {
    const timings: CallTiming[] = [];
    for (const program of this.#last) timings.push(...(await this.device.profile(program)));
    return timings;
  }

  /** Enqueues the programs of the last step again. Only for measuring. */
  repeatLast(): void {
    for (const program of this.#last) this.device.submit(program);
  }

  /** Frees programs, weights and buffers; the device stays. */
  destroy(): void {
    for (const program of this.#programs.values()) program.destroy();
    this.#programs.clear();
    for (const buffer of [...this.#parts.weights.buffers(), ...bufferList(this.buffers)]) {
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

  #head(maxRows: number, onCompile?: (event: CompileEvent) => void): Promise<CompiledProgram> {
    return this.#program(`head ${maxRows}`, () => headCalls(this.#parts, maxRows), onCompile);
  }

  async #program(
    label: string,
    calls: () => ReturnType<typeof bodyCalls>,
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

/** Decodes the `sampled` buffer's first rows (plan/stepMeta.ts, SAMPLED). */
function sampledTokens(bytes: ArrayBuffer | void, rows: number): SampledToken[] {
  if (!bytes) return [];
  const u32 = new Uint32Array(bytes);
  const f32 = new Float32Array(bytes);
  return Array.from({ length: rows }, (_, row) => {
    const at = row * SAMPLED_WORDS;
    return {
      token: u32[at + SAMPLED.token],
      logprob: f32[at + SAMPLED.logprob],
      rank: u32[at + SAMPLED.rank],
      top: Array.from({ length: u32[at + SAMPLED.topCount] }, (__, i) => ({
        token: u32[at + SAMPLED.topTokens + i],
        logprob: f32[at + SAMPLED.topLogprobs + i],
      })),
    };
  });
}

/** The shape buckets: powers of two below `largest`, then `largest`. */
export function buckets(largest: number): number[] {
  const result: number[] = [];
  for (let size = 1; size < largest; size *= 2) result.push(size);
  return [...result, largest];
}

/** Smallest bucket that holds `count`. */
export function bucket(count: number, largest: number): number {
  return Math.min(largest, 2 ** Math.ceil(Math.log2(Math.max(1, count))));
}
