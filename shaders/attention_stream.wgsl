// Paged attention for few query rows (decode) as one stream of KV tokens: the loads of a step are issued while the step
// before is computed, and across the end of an item too, so memory is never waited for. For GPUs with subgroups and
// 16-byte loads; made to draw much bandwidth from few workgroups, beside a GEMM that has the others.
//
// LANES = 2^STEPS invocations share a KV token and add up their dot products by shuffles; SLOTS tokens are looked at
// side by side, TOKENS times. All values are variables of their own (#for), not arrays: they must stay in registers.
enable subgroups;
#include "attention_io.wgsl"
#include "attention_slots.wgsl"

// An item, and which packed rows of it, from `first` on: items with more than ROWS rows are walked more than once.
struct AttentionWalk {
  item: AttentionItem,
  first: u32,
}

fn run(group: u32, groups: u32, lane: u32) {
  let slot = lane / {{LANES}}u;
  let part = lane % {{LANES}}u;
  // First vector of each of this invocation's loads.
#for l LOADS
  let own_{{l}} = (part + {{l}}u * {{LANES}}u) * {{PARTS}}u;
#endfor
  for (var list = group; list < params.lists; list += groups) {
    let end = step_meta[params.indptr_at + list + 1u];
    var index = step_meta[params.indptr_at + list];
    if (index >= end) {
      continue;
    }
    // The item that is computed, and the one after it: what memory has to be asked for, it is asked for early.
    var item = attention_item(index);
    var first = 0u;
    var coming = attention_item(min(index + 1u, end - 1u));
#for u TOKENS
    let start_token_{{u}} = item.kv_start + {{u}}u * ATTENTION_SLOTS + slot;
    var page_{{u}} = attention_stream_page(item, start_token_{{u}} + ATTENTION_STEP);
    let start_at_{{u}} = attention_stream_row(item, attention_stream_page(item, start_token_{{u}}), start_token_{{u}});
#for l LOADS
    var ahead_key_{{u}}_{{l}} = attention_k[start_at_{{u}} + part + {{l}}u * {{LANES}}u];
    var ahead_value_{{u}}_{{l}} = attention_v[start_at_{{u}} + part + {{l}}u * {{LANES}}u];
#endfor
#endfor
    loop {
      let again = first + {{ROWS}}u < item.rows;
      let more = again || index + 1u < end;
      var next = coming;
      var next_first = 0u;
      if (again) {
        next = item;
        next_first = first + {{ROWS}}u;
      }
#for u TOKENS
      let next_token_{{u}} = next.kv_start + {{u}}u * ATTENTION_SLOTS + slot;
      let next_page_{{u}} = attention_stream_page(next, next_token_{{u}});
      let after_page_{{u}} = attention_stream_page(next, next_token_{{u}} + ATTENTION_STEP);
#endfor
      if (!again) {
        coming = attention_item(min(index + 2u, end - 1u));
      }
#include "attention_rows.wgsl"
      // An item without KV tokens takes one step too: the loads ahead must move on.
      for (var base = item.kv_start; base < max(item.kv_end, item.kv_start + 1u); base += ATTENTION_STEP) {
        let last = base + ATTENTION_STEP >= item.kv_end;
#for u TOKENS
        let token_{{u}} = base + {{u}}u * ATTENTION_SLOTS + slot;
#for l LOADS
        let key_{{u}}_{{l}} = ahead_key_{{u}}_{{l}};
        let value_{{u}}_{{l}} = ahead_value_{{u}}_{{l}};
#endfor
#endfor
        if (!last || more) {
#for u TOKENS
          var at_{{u}} = 0u;
          if (last) {
            at_{{u}} = attention_stream_row(next, next_page_{{u}}, next_token_{{u}});
          } else {
            at_{{u}} = attention_stream_row(item, page_{{u}}, token_{{u}} + ATTENTION_STEP);
          }
#endfor
#for u TOKENS
#for l LOADS
          ahead_key_{{u}}_{{l}} = attention_k[at_{{u}} + part + {{l}}u * {{LANES}}u];
#endfor
#endfor
#for u TOKENS
#for l LOADS
          ahead_value_{{u}}_{{l}} = attention_v[at_{{u}} + part + {{l}}u * {{LANES}}u];
#endfor
#endfor
        }
        if (!last) {
#for u TOKENS
          page_{{u}} = attention_stream_page(item, token_{{u}} + 2u * ATTENTION_STEP);
#endfor
        }
        // Weights of 0 do not help against what lies where nothing was ever stored.
        if (item.kv_start < item.kv_end) {
#include "attention_step.wgsl"
        }
      }
#include "attention_meet.wgsl"
      if (!more) {
        break;
      }
      if (!again) {
        index++;
      }
      item = next;
      first = next_first;
#for u TOKENS
      page_{{u}} = after_page_{{u}};
#endfor
    }
  }
}

// Page of a token, or of the last one before it: beyond the end the last token is read again, with weight 0. An item
// without tokens reads page 0.
fn attention_stream_page(item: AttentionItem, token: u32) -> u32 {
  if (item.kv_end == 0u) {
    return 0u;
  }
  return step_meta[item.page_start + min(token, max(item.kv_end, 1u) - 1u) / {{PAGE_SIZE}}u];
}

// First load of the KV row of a token on this page.
fn attention_stream_row(item: AttentionItem, page: u32, token: u32) -> u32 {
  let row = attention_kv_row_of(page, item.kv_head, min(token, max(item.kv_end, 1u) - 1u) % {{PAGE_SIZE}}u);
  return ATTENTION_LOADS_OF_ROW * row;
}

#include "lib/main.wgsl"
