// Paged attention on subgroup matrices: f16 queries, KV tokens and weights, 16x16x16 products, f32 sums. For decode from
// few workgroups beside a GEMM (tile 16), and for prefill (tile 128).
//
// ROWS packed rows walk over KV tokens, TOKENS at a time (a step). SG_M x SG_N subgroups of 32: scores are dealt out by
// 16 rows x 16 tokens (S_OWN for each subgroup, or S_PARTS subgroups share the dimensions of one), results by 16 rows x
// 16 dimensions (O_OWN for each subgroup, or O_PARTS subgroups share the tokens of one).
// Loads are 16 bytes, FETCH of K and of V for each invocation and step. Tile 16 (STREAM) issues both for the step to
// come, across the end of an item too, while a step is computed; tile 128, whose KV comes from the cache and whose
// matrices need the registers, issues V's during the scores and K's during the products with V.
//
// Result matrices cannot be scaled by row. So weights are 2^(score - reference), where a row's reference follows its
// maximum only when that is more than SLACK above it: a weight stays below 2^SLACK, which f16 holds. Steps on which a
// reference moves, besides the first, are rare; they pass the results through workgroup memory. Maxima and sums thus
// need no exchange between the invocations of a row, sums meet at the end of the item.
//
// The scores replace the step's K in workgroup memory; the weights lie behind them (APART) or replace them.
// No subgroupAdd and the like here: NVIDIA drivers have crashed on modules that hold both kinds of operation.
// All values are variables of their own (#for), not arrays: they must stay in registers.
// justify: decode and prefill share all phases of a step, and matrices cannot be handed to functions.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);
#include "attention_io.wgsl"

const ATTENTION_THREADS = {{WORKGROUP_SIZE}}u;
const ATTENTION_CHUNKS = {{HEAD_DIM}}u / 8u; // 16-byte pieces of a row
const ATTENTION_FETCH_TOKENS = ATTENTION_THREADS / ATTENTION_CHUNKS; // tokens of one load of all invocations
const ATTENTION_BLOCKS = {{TOKENS}}u / 16u;
// Rows in workgroup memory, each 16 bytes longer than it need be: the rows that one matrix load touches lie in
// different banks.
const ATTENTION_KV_ROW = ATTENTION_CHUNKS + 1u;
const ATTENTION_SCORE_ROW = {{TOKENS}}u / 4u + 1u;
const ATTENTION_WEIGHT_ROW = {{TOKENS}}u / 8u + 1u;
const ATTENTION_RESULT_ROW = ATTENTION_VECTORS + 1u;
const ATTENTION_SCORES = {{S_PARTS}}u * {{ROWS}}u * ATTENTION_SCORE_ROW;
#if APART
const ATTENTION_WEIGHTS_AT = ATTENTION_SCORES;
#else
const ATTENTION_WEIGHTS_AT = 0u;
#endif
const ATTENTION_VALUES_AT = {{VALUES_AT}}u;
const ATTENTION_SHARED = ATTENTION_VALUES_AT + {{TOKENS}}u * ATTENTION_KV_ROW;
var<workgroup> attention_shared: array<vec4<u32>, ATTENTION_SHARED>;
// Of the invocations of each row: maxima of a step, or sums; or of each row: what its results are multiplied with.
var<workgroup> attention_of_rows: array<f32, ATTENTION_THREADS>;
var<workgroup> attention_grown: u32;

// Invocations of a row in the softmax, each with U x 8 tokens of a step.
const ATTENTION_ROW_PARTS = {{TOKENS}}u / 8u / {{U}}u;
const ATTENTION_SOFTMAX = {{ROWS}}u * ATTENTION_ROW_PARTS;
const ATTENTION_SLACK = 12.0;

alias AttentionLeft = subgroup_matrix_left<f16, 16, 16>;
alias AttentionRight = subgroup_matrix_right<f16, 16, 16>;
alias AttentionResult = subgroup_matrix_result<f32, 16, 16>;

// KV tokens [x, y) that any of the packed rows [first, first + ROWS) of the tile sees; y may be below x.
fn attention_range(item: AttentionItem, first: u32) -> vec2<u32> {
  let first_view = attention_view(item, first);
  let last_view = attention_view(item, min(first + {{ROWS}}u, item.rows) - 1u);
  return vec2<u32>(max(item.kv_start, first_view.x), min(item.kv_end, last_view.y));
}

// Page of a token, or of the last one before `end`: beyond it the last token is read again, with weight 0. A range at
// the start of a request reads page 0 (the results of rows that see nothing are not used).
fn attention_matrix_page(item: AttentionItem, end: u32, token: u32) -> u32 {
  if (end == 0u) {
    return 0u;
  }
  return step_meta[item.page_start + min(token, max(end, 1u) - 1u) / {{PAGE_SIZE}}u];
}

// First load of the KV row of a token on this page.
fn attention_matrix_row(item: AttentionItem, end: u32, page: u32, token: u32) -> u32 {
  let slot = min(token, max(end, 1u) - 1u) % {{PAGE_SIZE}}u;
  return ATTENTION_CHUNKS * attention_kv_row_of(page, item.kv_head, slot);
}

// Piece `index` of the query rows from `first` on; rows that are not there repeat the last one.
fn attention_matrix_query(item: AttentionItem, first: u32, index: u32) -> vec4<u32> {
  let row = min(first + index / ATTENTION_CHUNKS, item.rows - 1u);
  let at = attention_query_row(item, row) * ATTENTION_VECTORS + index % ATTENTION_CHUNKS * 2u;
  return vec4<u32>(attention_q[at], attention_q[at + 1u]);
}

fn attention_mask(scores: vec4<f32>, token: u32, view: vec2<u32>) -> vec4<f32> {
  let tokens = vec4<u32>(token, token + 1u, token + 2u, token + 3u);
  return select(vec4<f32>(ATTENTION_EMPTY), scores, (tokens >= vec4<u32>(view.x)) & (tokens < vec4<u32>(view.y)));
}

fn attention_largest(scores: vec4<f32>) -> f32 {
  return max(max(scores.x, scores.y), max(scores.z, scores.w));
}

fn attention_weights(low: vec4<f32>, high: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(
    pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw),
  );
}

fn run(group: u32, groups: u32, lane: u32) {
  let chunk = lane % ATTENTION_CHUNKS;
  let slot = lane / ATTENTION_CHUNKS;
  let subgroup = lane / 32u;
  let sub_n = subgroup % {{SG_N}}u;
  let sub_m = subgroup / {{SG_N}}u;
  // Scores: the first of the subgroup's blocks of tokens, and its first 16 dimensions.
  let score_block = sub_n % {{S_COLUMNS}}u * {{S_OWN}}u;
  let score_part = sub_n / {{S_COLUMNS}}u;
  // Results: the first of the subgroup's blocks of dimensions, and its part of the tokens.
  let result_block = sub_n % {{O_COLUMNS}}u * {{O_OWN}}u;
  let result_part = sub_n / {{O_COLUMNS}}u;
  // Softmax: row and tokens of this invocation.
  let own_row = lane / ATTENTION_ROW_PARTS;
  let own_part = lane % ATTENTION_ROW_PARTS;
  let own_token = own_part * {{U}}u * 8u;
  let weighs = lane < ATTENTION_SOFTMAX;

  for (var list = group; list < params.lists; list += groups) {
    let end = step_meta[params.indptr_at + list + 1u];
    var index = step_meta[params.indptr_at + list];
    if (index >= end) {
      continue;
    }
    var item = attention_item(index);
    var first = 0u;
    var range = attention_range(item, first);
#if STREAM
    // The item after this one: what memory has to be asked for, it is asked for early.
    var coming = attention_item(min(index + 1u, end - 1u));
#for i FETCH
    let start_token_{{i}} = range.x + {{i}}u * ATTENTION_FETCH_TOKENS + slot;
    var page_{{i}} = attention_matrix_page(item, range.y, start_token_{{i}} + {{TOKENS}}u);
    let start_at_{{i}} =
      attention_matrix_row(item, range.y, attention_matrix_page(item, range.y, start_token_{{i}}), start_token_{{i}});
    var key_{{i}} = attention_k[start_at_{{i}} + chunk];
    var value_{{i}} = attention_v[start_at_{{i}} + chunk];
#endfor
#for i QUERIES
    var query_{{i}} = attention_matrix_query(item, first, lane + {{i}}u * ATTENTION_THREADS);
#endfor
#endif
    loop {
      let again = first + {{ROWS}}u < item.rows;
      let more = again || index + 1u < end;
#if STREAM
      var next = coming;
      var next_first = 0u;
      if (again) {
        next = item;
        next_first = first + {{ROWS}}u;
      }
      let next_range = attention_range(next, next_first);
#for i FETCH
      let next_token_{{i}} = next_range.x + {{i}}u * ATTENTION_FETCH_TOKENS + slot;
      let next_page_{{i}} = attention_matrix_page(next, next_range.y, next_token_{{i}});
      let after_page_{{i}} = attention_matrix_page(next, next_range.y, next_token_{{i}} + {{TOKENS}}u);
#endfor
      if (!again) {
        coming = attention_item(min(index + 2u, end - 1u));
      }
#else
#for i FETCH
      let start_token_{{i}} = range.x + {{i}}u * ATTENTION_FETCH_TOKENS + slot;
      let start_page_{{i}} = attention_matrix_page(item, range.y, start_token_{{i}});
      var page_{{i}} = attention_matrix_page(item, range.y, start_token_{{i}} + {{TOKENS}}u);
      var at_{{i}} = attention_matrix_row(item, range.y, start_page_{{i}}, start_token_{{i}}) + chunk;
      var key_{{i}} = attention_k[at_{{i}}];
#endfor
#for i QUERIES
      let query_{{i}} = attention_matrix_query(item, first, lane + {{i}}u * ATTENTION_THREADS);
#endfor
#endif
      var view = attention_view(item, min(first + own_row, item.rows - 1u));
      view.y = min(view.y, item.kv_end);
      // What all rows see: the first row's end and the last row's start.
      let all_start = attention_view(item, min(first + {{ROWS}}u, item.rows) - 1u).x;
      let all_end = min(attention_view(item, first).y, item.kv_end);

      workgroupBarrier(); // the results of the rows before have been read
#for i QUERIES
      if (lane + {{i}}u * ATTENTION_THREADS < {{ROWS}}u * ATTENTION_CHUNKS) {
        let query_index_{{i}} = lane + {{i}}u * ATTENTION_THREADS;
        attention_shared[query_index_{{i}} / ATTENTION_CHUNKS * ATTENTION_KV_ROW + query_index_{{i}} % ATTENTION_CHUNKS] =
          query_{{i}};
      }
#endfor
      workgroupBarrier();
      let query_at = sub_m * 16u * ATTENTION_KV_ROW + score_part * {{S_DEPTH}}u * 2u;
#for k S_DEPTH
      let q_{{k}} =
        subgroupMatrixLoad<AttentionLeft, row_major>(&attention_shared, query_at + {{k}}u * 2u, ATTENTION_KV_ROW);
#endfor
#for o O_OWN
      var result_{{o}} = AttentionResult();
#endfor
      var reference = ATTENTION_LOWEST;
      var sum = 0.0;

      // Rows that see nothing take one step too: the loads ahead must move on.
      for (var base = range.x; base < max(range.y, range.x + 1u); base += {{TOKENS}}u) {
        let last = base + {{TOKENS}}u >= range.y;
        workgroupBarrier(); // the queries, or the step before, have been read
#for i FETCH
        attention_shared[({{i}}u * ATTENTION_FETCH_TOKENS + slot) * ATTENTION_KV_ROW + chunk] = key_{{i}};
#if STREAM
        attention_shared[ATTENTION_VALUES_AT + ({{i}}u * ATTENTION_FETCH_TOKENS + slot) * ATTENTION_KV_ROW + chunk] =
          value_{{i}};
#endif
#endfor
        workgroupBarrier();
#if STREAM
        if (!last || more) {
#for i FETCH
          var at_{{i}} = chunk;
          if (last) {
            at_{{i}} += attention_matrix_row(next, next_range.y, next_page_{{i}}, next_token_{{i}});
          } else {
            at_{{i}} += attention_matrix_row(
              item, range.y, page_{{i}}, base + {{TOKENS}}u + {{i}}u * ATTENTION_FETCH_TOKENS + slot);
          }
#endfor
#for i FETCH
          key_{{i}} = attention_k[at_{{i}}];
#endfor
#for i FETCH
          value_{{i}} = attention_v[at_{{i}}];
#endfor
        }
        if (last) {
#for i QUERIES
          query_{{i}} = attention_matrix_query(next, next_first, lane + {{i}}u * ATTENTION_THREADS);
#endfor
        } else {
#for i FETCH
          page_{{i}} = attention_matrix_page(
            item, range.y, base + 2u * {{TOKENS}}u + {{i}}u * ATTENTION_FETCH_TOKENS + slot);
#endfor
        }
#else
#for i FETCH
        let value_{{i}} = attention_v[at_{{i}}];
#endfor
#endif

        let key_at = score_block * 16u * ATTENTION_KV_ROW + score_part * {{S_DEPTH}}u * 2u;
#for b S_OWN
        var score_{{b}} = AttentionResult();
#endfor
#for k S_DEPTH
#for b S_OWN
        score_{{b}} = subgroupMatrixMultiplyAccumulate(
          q_{{k}},
          subgroupMatrixLoad<AttentionRight, col_major>(
            &attention_shared, key_at + {{b}}u * 16u * ATTENTION_KV_ROW + {{k}}u * 2u, ATTENTION_KV_ROW),
          score_{{b}},
        );
#endfor
#endfor
        workgroupBarrier(); // the keys have been read
        let scores_to = (score_part * {{ROWS}}u + sub_m * 16u) * ATTENTION_SCORE_ROW + score_block * 4u;
#for b S_OWN
        subgroupMatrixStore<row_major>(&attention_shared, scores_to + {{b}}u * 4u, score_{{b}}, ATTENTION_SCORE_ROW);
#endfor
        workgroupBarrier();

        var own = ATTENTION_LOWEST;
#for u U
        var low_{{u}} = vec4<f32>(ATTENTION_EMPTY);
        var high_{{u}} = vec4<f32>(ATTENTION_EMPTY);
#endfor
        if (weighs) {
          let scores_at = own_row * ATTENTION_SCORE_ROW + own_part * {{U}}u * 2u;
#for u U
          low_{{u}} = bitcast<vec4<f32>>(attention_shared[scores_at + {{u}}u * 2u]);
          high_{{u}} = bitcast<vec4<f32>>(attention_shared[scores_at + {{u}}u * 2u + 1u]);
#if S_PARTS == 2
          low_{{u}} += bitcast<vec4<f32>>(
            attention_shared[{{ROWS}}u * ATTENTION_SCORE_ROW + scores_at + {{u}}u * 2u]);
          high_{{u}} += bitcast<vec4<f32>>(
            attention_shared[{{ROWS}}u * ATTENTION_SCORE_ROW + scores_at + {{u}}u * 2u + 1u]);
#endif
          low_{{u}} *= params.scale;
          high_{{u}} *= params.scale;
#endfor
          if (base < all_start || base + {{TOKENS}}u > all_end) {
#for u U
            low_{{u}} = attention_mask(low_{{u}}, base + own_token + {{u}}u * 8u, view);
            high_{{u}} = attention_mask(high_{{u}}, base + own_token + {{u}}u * 8u + 4u, view);
#endfor
          }
#for u U
          own = max(own, attention_largest(max(low_{{u}}, high_{{u}})));
#endfor
          if (own > reference + ATTENTION_SLACK) {
            attention_grown = 1u;
          }
#if APART
#for u U
          attention_shared[ATTENTION_WEIGHTS_AT + own_row * ATTENTION_WEIGHT_ROW + own_part * {{U}}u + {{u}}u] =
            attention_weights(exp2(low_{{u}} - reference), exp2(high_{{u}} - reference));
#endfor
#endif
        }
#if !STREAM
#for i FETCH
        attention_shared[ATTENTION_VALUES_AT + ({{i}}u * ATTENTION_FETCH_TOKENS + slot) * ATTENTION_KV_ROW + chunk] =
          value_{{i}};
#endfor
        if (!last) {
#for i FETCH
          at_{{i}} = chunk + attention_matrix_row(
            item, range.y, page_{{i}}, base + {{TOKENS}}u + {{i}}u * ATTENTION_FETCH_TOKENS + slot);
          key_{{i}} = attention_k[at_{{i}}];
          page_{{i}} = attention_matrix_page(
            item, range.y, base + 2u * {{TOKENS}}u + {{i}}u * ATTENTION_FETCH_TOKENS + slot);
#endfor
        }
#endif
        if (workgroupUniformLoad(&attention_grown) != 0u) {
          attention_of_rows[lane] = own;
          if (lane == 0u) {
            attention_grown = 0u;
          }
          workgroupBarrier();
          var largest = reference;
          for (var other = 0u; other < ATTENTION_ROW_PARTS; other++) {
            largest = max(largest, attention_of_rows[lane - own_part + other]);
          }
          let keep = exp2(reference - largest);
          sum *= keep;
          reference = largest;
          if (base != range.x) {
            workgroupBarrier(); // the maxima have been read
            if (weighs && own_part == 0u) {
              attention_of_rows[own_row] = keep;
            }
#for o O_OWN
            workgroupBarrier();
            subgroupMatrixStore<row_major>(&attention_shared, subgroup * 64u, result_{{o}}, 4u);
            workgroupBarrier();
            for (var e = lane % 32u; e < 64u; e += 32u) {
              let scaled = bitcast<vec4<f32>>(attention_shared[subgroup * 64u + e]) *
                attention_of_rows[sub_m * 16u + e / 4u];
              attention_shared[subgroup * 64u + e] = bitcast<vec4<u32>>(scaled);
            }
            workgroupBarrier();
            result_{{o}} = subgroupMatrixLoad<AttentionResult, row_major>(&attention_shared, subgroup * 64u, 4u);
#endfor
            workgroupBarrier();
          }
#if APART
          if (weighs) {
#for u U
            attention_shared[ATTENTION_WEIGHTS_AT + own_row * ATTENTION_WEIGHT_ROW + own_part * {{U}}u + {{u}}u] =
              attention_weights(exp2(low_{{u}} - reference), exp2(high_{{u}} - reference));
#endfor
          }
          workgroupBarrier();
#endif
        }
#for u U
        let low_weight_{{u}} = exp2(low_{{u}} - reference);
        let high_weight_{{u}} = exp2(high_{{u}} - reference);
        sum += dot(low_weight_{{u}} + high_weight_{{u}}, vec4<f32>(1.0));
#endfor
#if !APART
        if (weighs) {
#for u U
          attention_shared[ATTENTION_WEIGHTS_AT + own_row * ATTENTION_WEIGHT_ROW + own_part * {{U}}u + {{u}}u] =
            attention_weights(low_weight_{{u}}, high_weight_{{u}});
#endfor
        }
        workgroupBarrier();
#endif

        let weights_at = ATTENTION_WEIGHTS_AT + sub_m * 16u * ATTENTION_WEIGHT_ROW;
        let values_at = ATTENTION_VALUES_AT + result_block * 2u;
#for t O_DEPTH
        let block_{{t}} = result_part * {{O_DEPTH}}u + {{t}}u;
        let weight_{{t}} = subgroupMatrixLoad<AttentionLeft, row_major>(
          &attention_shared, weights_at + block_{{t}} * 2u, ATTENTION_WEIGHT_ROW);
#for o O_OWN
        result_{{o}} = subgroupMatrixMultiplyAccumulate(
          weight_{{t}},
          subgroupMatrixLoad<AttentionRight, row_major>(
            &attention_shared, values_at + block_{{t}} * 16u * ATTENTION_KV_ROW + {{o}}u * 2u, ATTENTION_KV_ROW),
          result_{{o}},
        );
#endfor
#endfor
      }

      workgroupBarrier(); // weights and values have been read
      let result_to = (result_part * {{ROWS}}u + sub_m * 16u) * ATTENTION_RESULT_ROW + result_block * 4u;
#for o O_OWN
      subgroupMatrixStore<row_major>(&attention_shared, result_to + {{o}}u * 4u, result_{{o}}, ATTENTION_RESULT_ROW);
#endfor
      attention_of_rows[lane] = sum;
      workgroupBarrier();
      let rows = min({{ROWS}}u, item.rows - first);
      for (var i = lane; i < rows * ATTENTION_VECTORS; i += ATTENTION_THREADS) {
        let row = i / ATTENTION_VECTORS;
        let vector = i % ATTENTION_VECTORS;
        let total = attention_row_sum(row);
        var value = bitcast<vec4<f32>>(attention_shared[row * ATTENTION_RESULT_ROW + vector]);
#if O_PARTS == 2
        value += bitcast<vec4<f32>>(attention_shared[({{ROWS}}u + row) * ATTENTION_RESULT_ROW + vector]);
#endif
        // A row that sees nothing may have met anything in the slots of unused pages: not 0 * value.
        attention_store(item, first + row, vector, select(vec4<f32>(), value * attention_inverse(total), total > 0.0));
      }
      if (weighs && own_part == 0u && own_row < rows) {
        attention_store_lse(item, first + own_row, reference, attention_row_sum(own_row));
      }
      if (!more) {
        break;
      }
#if STREAM
      if (!again) {
        index++;
      }
      item = next;
      first = next_first;
      range = next_range;
#for i FETCH
      page_{{i}} = after_page_{{i}};
#endfor
#else
      if (again) {
        first += {{ROWS}}u;
      } else {
        index++;
        item = attention_item(index);
        first = 0u;
      }
      range = attention_range(item, first);
#endif
    }
    workgroupBarrier(); // sums have been read
  }
}

fn attention_row_sum(row: u32) -> f32 {
  var total = 0.0;
  for (var part = 0u; part < ATTENTION_ROW_PARTS; part++) {
    total += attention_of_rows[row * ATTENTION_ROW_PARTS + part];
  }
  return total;
}

#include "lib/main.wgsl"
