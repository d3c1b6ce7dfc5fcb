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
// On software adapters SLOTS is 1: no barrier, no workgroup memory. There a load is what costs (every vector lane
// loads for itself, some 40 instructions for 16 bytes, the same address or not), and no two lanes load the same.
#if SUBGROUPS
enable subgroups;
#endif
#include "attention_io.wgsl"
#include "attention_slots.wgsl"

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

// Packed rows [first, first + ROWS) of the tile.
fn attention_walk(item: AttentionItem, first: u32, lane: u32) {
  let slot = lane / {{LANES}}u;
  let part = lane % {{LANES}}u;
  // First vector of each of this invocation's loads.
#for l LOADS
  let own_{{l}} = (part + {{l}}u * {{LANES}}u) * {{PARTS}}u;
#endfor

#include "attention_rows.wgsl"

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

#include "attention_step.wgsl"
  }

#include "attention_meet.wgsl"
}

#include "lib/main.wgsl"
