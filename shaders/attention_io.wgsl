// What the attention kernels share: bindings, parameters, where rows and KV tokens lie, stores of results.
//
// A work item (plan/attention.ts) is one query tile x one KV chunk x one KV head. Packed row r of a request is token
// r / GROUP, head kv_head * GROUP + r % GROUP. Defines:
//   Q, KV, OUT    storage types, f32 or f16
//   HEAD_DIM      even; WIDTH elements (4 or 2) make a vector, HEAD_DIM / WIDTH vectors a row
//   GROUP         query heads for each KV head
//   PAGE_SIZE     KV tokens for each page
//   TILE          16 or 128: which list of items
//   WINDOW        sliding window: a query sees itself and the params.window - 1 tokens before it
#include "lib/storage.wgsl"
#include "lib/meta.wgsl"

struct Params {
  items_at: u32, // first words of sections of the metadata
  indptr_at: u32,
  pages_at: u32,
  lists: u32, // lists of items: one for each workgroup of the plan, empty ones included
  heads: u32,
  kv_heads: u32,
  scale: f32, // of the scores, times log2(e): the softmax is in base 2
  window: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
@group(0) @binding(2) var<storage, read> attention_q: array<{{Q}}x{{WIDTH}}>;
@group(0) @binding(3) var<storage, read> attention_k: array<{{KV}}x{{KV_WIDTH}}>;
@group(0) @binding(4) var<storage, read> attention_v: array<{{KV}}x{{KV_WIDTH}}>;
@group(0) @binding(5) var<storage, read_write> attention_out: array<{{OUT}}x{{WIDTH}}>;
@group(0) @binding(6) var<storage, read_write> attention_partial: array<f32x{{WIDTH}}>;
@group(0) @binding(7) var<storage, read_write> attention_partial_lse: array<f32>;

alias AttentionVector = vec{{WIDTH}}<f32>;
const ATTENTION_WIDTH = {{WIDTH}}u;
const ATTENTION_VECTORS = {{HEAD_DIM}}u / {{WIDTH}}u;
const ATTENTION_GROUP = {{GROUP}}u;
// Log-sum-exp of nothing. Finite, so that differences of two of them are 0 and not NaN.
const ATTENTION_EMPTY = -1.0e30;
// Where running maxima start: above ATTENTION_EMPTY, so that 2^(score - maximum) of a hidden score is 0.
const ATTENTION_LOWEST = -1.0e29;

struct AttentionItem {
  qo_start: u32,
  page_start: u32, // word of the metadata
  partial_start: u32,
  first_row: u32,
  rows: u32, // packed rows of the tile
  before: i32, // KV tokens before the request's first query token; negative when q_len > kv_len
  kv_start: u32,
  kv_end: u32,
  kv_len: u32,
  kv_head: u32,
  chunk: u32,
  chunks: u32,
}

fn attention_item(index: u32) -> AttentionItem {
  let at = params.items_at + index * ITEM_WORDS;
  let q_len = step_meta[at + ITEM_Q_LEN];
  let kv_len = step_meta[at + ITEM_KV_LEN];
  let first_row = step_meta[at + ITEM_ROW_START];
  var item = AttentionItem(
    step_meta[at + ITEM_QO_START],
    params.pages_at + step_meta[at + ITEM_PAGE_START],
    step_meta[at + ITEM_PARTIAL_START],
    first_row,
    min({{TILE}}u, q_len * ATTENTION_GROUP - first_row),
    i32(kv_len) - i32(q_len),
    step_meta[at + ITEM_KV_START],
    step_meta[at + ITEM_KV_END],
    kv_len,
    step_meta[at + ITEM_KV_HEAD],
    step_meta[at + ITEM_CHUNK_INDEX],
    step_meta[at + ITEM_CHUNK_COUNT],
  );
#if WINDOW
  // The plan may be made for layers without a window too.
  item.kv_start = min(max(item.kv_start, attention_view(item, 0u).x), item.kv_end);
#endif
  return item;
}

// KV range [x, y) that packed row `row` of the tile sees.
fn attention_view(item: AttentionItem, row: u32) -> vec2<u32> {
  let token = (item.first_row + row) / ATTENTION_GROUP;
  let end = min(u32(max(item.before + i32(token) + 1, 0)), item.kv_len);
#if WINDOW
  return vec2<u32>(max(end, params.window) - params.window, end);
#else
  return vec2<u32>(0u, end);
#endif
}

// The (token, head) row of q and out that packed row `row` of the tile is.
fn attention_query_row(item: AttentionItem, row: u32) -> u32 {
  let packed = item.first_row + row;
  let token = packed / ATTENTION_GROUP;
  return (item.qo_start + token) * params.heads + item.kv_head * ATTENTION_GROUP + packed - token * ATTENTION_GROUP;
}

// The row of k_cache and v_cache that holds KV token `token` of the request: [page, kv head, token in page].
fn attention_kv_row(item: AttentionItem, token: u32) -> u32 {
  let page = token / {{PAGE_SIZE}}u;
  return attention_kv_row_of(step_meta[item.page_start + page], item.kv_head, token - page * {{PAGE_SIZE}}u);
}
fn attention_kv_row_of(page_id: u32, kv_head: u32, slot: u32) -> u32 {
  return (page_id * params.kv_heads + kv_head) * {{PAGE_SIZE}}u + slot;
}

// A vector of the query, ready for scores in base 2.
fn attention_load_q(query_row: u32, vector: u32) -> AttentionVector {
  return load_{{Q}}x{{WIDTH}}(attention_q[query_row * ATTENTION_VECTORS + vector]) * params.scale;
}

// The query vector, zeros beyond the row's end.
fn attention_own_q(query_row: u32, vector: u32) -> AttentionVector {
  if (vector < ATTENTION_VECTORS) {
    return attention_load_q(query_row, vector);
  }
  return AttentionVector();
}

// Stores a vector of the result: to the output, or to the item's row of partial results when its tile is split.
fn attention_store(item: AttentionItem, row: u32, vector: u32, value: AttentionVector) {
  if (item.chunks == 1u) {
    attention_out[attention_query_row(item, row) * ATTENTION_VECTORS + vector] = store_{{OUT}}x{{WIDTH}}(value);
  } else {
    attention_partial[attention_partial_row(item, row) * ATTENTION_VECTORS + vector] = value;
  }
}
fn attention_partial_row(item: AttentionItem, row: u32) -> u32 {
  return item.partial_start + row * item.chunks + item.chunk;
}

// What an accumulator is multiplied with at the end: 1 / sum, 0 when nothing was seen.
fn attention_inverse(sum: f32) -> f32 {
  return select(0.0, 1.0 / sum, sum > 0.0);
}
fn attention_store_lse(item: AttentionItem, row: u32, maximum: f32, sum: f32) {
  if (item.chunks > 1u) {
    attention_partial_lse[attention_partial_row(item, row)] =
      select(ATTENTION_EMPTY, maximum + log2(max(sum, 1.0e-37)), sum > 0.0);
  }
}
