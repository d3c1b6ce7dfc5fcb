    // The body of a loop over KV tokens, in attention_lanes.wgsl and attention_stream.wgsl: scores of the TOKENS tokens
    // that lie in key_u_l, their weights, and the values in value_u_l added to acc_r_l_p.
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
