// What kernels share whose invocations work on KV tokens in slots: a slot is LANES invocations with one token, of which
// each holds LOADS pieces of PARTS vectors. SLOTS of them make a workgroup. 2^SLOT_STEPS slots lie in one subgroup and
// meet by shuffles; these teams meet in workgroup memory (SHARED), once for each item (attention_meet.wgsl).
const ATTENTION_SLOTS = {{SLOTS}}u;
const ATTENTION_TEAMS = max(1u, ATTENTION_SLOTS >> {{SLOT_STEPS}}u);
const ATTENTION_STEP = ATTENTION_SLOTS * {{TOKENS}}u;
const ATTENTION_LOADS_OF_ROW = ATTENTION_VECTORS / {{PARTS}}u;

#if SHARED
var<workgroup> attention_maxima: array<f32, ATTENTION_TEAMS * {{ROWS}}u>;
var<workgroup> attention_sums: array<f32, ATTENTION_TEAMS * {{ROWS}}u>;
// As words: in a joined dispatch they share the memory of a GEMM's tiles.
var<workgroup> attention_rows: array<vec{{WIDTH}}<u32>, ATTENTION_TEAMS * {{ROWS}}u * ATTENTION_VECTORS>;
#endif

alias AttentionRaw = {{KV}}x{{KV_WIDTH}};

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

fn attention_page(item: AttentionItem, token: u32) -> u32 {
  return step_meta[item.page_start + min(token, item.kv_end - 1u) / {{PAGE_SIZE}}u];
}

#if SHARED
// Adds up vector `vector` of packed row first + r over the teams and stores it.
fn attention_add_teams(item: AttentionItem, first: u32, r: u32, vector: u32) {
  var largest = ATTENTION_LOWEST;
#for t TEAMS
  let maximum_{{t}} = attention_maxima[{{t}}u * {{ROWS}}u + r];
  largest = max(largest, maximum_{{t}});
#endfor
  var total = 0.0;
  var value = AttentionVector();
#for t TEAMS
  let scale_{{t}} = exp2(maximum_{{t}} - largest);
  total += attention_sums[{{t}}u * {{ROWS}}u + r] * scale_{{t}};
  value += bitcast<AttentionVector>(attention_rows[({{t}}u * {{ROWS}}u + r) * ATTENTION_VECTORS + vector]) * scale_{{t}};
#endfor
  attention_store(item, first + r, vector, value * attention_inverse(total));
  if (vector == 0u) {
    attention_store_lse(item, first + r, largest, total);
  }
}
#endif
