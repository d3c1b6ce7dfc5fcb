/**
 * Steps through pipelines: slots of the metadata, activation sets and ticket counters that pipelines need, and the
 * programs of each, by the sizes of its nano-batches.
 */
import { tensor, type CompiledProgram, type Device, type DeviceBuffer, type TensorView } from '../device.ts';
import type { ProgramCall } from '../kernels/calls.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';
import type { PlannedRequest, SlotsInUse } from '../plan/batchMeta.ts';
import type { DenseBatch } from '../schedule/scheduler.ts';
import { allocateSet } from './buffers.ts';
import { bucket, bucketStep } from './buckets.ts';
import { pipelineCalls, pipelineSlots, type PipelineSlots } from './lower.ts';
import { slotRanges, writePipelineBatch, type BatchShape } from './lowerBatch.ts';
import { logitsCalls } from './plainProgram.ts';
import { type ProgramParts } from './program.ts';
import type { EngineSizes } from './sizes.ts';
import { TICKET_STRIDE } from './tickets.ts';

/** Which pipeline a batch runs through; undefined is the plain order. The same object each time for the same pipeline. */
export type PipelineChoice = (batch: BatchShape) => Pipeline | undefined;

/** Slots of the step metadata for pipelines. */
export const SLOTS = { ranges: 32, attention: 8 };

/** A step whose metadata is written. */
export interface PlannedStep {
  used: SlotsInUse;
  programs(): Promise<CompiledProgram[]>;
}

/** Finds a program by its label, or compiles it. */
export type ProgramSource = (label: string, calls: () => ProgramCall[]) => Promise<CompiledProgram>;

export class PipelineSteps {
  readonly #device: Device;
  readonly #parts: ProgramParts;
  readonly #sizes: EngineSizes;
  readonly #program: ProgramSource;
  readonly #slots = new Map<Pipeline, { id: number; slots: PipelineSlots }>();
  #tickets: TensorView | undefined;
  readonly #ticketBuffers: DeviceBuffer[] = [];

  constructor(device: Device, parts: ProgramParts, sizes: EngineSizes, program: ProgramSource) {
    this.#device = device;
    this.#parts = parts;
    this.#sizes = sizes;
    this.#program = program;
  }

  /** Buffers that are not among the model's. */
  get buffers(): readonly DeviceBuffer[] {
    return this.#ticketBuffers;
  }

  /** Writes the metadata of one batch through a pipeline of nano-operations. */
  plan(
    pipeline: Pipeline,
    batch: DenseBatch,
    shape: BatchShape,
    requests: readonly PlannedRequest[],
    words: Uint32Array,
  ): PlannedStep {
    const sizes = this.#sizes;
    const { buffers, config, layout } = this.#parts;
    const { id, slots } = this.#slotsOf(pipeline);
    const ranges = slotRanges(slots, shape);
    const [{ partialLse }] = buffers.sets;
    writePipelineBatch(
      slots,
      ranges,
      batch,
      requests,
      { config, pageSize: sizes.pageSize, partialRows: partialLse.shape[0] },
      layout,
      words,
    );
    return {
      used: { ranges: ranges.length, attention: slots.attention.length },
      programs: () => this.#programs(id, slots, ranges, batch.samples),
    };
  }

  /** Compiles for batches of this make-up, all of whose requests are sampled. */
  async compileFor(pipeline: Pipeline, shape: BatchShape): Promise<void> {
    const { id, slots } = this.#slotsOf(pipeline);
    const samples = Math.min(
      this.#sizes.maxRequests,
      shape.decodeTokens + (shape.decodeTokens < shape.tokens ? 1 : 0),
    );
    await this.#programs(id, slots, slotRanges(slots, shape), samples);
  }

  async #programs(
    id: number,
    slots: PipelineSlots,
    ranges: readonly (readonly [number, number])[],
    samples: number,
  ): Promise<CompiledProgram[]> {
    const { maxBatchTokens, maxRequests } = this.#sizes;
    const step = bucketStep(this.#parts.streams);
    const maxTokens = ranges.map(([start, end]) => bucket(end - start, maxBatchTokens, step));
    const maxRows = bucket(samples, maxRequests, step);
    const body = await this.#program(`pipeline ${id} ${maxTokens.join()} ${maxRows}`, () =>
      pipelineCalls(this.#parts, slots, { maxTokens, maxRows }, this.#tickets),
    );
    if (samples === 0) return [body];
    return [body, await this.#program(`logits ${maxRows}`, () => logitsCalls(this.#parts, maxRows))];
  }

  /** Slots of a pipeline, and the activation sets and ticket counters that it needs. */
  #slotsOf(pipeline: Pipeline): { id: number; slots: PipelineSlots } {
    const known = this.#slots.get(pipeline);
    if (known) return known;
    const sizes = this.#sizes;
    const device = this.#device;
    const { config, buffers } = this.#parts;
    const slots = pipelineSlots(
      pipeline,
      SLOTS,
      this.#parts.attentionWorkgroups,
      config.numHeads / config.numKvHeads,
      this.#parts.streams,
    );
    const [{ partialLse }] = buffers.sets;
    while (buffers.sets.length < slots.groups.length) {
      const partialRows = partialLse.shape[0];
      const suffix = ` (group ${buffers.sets.length + 1})`;
      buffers.sets.push(
        allocateSet(
          device,
          config,
          { tokens: sizes.maxBatchTokens, partialRows, parts: buffers.sets[0].y.shape[0] },
          sizes.types,
          suffix,
        ),
      );
    }
    const words = (pipeline.nano.length * (config.numLayers + 1) * TICKET_STRIDE) / 4;
    if (this.#parts.matrices && (this.#tickets?.shape[0] ?? 0) < words) {
      // Programs that were compiled with the smaller buffer keep it.
      this.#tickets = tensor(device.createBuffer('tickets', words * 4), 'u32', [words]);
      this.#ticketBuffers.push(this.#tickets.buffer);
    }
    const entry = { id: this.#slots.size, slots };
    this.#slots.set(pipeline, entry);
    return entry;
  }
}

/** A pipeline without decode (or prefill) attention must not get such rows. */
export function attendsTo({ nano }: Pipeline, { tokens, decodeTokens }: BatchShape): boolean {
  const has = (operation: string): boolean => nano.some((each) => each.operation === operation);
  return (
    (decodeTokens === 0 || has('decode_attention')) && (decodeTokens === tokens || has('prefill_attention'))
  );
}
