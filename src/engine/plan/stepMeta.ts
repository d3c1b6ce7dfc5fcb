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
  tile16Items: 2, // attention work items with 16-row query tiles
  tile128Items: 3, // attention work items with 128-row query tiles
  mergeRows: 4, // rows whose partial attention results are merged
  /** KV tokens a 16-row / 128-row item covers at most (plan/attention.ts). */
  chunk16: 5,
  chunk128: 6,
} as const;
const COUNT_WORDS = 64;

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
  items16: number; // attention work items
  items128: number;
  mergeRows: number; // (token, head) rows that are merged
  attentionWorkgroups: number; // largest attention budget
  adjustments: number; // logit adjustment entries of all rows together
}

/** First word of each section. */
export interface StepMetaLayout {
  capacity: StepMetaCapacity;
  tokenIds: number; // [tokens]
  positions: number; // [tokens] position of the token in its request = row of the RoPE table
  kvSlots: number; // [tokens] page * pageSize + offset in page
  logitRows: number; // [requests] token row whose hidden state gets logits
  pages: number; // [pages] page tables of all requests, one after the other
  items16: number; // [items16][ITEM_WORDS], sorted by workgroup
  items128: number;
  workIndptr16: number; // [attentionWorkgroups + 1] first item of each workgroup
  workIndptr128: number;
  mergeIndptr: number; // [mergeRows + 1] first partial row of each merged row
  mergeRow: number; // [mergeRows] where the merged row goes: token * numHeads + head
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
    tokenIds: place(capacity.tokens),
    positions: place(capacity.tokens),
    kvSlots: place(capacity.tokens),
    logitRows: place(capacity.requests),
    sampling: place(capacity.requests * SAMPLE_WORDS),
    workIndptr16: place(capacity.attentionWorkgroups + 1),
    workIndptr128: place(capacity.attentionWorkgroups + 1),
    items16: place(capacity.items16 * ITEM_WORDS),
    items128: place(capacity.items128 * ITEM_WORDS),
    mergeIndptr: place(capacity.mergeRows + 1),
    mergeRow: place(capacity.mergeRows),
    pages: place(capacity.pages),
    adjust: place(capacity.adjustments * ADJUST_WORDS),
    words: 0,
  };
  layout.words = next;
  return layout;
}
