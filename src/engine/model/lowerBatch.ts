/** The per-step half of a lowered pipeline: which rows each range slot holds, and the plan of each attention slot. */
import type { DenseBatch } from '../schedule/scheduler.ts';
import { planAttention } from '../plan/attention.ts';
import type { PlannedRequest } from '../plan/batchMeta.ts';
import { writeRange, type StepMetaLayout } from '../plan/stepMeta.ts';
import { rowRuns, type TokenRange } from '../pipeline/arrangement.ts';
import type { Pipeline } from '../pipeline/pipeline.ts';
import { resolver, resolveRows } from '../pipeline/resolve.ts';
import type { ModelConfig } from './config.ts';
import type { PipelineSlots } from './lower.ts';

/** What pipelines are chosen and resolved by. Decode rows are those of the leading one-token segments. */
export interface BatchShape {
  tokens: number;
  decodeTokens: number;
}

export function batchShape(batch: DenseBatch): BatchShape {
  const first = batch.segments.findIndex(({ count }) => count > 1);
  return { tokens: batch.tokens, decodeTokens: first < 0 ? batch.tokens : first };
}

/** Token rows of each range slot in this batch; some may be empty. */
export function slotRanges(slots: PipelineSlots, shape: BatchShape): [start: number, end: number][] {
  return slots.ranges.map(resolver(slots.pipeline, shape));
}

/** Where a pipeline wants the rows of a batch, in the batch's order (writeBatch). */
export function runsOf(pipeline: Pipeline, shape: BatchShape): TokenRange[] {
  return rowRuns(resolveRows(pipeline, shape));
}

/**
 * Writes range slots and attention plans into the metadata.
 * @param partialRows rows of each set's buffer of partial results
 * @returns worst imbalance of the plans
 */
export function writePipelineBatch(
  slots: PipelineSlots,
  ranges: readonly (readonly [number, number])[],
  batch: DenseBatch,
  requests: readonly PlannedRequest[],
  { config, pageSize, partialRows }: { config: ModelConfig; pageSize: number; partialRows: number },
  layout: StepMetaLayout,
  words: Uint32Array,
): number {
  const logitRows = logitRowFinder(slots, batch, layout, words);
  ranges.forEach((range, slot) => {
    // Slot 0 is written: it is the whole batch.
    if (slot > 0) writeRange(layout, words, slot, range, logitRows(range));
  });
  const used = slots.groups.map(() => 0);
  let imbalance = 1;
  slots.attention.forEach(({ nano, group, lists, tile }, slot) => {
    const plan = planAttention(
      {
        requests,
        rows: ranges[slots.rangeOf(nano.range)],
        heads: config.numHeads,
        kvHeads: config.numKvHeads,
        headDim: config.headDim,
        pageSize,
        slidingWindow: config.slidingLayers.every(Boolean) ? config.slidingWindow : undefined,
        workgroups: lists,
        tiles: [tile],
        partialBase: used[group],
        partialCapacity: partialRows - used[group],
      },
      layout.attention[slot],
      words,
    );
    used[group] += plan.partialRows;
    imbalance = Math.max(imbalance, plan.imbalance);
  });
  return imbalance;
}

/**
 * Logit rows whose tokens lie in rows of the batch. Logit rows are in the batch's order: those of decode rows, then those
 * of prompt rows, each ascending. Halves have both kinds, so there only ranges within one block have such a range of
 * logit rows (PipelineSlots.sampled); nobody asks for the others'.
 */
function logitRowFinder(
  { pipeline }: PipelineSlots,
  batch: DenseBatch,
  layout: StepMetaLayout,
  words: Uint32Array,
): (range: TokenRange) => TokenRange {
  const { samples } = batch;
  const rows = words.subarray(layout.logitRows, layout.logitRows + samples);
  const before = (row: number, low: number, high: number): number => {
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle] < row) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  const { decodeTokens } = batchShape(batch);
  const decoding = pipeline.halves
    ? batch.segments.slice(0, decodeTokens).filter(({ sample }) => sample).length
    : samples;
  return ([start, end]) => {
    const found: TokenRange = [before(start, 0, decoding), before(end, 0, decoding)];
    return found[0] < found[1] ? found : [before(start, decoding, samples), before(end, decoding, samples)];
  };
}
