  // The end of an item, in attention_lanes.wgsl and attention_stream.wgsl: the slots' results come to one scale, are added
  // up and stored.
#if SLOT_STEPS != 0
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
#if SHARED
  workgroupBarrier(); // the item before has been read
  if (slot % (1u << {{SLOT_STEPS}}u) == 0u) {
    let team = slot >> {{SLOT_STEPS}}u;
#for r ROWS
    if (part == 0u) {
      attention_maxima[team * {{ROWS}}u + {{r}}u] = maximum_{{r}};
      attention_sums[team * {{ROWS}}u + {{r}}u] = sum_{{r}};
    }
#for l LOADS
#for p PARTS
    if (own_{{l}} + {{p}}u < ATTENTION_VECTORS) {
      attention_rows[(team * {{ROWS}}u + {{r}}u) * ATTENTION_VECTORS + own_{{l}} + {{p}}u] =
        bitcast<vec{{WIDTH}}<u32>>(acc_{{r}}_{{l}}_{{p}});
    }
#endfor
#endfor
#endfor
  }
  workgroupBarrier();
  let meeting = min({{ROWS}}u, item.rows - first) * ATTENTION_VECTORS;
  for (var i = lane; i < meeting; i += {{WORKGROUP_SIZE}}u) {
    attention_add_teams(item, first, i / ATTENTION_VECTORS, i % ATTENTION_VECTORS);
  }
#else
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
#endif
