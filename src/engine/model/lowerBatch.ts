/** The per-step half of a lowered pipeline: which rows each range slot holds, and the plan of each attention slot. */
import type { DenseBatch } from '../schedule/scheduler.ts';
import { planAttention } from '../plan/attention.ts';
import type { PlannedRequest } from '../plan/batchMeta.ts';
import { writeRange, type StepMetaLayout } from '../plan/stepMeta.ts';
import { resolveRange } from '../pipeline/resolve.ts';
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
  return slots.ranges.map((range) => resolveRange(slots.pipeline, range, shape));
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
  const logitRows = rowCounter(batch, layout, words);
  ranges.forEach(([start, end], slot) => {
    writeRange(layout, words, slot, [start, end], [logitRows(start), logitRows(end)]);
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

/** Number of logit rows whose token lies before a token row. Logit rows are in the order of their tokens. */
function rowCounter(batch: DenseBatch, layout: StepMetaLayout, words: Uint32Array): (row: number) => number {
  const rows = words.subarray(layout.logitRows, layout.logitRows + batch.samples);
  return (row) => {
    let low = 0;
    let high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle] < row) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}
