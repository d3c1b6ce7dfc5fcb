/**
 * Layout of the step metadata: the one small u32 buffer that carries everything about a step that is not a weight,
 * an activation or the KV cache. Sections have fixed capacity and fixed offsets for the life of an engine, so
 * programs, bind groups and (on CUDA) captured graphs are built once and replayed for any batch.
 *
 * Floats are stored by their bits. All offsets and capacities below are in u32 words.
 */

/** Index of each counter at the start of the buffer. */
export const COUNT = {
  tokens: 0, // T: rows of the dense batch
  logitRows: 1, // R: rows that get logits and a sampled token
} as const;
const COUNT_WORDS = 64;

/**
 * Words of one slot of the `ranges` section: the rows that a kernel call works on (CallBase.range). Calls with rows
 * 'tokens' take [tokenStart, tokenEnd), calls with rows 'logitRows' take [rowStart, rowEnd). Slot 0 is always the whole
 * step: [0, T, 0, R].
 */
export const RANGE = { tokenStart: 0, tokenEnd: 1, rowStart: 2, rowEnd: 3 } as const;
export const RANGE_WORDS = 4;

/** Index of each counter at the start of an attention plan (AttentionSection.counts). */
export const ATTENTION_COUNT = {
  items16: 0, // work items with 16-row query tiles
  items128: 1, // work items with 128-row query tiles
  mergeRows: 2, // rows whose partial results are merged
  /** KV tokens that a 16-row / 128-row item covers at most (plan/attention.ts). */
  chunk16: 3,
  chunk128: 4,
} as const;
export const ATTENTION_COUNT_WORDS = 5;

/** Words of one attention work item (plan/attention.ts writes them, shaders/attention_*.wgsl read them). */
export const ITEM = {
  qoStart: 0, // first token row of the request in the dense batch
  pageStart: 1, // index of the request's first page id, within the `pages` section
  /**
   * First partial row of this (tile, kv head); its packed row r, chunk c writes row partialStart + r * chunkCount + c.
   * PARTIAL_NONE when the tile is not split: the item then writes the output itself.
   */
  partialStart: 2,
  qLen: 3, // tokens of the request in this step
  kvLen: 4, // KV tokens of the request, this step's included
  rowStart: 5, // first packed row of the tile: packed row = token * groupSize + headInGroup
  kvStart: 6, // KV range [kvStart, kvEnd)
  kvEnd: 7,
  kvHead: 8,
  chunkIndex: 9, // which chunk of the tile this is
  chunkCount: 10, // chunks the tile was cut into
  pad: 11,
} as const;
export const ITEM_WORDS = 12;
export const PARTIAL_NONE = 0xffffffff;

/** Words of one row's sampling parameters (schedule writes them, shaders/sample.wgsl reads them). */
export const SAMPLE = {
  temperature: 0, // f32; 0 = greedy
  topK: 1, // u32; 0 = off
  topP: 2, // f32; 1 = off
  minP: 3, // f32; 0 = off
  presencePenalty: 4, // f32; 0 = off
  frequencyPenalty: 5, // f32; 0 = off
  repetitionPenalty: 6, // f32; 1 = off
  seedLow: 7, // u32: counter-based generator, key = seed
  seedHigh: 8,
  counter: 9, // u32: index of the generated token within its request, so a result never depends on the batch
  topLogprobs: 10, // 0..20 alternatives wanted; LOGPROBS_OFF = not even the chosen token's
  adjustStart: 11, // range of this row's entries in the `adjust` section, in entries
  adjustEnd: 12,
  flags: 13, // reserved, 0
} as const;
export const SAMPLE_WORDS = 16;
export const LOGPROBS_OFF = 0xffffffff;

/**
 * One logit adjustment: a token that was seen (penalties) or is biased. Entries of a row have distinct tokens.
 * logits[token] is changed in this order: repetition penalty if seen in prompt or output; minus frequency x output
 * count; minus presence if output count > 0; plus bias. A bias of -inf forbids the token.
 */
export const ADJUST = { token: 0, outputCount: 1, inPrompt: 2, bias: 3 } as const;
export const ADJUST_WORDS = 4;

/** Words of one sampled row in the `sampled` buffer that comes back to the host. */
export const SAMPLED = {
  token: 0, // u32
  logprob: 1, // f32: log-softmax of the raw logits (before adjustments and temperature) at `token`
  rank: 2, // u32: how many tokens have a larger raw logit
  topCount: 3, // u32: entries below that are filled
  topTokens: 4, // 20 x u32, best first
  topLogprobs: 24, // 20 x f32
} as const;
export const SAMPLED_WORDS = 44;
export const MAX_TOP_LOGPROBS = 20;

/**
 * A token id with this bit set is not a token: the low bits are a row of the `sampled` buffer of the step before, and
 * the device takes the token from there (the overlapped loop launches a step before it has read the last one).
 */
export const FROM_SAMPLED = 0x80000000;

export interface StepMetaCapacity {
  tokens: number; // B: most tokens in one dense batch
  requests: number; // most requests in one dense batch = most logit rows
  pages: number; // entries of all page tables together
  ranges?: number; // slots of row ranges, slot 0 (everything) included; default 1
  attentionSlots?: number; // attention plans; default 1
  items16: number; // attention work items of one plan
  items128: number;
  mergeRows: number; // (token, head) rows that one plan merges
  attentionWorkgroups: number; // largest attention budget of one plan
  adjustments: number; // logit adjustment entries of all rows together
}

/** First word of each part of one attention plan. */
export interface AttentionSection {
  capacity: StepMetaCapacity; // the layout's
  counts: number; // [ATTENTION_COUNT_WORDS]
  workIndptr16: number; // [attentionWorkgroups + 1] first item of each workgroup
  workIndptr128: number;
  items16: number; // [items16][ITEM_WORDS], sorted by workgroup
  items128: number;
  mergeIndptr: number; // [mergeRows + 1] first partial row of each merged row
  mergeRow: number; // [mergeRows] where the merged row goes: token * numHeads + head
  end: number; // first word after the plan
}

/** First word of each section. */
export interface StepMetaLayout {
  capacity: StepMetaCapacity;
  tokenIds: number; // [tokens]
  positions: number; // [tokens] position of the token in its request = row of the RoPE table
  kvSlots: number; // [tokens] page * pageSize + offset in page
  logitRows: number; // [requests] token row whose hidden state gets logits
  pages: number; // [pages] page tables of all requests, one after the other
  ranges: number; // [ranges][RANGE_WORDS]
  attention: AttentionSection[]; // [attentionSlots] plans
  sampling: number; // [requests][SAMPLE_WORDS]
  adjust: number; // [adjustments][ADJUST_WORDS]
  words: number; // whole buffer
}

/** Places the sections one after the other, each on a 64-word (256-byte) border. */
export function stepMetaLayout(capacity: StepMetaCapacity): StepMetaLayout {
  let next = 0;
  const place = (words: number): number => {
    const at = next;
    next = Math.ceil((next + words) / 64) * 64;
    return at;
  };
  place(COUNT_WORDS);
  const layout = {
    capacity,
    ranges: place((capacity.ranges ?? 1) * RANGE_WORDS),
    tokenIds: place(capacity.tokens),
    positions: place(capacity.tokens),
    kvSlots: place(capacity.tokens),
    logitRows: place(capacity.requests),
    sampling: place(capacity.requests * SAMPLE_WORDS),
    attention: Array.from({ length: capacity.attentionSlots ?? 1 }, () => ({
      capacity,
      counts: place(ATTENTION_COUNT_WORDS),
      workIndptr16: place(capacity.attentionWorkgroups + 1),
      workIndptr128: place(capacity.attentionWorkgroups + 1),
      items16: place(capacity.items16 * ITEM_WORDS),
      items128: place(capacity.items128 * ITEM_WORDS),
      mergeIndptr: place(capacity.mergeRows + 1),
      mergeRow: place(capacity.mergeRows),
      end: next,
    })),
    pages: place(capacity.pages),
    adjust: place(capacity.adjustments * ADJUST_WORDS),
    words: 0,
  };
  layout.words = next;
  return layout;
}

/** Sets the counters of the step and slot 0 of the ranges, which is all of it. */
export function writeCounts(
  layout: StepMetaLayout,
  words: Uint32Array,
  tokens: number,
  logitRows: number,
): void {
  words[COUNT.tokens] = tokens;
  words[COUNT.logitRows] = logitRows;
  writeRange(layout, words, 0, [0, tokens], [0, logitRows]);
}

/**
 * Writes slot `slot` of the ranges: token rows and logit rows, each [start, end).
 * @throws Error when there is no such slot or a range does not fit the layout.
 */
export function writeRange(
  layout: StepMetaLayout,
  words: Uint32Array,
  slot: number,
  [tokenStart, tokenEnd]: readonly [number, number],
  [rowStart, rowEnd]: readonly [number, number],
): void {
  const { ranges = 1, tokens, requests } = layout.capacity;
  const within = (start: number, end: number, limit: number): boolean =>
    0 <= start && start <= end && end <= limit;
  if (slot < 0 || slot >= ranges) {
    throw new Error(`range slot ${slot}: the metadata has ${ranges} slots; raise capacity.ranges`);
  }
  if (!within(tokenStart, tokenEnd, tokens) || !within(rowStart, rowEnd, requests)) {
    throw new Error(
      `range slot ${slot}: got tokens [${tokenStart}, ${tokenEnd}) and logit rows [${rowStart}, ${rowEnd}), ` +
        `expected them within [0, ${tokens}) and [0, ${requests}); check the pipeline's ranges`,
    );
  }
  words.set([tokenStart, tokenEnd, rowStart, rowEnd], layout.ranges + slot * RANGE_WORDS);
}

/**
 * Word of the metadata that holds the first row of a call, and after it the one that holds its end (CallBase.range).
 * @throws Error when there is no such slot.
 */
export function rangeWord(
  layout: StepMetaLayout,
  range = 0,
  rows: 'tokens' | 'logitRows' = 'tokens',
): number {
  const { ranges = 1 } = layout.capacity;
  if (range >= ranges) {
    throw new Error(`range slot ${range}: the metadata has ${ranges} slots; raise capacity.ranges`);
  }
  return layout.ranges + range * RANGE_WORDS + (rows === 'tokens' ? RANGE.tokenStart : RANGE.rowStart);
}

/** The rows [start, end) of a call, as its slot of the ranges says, at most `capacity`. For twins. */
export function rangeOf(
  layout: StepMetaLayout,
  words: Uint32Array,
  { range, rows }: { range?: number; rows?: 'tokens' | 'logitRows' },
  capacity = Infinity,
): [start: number, end: number] {
  const at = rangeWord(layout, range, rows);
  const end = Math.min(words[at + 1], capacity);
  return [Math.min(words[at], end), end];
}

/**
 * One of the attention plans (AttentionCall.slot).
 * @throws Error when there is no such slot.
 */
export function attentionSection(layout: StepMetaLayout, slot = 0): AttentionSection {
  const section = layout.attention[slot];
  if (section) return section;
  throw new Error(
    `attention slot ${slot}: the metadata has ${layout.attention.length} plans; raise capacity.attentionSlots`,
  );
}
