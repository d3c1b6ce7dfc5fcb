/** The token sections of the step metadata, and which words of the buffer a step has to upload. */
import type { DenseBatch } from '../schedule/scheduler.ts';
import {
  ADJUST_WORDS,
  ATTENTION_COUNT,
  ATTENTION_COUNT_WORDS,
  COUNT,
  FROM_SAMPLED,
  ITEM_WORDS,
  RANGE_WORDS,
  SAMPLE,
  SAMPLE_WORDS,
  writeCounts,
  type AttentionSection,
  type StepMetaLayout,
} from './stepMeta.ts';

/** A request of the batch, or the part of it whose rows stand together, as the attention plan sees it. */
export interface PlannedRequest {
  qStart: number; // first row in the dense batch
  qLen: number;
  kvLen: number; // this step's tokens up to the last row included
  pageStart: number; // first entry in the pages section
}

/**
 * Writes token ids, positions, KV slots, logit rows, page tables, the counters and range slot 0.
 * @param ropeRow row of the RoPE table for a token: (request's prompt length, position, batch row) -> row
 * @param runs where the batch's rows stand: runs of rows [start, end), one after the other in the order of the batch
 *   (pipeline/arrangement.ts). A request that the end of a run cuts is planned as two. Logit rows keep the batch's order.
 * @throws Error when the batch exceeds the layout's capacity.
 */
export function writeBatch(
  batch: DenseBatch,
  pageSize: number,
  layout: StepMetaLayout,
  words: Uint32Array,
  ropeRow: (promptLength: number, position: number, row: number) => number,
  runs: readonly (readonly [start: number, end: number])[] = [[0, batch.tokens]],
): PlannedRequest[] {
  const { capacity } = layout;
  if (batch.tokens > capacity.tokens || batch.samples > capacity.requests) {
    throw new Error(
      `a batch of ${batch.tokens} tokens and ${batch.samples} samples exceeds the capacity of ${capacity.tokens} and ${capacity.requests}`,
    );
  }
  let run = 0;
  let [row, runEnd] = runs[0];
  let page = 0;
  let sample = 0;
  const planned: PlannedRequest[] = [];
  for (const { request, start, count, sample: wanted, fromSampled } of batch.segments) {
    if (page + request.pages.length > capacity.pages) {
      throw new Error(`the batch's page tables exceed ${capacity.pages} entries`);
    }
    for (let position = start; position < start + count;) {
      if (row === runEnd) [row, runEnd] = runs[++run];
      const stop = Math.min(start + count, position + runEnd - row);
      planned.push({ qStart: row, qLen: stop - position, kvLen: stop, pageStart: page });
      for (; position < stop; position++, row++) {
        words[layout.tokenIds + row] =
          fromSampled === undefined ? request.tokens[position] : FROM_SAMPLED | fromSampled;
        words[layout.positions + row] = ropeRow(request.promptLength, position, row);
        const slot = request.pages[Math.floor(position / pageSize)] * pageSize + (position % pageSize);
        words[layout.kvSlots + row] = slot;
      }
    }
    words.set(request.pages, layout.pages + page);
    page += request.pages.length;
    if (wanted) words[layout.logitRows + sample++] = row - 1;
  }
  writeCounts(layout, words, batch.tokens, batch.samples);
  return planned;
}

/** How many slots a step uses, slot 0 included. */
export interface SlotsInUse {
  ranges: number;
  attention: number;
}

/**
 * Word ranges [start, end) that hold something for this step; neighbours closer than a page are joined. Of ranges and
 * attention plans, the first `slots` ones.
 */
export function usedRanges(
  layout: StepMetaLayout,
  words: Uint32Array,
  pageEntries: number,
  slots: SlotsInUse = { ranges: 1, attention: 1 },
): [number, number][] {
  const tokens = words[COUNT.tokens];
  const rows = words[COUNT.logitRows];
  const adjustments =
    rows === 0 ? 0 : words[layout.sampling + (rows - 1) * SAMPLE_WORDS + SAMPLE.adjustEnd] * ADJUST_WORDS;
  const used: [number, number][] = [
    [0, Object.keys(COUNT).length],
    [layout.ranges, slots.ranges * RANGE_WORDS],
    [layout.tokenIds, tokens],
    [layout.positions, tokens],
    [layout.kvSlots, tokens],
    [layout.logitRows, rows],
    [layout.sampling, rows * SAMPLE_WORDS],
    ...layout.attention.slice(0, slots.attention).flatMap((section) => usedByPlan(section, words)),
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

function usedByPlan(section: AttentionSection, words: Uint32Array): [number, number][] {
  const { counts } = section;
  const groups = section.capacity.attentionWorkgroups + 1;
  const merges = words[counts + ATTENTION_COUNT.mergeRows];
  return [
    [counts, ATTENTION_COUNT_WORDS],
    [section.workIndptr16, groups],
    [section.workIndptr128, groups],
    [section.items16, words[counts + ATTENTION_COUNT.items16] * ITEM_WORDS],
    [section.items128, words[counts + ATTENTION_COUNT.items128] * ITEM_WORDS],
    [section.mergeIndptr, merges > 0 ? merges + 1 : 0],
    [section.mergeRow, merges],
  ];
}
