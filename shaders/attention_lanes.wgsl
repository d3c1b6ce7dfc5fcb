// Paged attention for few query rows (decode) on GPUs with subgroups, and for any rows on software adapters.
//
// Bound by memory: every invocation keeps 2 x TOKENS x LOADS independent loads in flight. LANES invocations share a KV
// token (each LOADS vectors of it) and reduce their dot products within the subgroup; SLOTS = WORKGROUP_SIZE / LANES
// tokens are looked at side by side, TOKENS times. The slots keep their own softmax and meet in workgroup memory at
// the end of the item. ROWS packed rows are carried through one walk over the KV tokens; an item with more rows walks
// again. KV_WIDTH 8 (f16): a load is two vectors. LANES is a power of two, not larger than any subgroup of the adapter.
//
// On software adapters SLOTS is 1: no barrier, no workgroup memory. There a load is what costs (every vector lane
// loads for itself, some 40 instructions for 16 bytes, the same address or not), and no two lanes load the same.
#if LANES != 1
enable subgroups;
#endif
#include "attention_io.wgsl"

const ATTENTION_SLOTS = {{SLOTS}}u;
const ATTENTION_STEP = ATTENTION_SLOTS * {{TOKENS}}u;
#if KV_WIDTH == 8
const ATTENTION_PARTS = 2u;
#else
const ATTENTION_PARTS = 1u;
#endif
const ATTENTION_LOADS_OF_ROW = ATTENTION_VECTORS / ATTENTION_PARTS;
const ATTENTION_OWN = {{LOADS}}u * ATTENTION_PARTS; // vectors of a row that an invocation owns

alias AttentionRaw = {{KV}}x{{KV_WIDTH}};

#if SLOTS != 1
var<workgroup> attention_maxima: array<f32, ATTENTION_SLOTS * {{ROWS}}u>;
var<workgroup> attention_sums: array<f32, ATTENTION_SLOTS * {{ROWS}}u>;
var<workgroup> attention_rows: array<AttentionVector, ATTENTION_SLOTS * ATTENTION_VECTORS>;
#endif

fn attention_part(stored: AttentionRaw, part: u32) -> AttentionVector {
#if KV_WIDTH == 8
  if (part == 0u) {
    return load_{{KV}}x8_low(stored);
  }
  return load_{{KV}}x8_high(stored);
#else
  return load_{{KV}}x{{KV_WIDTH}}(stored);
#endif
}

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

  var q: array<array<AttentionVector, ATTENTION_OWN>, {{ROWS}}>;
  var acc: array<array<AttentionVector, ATTENTION_OWN>, {{ROWS}}>;
  var maximum: array<f32, {{ROWS}}>;
  var sum: array<f32, {{ROWS}}>;
  var view: array<vec2<u32>, {{ROWS}}>;
  for (var r = 0u; r < {{ROWS}}u; r++) {
    let row = min(first + r, item.rows - 1u);
    let query_row = attention_query_row(item, row);
    for (var v = 0u; v < ATTENTION_OWN; v++) {
      let vector = attention_own_vector(part, v);
      q[r][v] = AttentionVector();
      if (vector < ATTENTION_VECTORS) {
        q[r][v] = attention_load_q(query_row, vector);
      }
      acc[r][v] = AttentionVector();
    }
    maximum[r] = ATTENTION_EMPTY;
    sum[r] = 0.0;
    view[r] = attention_view(item, row);
    view[r].y = min(view[r].y, item.kv_end);
  }

  // Page ids are fetched one step ahead: the loads of K and V wait for nothing.
  var pages: array<u32, {{TOKENS}}>;
  if (item.kv_start < item.kv_end) {
    for (var u = 0u; u < {{TOKENS}}u; u++) {
      pages[u] = attention_page(item, item.kv_start + u * ATTENTION_SLOTS + slot);
    }
  }
  for (var base = item.kv_start; base < item.kv_end; base += ATTENTION_STEP) {
    var keys: array<array<AttentionRaw, {{LOADS}}>, {{TOKENS}}>;
    var values: array<array<AttentionRaw, {{LOADS}}>, {{TOKENS}}>;
    for (var u = 0u; u < {{TOKENS}}u; u++) {
      // Beyond the end the last token is read again, with weight 0.
      let token = min(base + u * ATTENTION_SLOTS + slot, item.kv_end - 1u);
      let at = attention_kv_row_of(pages[u], item.kv_head, token % {{PAGE_SIZE}}u) * ATTENTION_LOADS_OF_ROW;
      for (var load = 0u; load < {{LOADS}}u; load++) {
        // Lanes beyond the row's end read its last vector; their q and acc count for nothing.
        let vector = at + min(part + load * {{LANES}}u, ATTENTION_LOADS_OF_ROW - 1u);
        keys[u][load] = attention_k[vector];
        values[u][load] = attention_v[vector];
      }
    }
    for (var u = 0u; u < {{TOKENS}}u; u++) {
      pages[u] = attention_page(item, base + ATTENTION_STEP + u * ATTENTION_SLOTS + slot);
    }

    var scores: array<array<f32, {{TOKENS}}>, {{ROWS}}>;
    for (var u = 0u; u < {{TOKENS}}u; u++) {
      for (var r = 0u; r < {{ROWS}}u; r++) {
        scores[r][u] = 0.0;
      }
      for (var v = 0u; v < ATTENTION_OWN; v++) {
        let key = attention_part(keys[u][v / ATTENTION_PARTS], v % ATTENTION_PARTS);
        for (var r = 0u; r < {{ROWS}}u; r++) {
          scores[r][u] += dot(q[r][v], key);
        }
      }
    }
#if LANES != 1
    for (var distance = {{LANES}}u / 2u; distance > 0u; distance /= 2u) {
      for (var r = 0u; r < {{ROWS}}u; r++) {
        for (var u = 0u; u < {{TOKENS}}u; u++) {
          scores[r][u] += subgroupShuffleXor(scores[r][u], distance);
        }
      }
    }
#endif
    for (var r = 0u; r < {{ROWS}}u; r++) {
      var larger = maximum[r];
      for (var u = 0u; u < {{TOKENS}}u; u++) {
        let token = base + u * ATTENTION_SLOTS + slot;
        let visible = token >= view[r].x && token < view[r].y;
        scores[r][u] = select(ATTENTION_EMPTY, scores[r][u], visible);
        larger = max(larger, scores[r][u]);
      }
      let keep = exp2(maximum[r] - larger);
      maximum[r] = larger;
      sum[r] *= keep;
      for (var v = 0u; v < ATTENTION_OWN; v++) {
        acc[r][v] *= keep;
      }
      for (var u = 0u; u < {{TOKENS}}u; u++) {
        let weight = select(0.0, exp2(scores[r][u] - larger), scores[r][u] > ATTENTION_EMPTY);
        scores[r][u] = weight;
        sum[r] += weight;
      }
    }
    for (var u = 0u; u < {{TOKENS}}u; u++) {
      for (var v = 0u; v < ATTENTION_OWN; v++) {
        let value = attention_part(values[u][v / ATTENTION_PARTS], v % ATTENTION_PARTS);
        for (var r = 0u; r < {{ROWS}}u; r++) {
          acc[r][v] += scores[r][u] * value;
        }
      }
    }
  }

#if SLOTS == 1
  for (var r = 0u; r < {{ROWS}}u; r++) {
    if (first + r < item.rows) {
      let inverse = attention_inverse(sum[r]);
      for (var v = 0u; v < ATTENTION_OWN; v++) {
        let vector = attention_own_vector(part, v);
        if (vector < ATTENTION_VECTORS) {
          attention_store(item, first + r, vector, acc[r][v] * inverse);
        }
      }
      if (part == 0u) {
        attention_store_lse(item, first + r, maximum[r], sum[r]);
      }
    }
  }
#else
  attention_join(item, first, lane, &acc, &maximum, &sum);
#endif
}

// The v-th vector of a row that the invocation owns.
fn attention_own_vector(part: u32, v: u32) -> u32 {
  return (part + (v / ATTENTION_PARTS) * {{LANES}}u) * ATTENTION_PARTS + v % ATTENTION_PARTS;
}

#if SLOTS != 1
// Brings the slots' results to one scale, adds them up and stores them, one packed row after the other.
fn attention_join(
  item: AttentionItem,
  first: u32,
  lane: u32,
  acc: ptr<function, array<array<AttentionVector, ATTENTION_OWN>, {{ROWS}}>>,
  maximum: ptr<function, array<f32, {{ROWS}}>>,
  sum: ptr<function, array<f32, {{ROWS}}>>,
) {
  let slot = lane / {{LANES}}u;
  let part = lane % {{LANES}}u;
  workgroupBarrier(); // the item before has been read
  if (part == 0u) {
    for (var r = 0u; r < {{ROWS}}u; r++) {
      attention_maxima[r * ATTENTION_SLOTS + slot] = (*maximum)[r];
      attention_sums[r * ATTENTION_SLOTS + slot] = (*sum)[r];
    }
  }
  workgroupBarrier();
  for (var r = 0u; r < {{ROWS}}u; r++) {
    if (first + r < item.rows) {
      var largest = ATTENTION_EMPTY;
      for (var s = 0u; s < ATTENTION_SLOTS; s++) {
        largest = max(largest, attention_maxima[r * ATTENTION_SLOTS + s]);
      }
      let scale = exp2((*maximum)[r] - largest);
      for (var v = 0u; v < ATTENTION_OWN; v++) {
        let vector = attention_own_vector(part, v);
        if (vector < ATTENTION_VECTORS) {
          attention_rows[slot * ATTENTION_VECTORS + vector] = (*acc)[r][v] * scale;
        }
      }
      workgroupBarrier();
      if (lane < ATTENTION_VECTORS) {
        var total = 0.0;
        var value = AttentionVector();
        for (var s = 0u; s < ATTENTION_SLOTS; s++) {
          total += attention_sums[r * ATTENTION_SLOTS + s] * exp2(attention_maxima[r * ATTENTION_SLOTS + s] - largest);
          value += attention_rows[s * ATTENTION_VECTORS + lane];
        }
        attention_store(item, first + r, lane, value * attention_inverse(total));
        if (lane == 0u) {
          attention_store_lse(item, first + r, largest, total);
        }
      }
      workgroupBarrier();
    }
  }
}
#endif

#include "lib/main.wgsl"
