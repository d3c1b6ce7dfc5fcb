/** The token sections of the step metadata, and which words of the buffer a step has to upload. */
import type { DenseBatch } from '../schedule/scheduler.ts';
import { COUNT, FROM_SAMPLED, SAMPLE_WORDS, ADJUST_WORDS, ITEM_WORDS, SAMPLE, type StepMetaLayout } from './stepMeta.ts';

/** A request of the batch as the attention plan sees it. */
export interface PlannedRequest {
  qStart: number; // first row in the dense batch
  qLen: number;
  kvLen: number; // this step's tokens included
  pageStart: number; // first entry in the pages section
}

/**
 * Writes token ids, positions, KV slots, logit rows, page tables and the first two counters.
 * @param ropeRow row of the RoPE table for a token: (request's prompt length, position, batch row) -> row
 * @throws Error when the batch exceeds the layout's capacity.
 */
export function writeBatch(
  batch: DenseBatch,
  pageSize: number,
  layout: StepMetaLayout,
  words: Uint32Array,
  ropeRow: (promptLength: number, position: number, row: number) => number,
): PlannedRequest[] {
  const { capacity } = layout;
  if (batch.tokens > capacity.tokens || batch.samples > capacity.requests) {
    throw new Error(
      `a batch of ${batch.tokens} tokens and ${batch.samples} samples exceeds the capacity of ${capacity.tokens} and ${capacity.requests}`,
    );
  }
  let row = 0;
  let page = 0;
  let sample = 0;
  const planned: PlannedRequest[] = [];
  for (const { request, start, count, sample: wanted, fromSampled } of batch.segments) {
    if (page + request.pages.length > capacity.pages) {
      throw new Error(`the batch's page tables exceed ${capacity.pages} entries`);
    }
    planned.push({ qStart: row, qLen: count, kvLen: start + count, pageStart: page });
    words.set(request.pages, layout.pages + page);
    page += request.pages.length;
    for (let position = start; position < start + count; position++, row++) {
      words[layout.tokenIds + row] =
        fromSampled === undefined ? request.tokens[position] : FROM_SAMPLED | fromSampled;
      words[layout.positions + row] = ropeRow(request.promptLength, position, row);
      const slot = request.pages[Math.floor(position / pageSize)] * pageSize + (position % pageSize);
      words[layout.kvSlots + row] = slot;
    }
    if (wanted) words[layout.logitRows + sample++] = row - 1;
  }
  words[COUNT.tokens] = batch.tokens;
  words[COUNT.logitRows] = batch.samples;
  return planned;
}

/** Word ranges [start, end) that hold something for this step; neighbours closer than a page are joined. */
export function usedRanges(
  layout: StepMetaLayout,
  words: Uint32Array,
  pageEntries: number,
): [number, number][] {
  const tokens = words[COUNT.tokens];
  const rows = words[COUNT.logitRows];
  const merges = words[COUNT.mergeRows];
  const groups = layout.capacity.attentionWorkgroups + 1;
  const adjustments =
    rows === 0 ? 0 : words[layout.sampling + (rows - 1) * SAMPLE_WORDS + SAMPLE.adjustEnd] * ADJUST_WORDS;
  const used: [number, number][] = [
    [0, Object.keys(COUNT).length],
    [layout.tokenIds, tokens],
    [layout.positions, tokens],
    [layout.kvSlots, tokens],
    [layout.logitRows, rows],
    [layout.sampling, rows * SAMPLE_WORDS],
    [layout.workIndptr16, groups],
    [layout.workIndptr128, groups],
    [layout.items16, words[COUNT.tile16Items] * ITEM_WORDS],
    [layout.items128, words[COUNT.tile128Items] * ITEM_WORDS],
    [layout.mergeIndptr, merges > 0 ? merges + 1 : 0],
    [layout.mergeRow, merges],
    [layout.pages, pageEntries],
    [layout.adjust, adjustments],
  ];
  const ranges: [number, number][] = [];
  for (const [start, length] of used.sort((a, b) => a[0] - b[0])) {
    if (length === 0) continue;
    const last = ranges.at(-1);
    if (last && start - last[1] < 1024) last[1] = start + length;
    else ranges.push([start, start + length]);
  }
  return ranges;
}
