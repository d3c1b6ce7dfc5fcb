// Paged attention for few query rows (decode) on GPUs with subgroups, and for any rows on software adapters.
//
// Bound by memory: every invocation keeps 2 x TOKENS x LOADS independent loads in flight. LANES = 2^STEPS invocations
// share a KV token (each LOADS loads of its row, every one PARTS vectors) and add up their dot products within the
// subgroup; SLOTS = WORKGROUP_SIZE / LANES tokens are looked at side by side, TOKENS times. The slots keep their own
// softmax and meet in workgroup memory at the end of the item. ROWS packed rows are carried through one walk over the
// KV tokens; an item with more rows walks again. LANES is not larger than any subgroup of the adapter.
//
// All values are variables of their own (#for), not arrays: they must stay in registers.
//
// TEAM says who works on an item: a workgroup, or a subgroup alone (no barrier, no workgroup memory: the slots meet by
// shuffles). PAUSED: the subgroups are guests in a GEMM's workgroups and keep step with its barriers (join.ts).
//
// On software adapters SLOTS is 1: no barrier, no workgroup memory. There a load is what costs (every vector lane
// loads for itself, some 40 instructions for 16 bytes, the same address or not), and no two lanes load the same.
#if LANES != 1
enable subgroups;
#endif
#include "attention_io.wgsl"

const ATTENTION_SLOTS = {{SLOTS}}u;
const ATTENTION_STEP = ATTENTION_SLOTS * {{TOKENS}}u;
const ATTENTION_LOADS_OF_ROW = ATTENTION_VECTORS / {{PARTS}}u;

alias AttentionRaw = {{KV}}x{{KV_WIDTH}};

#if SHARED
var<workgroup> attention_maxima: array<f32, ATTENTION_SLOTS * {{ROWS}}u>;
var<workgroup> attention_sums: array<f32, ATTENTION_SLOTS * {{ROWS}}u>;
// As words: in a joined dispatch they share the memory of a GEMM's tiles.
var<workgroup> attention_rows: array<vec{{WIDTH}}<u32>, ATTENTION_SLOTS * ATTENTION_VECTORS>;
#endif

#if PARTS == 2
fn attention_part0(stored: AttentionRaw) -> AttentionVector {
  return load_{{KV}}x8_low(stored);
}
fn attention_part1(stored: AttentionRaw) -> AttentionVector {
  return load_{{KV}}x8_high(stored);
}
#else
fn attention_part0(stored: AttentionRaw) -> AttentionVector {
  return load_{{KV}}x{{KV_WIDTH}}(stored);
}
#endif

fn run(group: u32, groups: u32, lane: u32) {
  for (var list = group; list < params.lists; list += groups) {
    let end = step_meta[params.indptr_at + list + 1u];
    for (var index = step_meta[params.indptr_at + list]; index < end; index++) {
      let item = attention_item(index);
      for (var first = 0u; first < item.rows; first += {{ROWS}}u) {
        attention_walk(item, first, lane);
      }
    }
  }
}

fn attention_page(item: AttentionItem, token: u32) -> u32 {
  return step_meta[item.page_start + min(token, item.kv_end - 1u) / {{PAGE_SIZE}}u];
}

// Packed rows [first, first + ROWS) of the tile.
fn attention_walk(item: AttentionItem, first: u32, lane: u32) {
  let slot = lane / {{LANES}}u;
  let part = lane % {{LANES}}u;
  // First vector of each of this invocation's loads.
#for l LOADS
  let own_{{l}} = (part + {{l}}u * {{LANES}}u) * {{PARTS}}u;
#endfor

  // Rows that are not there repeat the last one and are not stored.
#for r ROWS
  let row_{{r}} = min(first + {{r}}u, item.rows - 1u);
  let query_row_{{r}} = attention_query_row(item, row_{{r}});
  let view_{{r}} = attention_view(item, row_{{r}});
  var maximum_{{r}} = ATTENTION_LOWEST;
  var sum_{{r}} = 0.0;
#for l LOADS
#for p PARTS
  let q_{{r}}_{{l}}_{{p}} = attention_own_q(query_row_{{r}}, own_{{l}} + {{p}}u);
  var acc_{{r}}_{{l}}_{{p}} = AttentionVector();
#endfor
#endfor
#endfor
  // What all rows see: the first row's end and the last row's start.
  let all_start = attention_view(item, min(first + {{ROWS}}u, item.rows) - 1u).x;
  let all_end = min(view_0.y, item.kv_end);

#if !SPREAD_PAGES
  // Page ids are fetched one step ahead: the loads of K and V wait for nothing.
#for u TOKENS
  var page_{{u}} = 0u;
#endfor
  if (item.kv_start < item.kv_end) {
#for u TOKENS
    page_{{u}} = attention_page(item, item.kv_start + {{u}}u * ATTENTION_SLOTS + slot);
#endfor
  }
#endif
#if AHEAD
  // The loads of a step are issued while the step before is computed.
#for u TOKENS
  let first_token_{{u}} = item.kv_start + {{u}}u * ATTENTION_SLOTS + slot;
  let first_at_{{u}} = ATTENTION_LOADS_OF_ROW *
    attention_kv_row_of(page_{{u}}, item.kv_head, min(first_token_{{u}}, max(item.kv_end, 1u) - 1u) % {{PAGE_SIZE}}u);
#for l LOADS
  var ahead_key_{{u}}_{{l}} = attention_k[first_at_{{u}} + min(part + {{l}}u * {{LANES}}u, ATTENTION_LOADS_OF_ROW - 1u)];
  var ahead_value_{{u}}_{{l}} = attention_v[first_at_{{u}} + min(part + {{l}}u * {{LANES}}u, ATTENTION_LOADS_OF_ROW - 1u)];
#endfor
#endfor
  if (item.kv_start < item.kv_end) {
#for u TOKENS
    page_{{u}} = attention_page(item, item.kv_start + ATTENTION_STEP + {{u}}u * ATTENTION_SLOTS + slot);
#endfor
  }
  for (var base = item.kv_start; base < item.kv_end; base += ATTENTION_STEP) {
#if PAUSED
    beside_pause();
#endif
#for u TOKENS
    let token_{{u}} = base + {{u}}u * ATTENTION_SLOTS + slot;
#for l LOADS
    let key_{{u}}_{{l}} = ahead_key_{{u}}_{{l}};
    let value_{{u}}_{{l}} = ahead_value_{{u}}_{{l}};
#endfor
#endfor
    if (base + ATTENTION_STEP < item.kv_end) {
#for u TOKENS
    let at_{{u}} = ATTENTION_LOADS_OF_ROW *
      attention_kv_row_of(page_{{u}}, item.kv_head, min(token_{{u}} + ATTENTION_STEP, item.kv_end - 1u) % {{PAGE_SIZE}}u);
#for l LOADS
    ahead_key_{{u}}_{{l}} = attention_k[at_{{u}} + min(part + {{l}}u * {{LANES}}u, ATTENTION_LOADS_OF_ROW - 1u)];
#endfor
#for l LOADS
    ahead_value_{{u}}_{{l}} = attention_v[at_{{u}} + min(part + {{l}}u * {{LANES}}u, ATTENTION_LOADS_OF_ROW - 1u)];
#endfor
#endfor
#for u TOKENS
    page_{{u}} = attention_page(item, token_{{u}} + 2u * ATTENTION_STEP);
#endfor
    }
#else
  for (var base = item.kv_start; base < item.kv_end; base += ATTENTION_STEP) {
#if SPREAD_PAGES
    // Each invocation fetches the page id of one token; SLOTS is 1 and TOKENS not above LANES.
    var own_page = 0u;
    if (part < {{TOKENS}}u) {
      own_page = attention_page(item, base + part);
    }
#for u TOKENS
    let page_{{u}} = subgroupBroadcast(own_page, {{u}}u);
#endfor
#endif
    // Beyond the end the last token is read again, with weight 0; lanes beyond a row's end read its last vectors, and
    // their q and acc count for nothing.
#for u TOKENS
    let token_{{u}} = base + {{u}}u * ATTENTION_SLOTS + slot;
    let at_{{u}} = ATTENTION_LOADS_OF_ROW *
      attention_kv_row_of(page_{{u}}, item.kv_head, min(token_{{u}}, item.kv_end - 1u) % {{PAGE_SIZE}}u);
#for l LOADS
    let key_{{u}}_{{l}} = attention_k[at_{{u}} + min(part + {{l}}u * {{LANES}}u, ATTENTION_LOADS_OF_ROW - 1u)];
#endfor
#endfor
#for u TOKENS
#for l LOADS
    let value_{{u}}_{{l}} = attention_v[at_{{u}} + min(part + {{l}}u * {{LANES}}u, ATTENTION_LOADS_OF_ROW - 1u)];
#endfor
#endfor
#if !SPREAD_PAGES
#for u TOKENS
    page_{{u}} = attention_page(item, token_{{u}} + ATTENTION_STEP);
#endfor
#endif

#endif
#for u TOKENS
#for r ROWS
    var score_{{r}}_{{u}} = 0.0;
#endfor
#for l LOADS
#for p PARTS
    let key_{{u}}_{{l}}_{{p}} = attention_part{{p}}(key_{{u}}_{{l}});
#for r ROWS
    score_{{r}}_{{u}} += dot(q_{{r}}_{{l}}_{{p}}, key_{{u}}_{{l}}_{{p}});
#endfor
#endfor
#endfor
#endfor
#for s STEPS
#for u TOKENS
#for r ROWS
    score_{{r}}_{{u}} += subgroupShuffleXor(score_{{r}}_{{u}}, 1u << {{s}}u);
#endfor
#endfor
#endfor
    if (base < all_start || base + ATTENTION_STEP > all_end) {
#for u TOKENS
#for r ROWS
      score_{{r}}_{{u}} = select(
        ATTENTION_EMPTY,
        score_{{r}}_{{u}},
        token_{{u}} >= view_{{r}}.x && token_{{u}} < min(view_{{r}}.y, item.kv_end),
      );
#endfor
#endfor
    }
    // Weights of what is not visible are 0: maxima start above ATTENTION_EMPTY.
#for r ROWS
    let before_{{r}} = maximum_{{r}};
#for u TOKENS
    maximum_{{r}} = max(maximum_{{r}}, score_{{r}}_{{u}});
#endfor
    let keep_{{r}} = exp2(before_{{r}} - maximum_{{r}});
    sum_{{r}} *= keep_{{r}};
#for u TOKENS
    let weight_{{r}}_{{u}} = exp2(score_{{r}}_{{u}} - maximum_{{r}});
    sum_{{r}} += weight_{{r}}_{{u}};
#endfor
#for l LOADS
#for p PARTS
    acc_{{r}}_{{l}}_{{p}} *= keep_{{r}};
#endfor
#endfor
#endfor
#for u TOKENS
#for l LOADS
#for p PARTS
    let value_{{u}}_{{l}}_{{p}} = attention_part{{p}}(value_{{u}}_{{l}});
#for r ROWS
    acc_{{r}}_{{l}}_{{p}} += weight_{{r}}_{{u}} * value_{{u}}_{{l}}_{{p}};
#endfor
#endfor
#endfor
#endfor
  }

#if TEAM == subgroup
  // The slots' results come to one scale and are added up across the subgroup.
#for r ROWS
  {
    var largest = maximum_{{r}};
#for s SLOT_STEPS
    largest = max(largest, subgroupShuffleXor(largest, {{LANES}}u << {{s}}u));
#endfor
    let scale = exp2(maximum_{{r}} - largest);
    sum_{{r}} *= scale;
#for l LOADS
#for p PARTS
    acc_{{r}}_{{l}}_{{p}} *= scale;
#endfor
#endfor
#for s SLOT_STEPS
    sum_{{r}} += subgroupShuffleXor(sum_{{r}}, {{LANES}}u << {{s}}u);
#for l LOADS
#for p PARTS
    acc_{{r}}_{{l}}_{{p}} += subgroupShuffleXor(acc_{{r}}_{{l}}_{{p}}, {{LANES}}u << {{s}}u);
#endfor
#endfor
#endfor
    maximum_{{r}} = largest;
  }
#endfor
#endif
#if !SHARED
#for r ROWS
  if (first + {{r}}u < item.rows) {
    let inverse_{{r}} = attention_inverse(sum_{{r}});
#for l LOADS
#for p PARTS
    if (slot == 0u && own_{{l}} + {{p}}u < ATTENTION_VECTORS) {
      attention_store(item, first + {{r}}u, own_{{l}} + {{p}}u, acc_{{r}}_{{l}}_{{p}} * inverse_{{r}});
    }
#endfor
#endfor
    if (lane == 0u) {
      attention_store_lse(item, first + {{r}}u, maximum_{{r}}, sum_{{r}});
    }
  }
#endfor
#else
  // The slots' results come to one scale and are added up and stored, one packed row after the other.
  workgroupBarrier(); // the item before has been read
  if (part == 0u) {
#for r ROWS
    attention_maxima[{{r}}u * ATTENTION_SLOTS + slot] = maximum_{{r}};
    attention_sums[{{r}}u * ATTENTION_SLOTS + slot] = sum_{{r}};
#endfor
  }
  workgroupBarrier();
#for r ROWS
  if (first + {{r}}u < item.rows) {
    var largest = ATTENTION_LOWEST;
    for (var s = 0u; s < ATTENTION_SLOTS; s++) {
      largest = max(largest, attention_maxima[{{r}}u * ATTENTION_SLOTS + s]);
    }
    let scale = exp2(maximum_{{r}} - largest);
#for l LOADS
#for p PARTS
    if (own_{{l}} + {{p}}u < ATTENTION_VECTORS) {
      attention_rows[slot * ATTENTION_VECTORS + own_{{l}} + {{p}}u] =
        bitcast<vec{{WIDTH}}<u32>>(acc_{{r}}_{{l}}_{{p}} * scale);
    }
#endfor
#endfor
    workgroupBarrier();
    for (var vector = lane; vector < ATTENTION_VECTORS; vector += {{WORKGROUP_SIZE}}u) {
      attention_add_slots(item, first + {{r}}u, {{r}}u, vector, largest);
    }
    workgroupBarrier();
  }
#endfor
#endif
}

#if SHARED
// Adds up a vector of a row over the slots and stores it.
fn attention_add_slots(item: AttentionItem, row: u32, r: u32, vector: u32, largest: f32) {
  var total = 0.0;
  var value = AttentionVector();
  for (var s = 0u; s < ATTENTION_SLOTS; s++) {
    total += attention_sums[r * ATTENTION_SLOTS + s] * exp2(attention_maxima[r * ATTENTION_SLOTS + s] - largest);
    value += bitcast<AttentionVector>(attention_rows[s * ATTENTION_VECTORS + vector]);
  }
  attention_store(item, row, vector, value * attention_inverse(total));
  if (vector == 0u) {
    attention_store_lse(item, row, largest, total);
  }
}
#endif

#include "lib/main.wgsl"
