  // The start of a walk over KV tokens, in attention_lanes.wgsl and attention_stream.wgsl: queries, views and empty sums of
  // ROWS packed rows from `first` on.
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
