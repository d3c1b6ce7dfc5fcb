// out[row] = v / sqrt(mean(v * v) + epsilon) * weight with v = x[source] (+ residual[source]).
// rows 'tokens': source = row, and v goes back to x when there is a residual. rows 'logitRows': source = logitRows[row].
//
// REDUCE says who works on a row:
//   workgroup  a workgroup of any size, partial sums through workgroup memory (two barriers)
//   subgroups  a workgroup, partial sums of its subgroups through workgroup memory (one barrier)
//   subgroup   a workgroup that is exactly one subgroup: no barrier, for software adapters
//   lane       one invocation: no barrier, no subgroups
// KEEP: each invocation holds its VALUES loads in registers between the two passes instead of loading them again.
#if SUBGROUPS
enable subgroups;
#endif
#include "lib/storage.wgsl"

struct Params {
  columns: u32, // H / WIDTH
  row_capacity: u32, // rows of out
  range: u32, // word of step_meta with the first row, then the end
  logit_rows: u32, // section of step_meta
  x_rows: u32,
  epsilon: f32,
  inverse_length: f32, // 1 / H
  part_stride: u32, // vectors from one part of the residual to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step_meta: array<u32>;
#if WRITES_X
@group(0) @binding(2) var<storage, read_write> x: array<f32x{{WIDTH}}>;
#else
@group(0) @binding(2) var<storage, read> x: array<f32x{{WIDTH}}>;
#endif
@group(0) @binding(3) var<storage, read> weight: array<f32x{{WIDTH}}>;
@group(0) @binding(4) var<storage, read_write> out: array<{{OUT}}x{{WIDTH}}>;
#if RESIDUAL
@group(0) @binding(5) var<storage, read> residual: array<f32x{{WIDTH}}>;
#endif

fn rms_norm_square(value: f32x{{WIDTH}}) -> f32 {
#if WIDTH == 1
  return value * value;
#else
  return dot(value, value);
#endif
}

// Sum over the invocations that share a row. `turn` alternates between 0 and 1 from row to row, so that a slow
// invocation can still read the sums of one row while a fast one writes those of the next.
#if REDUCE == workgroup
var<workgroup> rms_norm_partial: array<f32, 2u * {{WORKGROUP_SIZE}}u>;
var<workgroup> rms_norm_sixteenth: array<f32, 2u * 16u>;

fn rms_norm_reduce(value: f32, lane: u32, turn: u32) -> f32 {
  rms_norm_partial[turn * {{WORKGROUP_SIZE}}u + lane] = value;
  workgroupBarrier();
  if (lane < 16u) {
    var sum = 0.0;
    for (var i = lane; i < {{WORKGROUP_SIZE}}u; i += 16u) {
      sum += rms_norm_partial[turn * {{WORKGROUP_SIZE}}u + i];
    }
    rms_norm_sixteenth[turn * 16u + lane] = sum;
  }
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < 16u; i++) {
    total += rms_norm_sixteenth[turn * 16u + i];
  }
  return total;
}
#elif REDUCE == subgroups
// Subgroups have at least 4 invocations.
const RMS_NORM_SUBGROUPS = ({{WORKGROUP_SIZE}}u + 3u) / 4u;
var<workgroup> rms_norm_partial: array<f32, 2u * RMS_NORM_SUBGROUPS>;

fn rms_norm_reduce(value: f32, lane: u32, turn: u32) -> f32 {
  let sum = subgroupAdd(value);
  if (subgroup_lane == 0u) {
    rms_norm_partial[turn * RMS_NORM_SUBGROUPS + lane / subgroup_lanes] = sum;
  }
  workgroupBarrier();
  let count = ({{WORKGROUP_SIZE}}u + subgroup_lanes - 1u) / subgroup_lanes;
  var total = 0.0;
  for (var i = 0u; i < count; i++) {
    total += rms_norm_partial[turn * RMS_NORM_SUBGROUPS + i];
  }
  return total;
}
#elif REDUCE == subgroup
fn rms_norm_reduce(value: f32, lane: u32, turn: u32) -> f32 {
  return subgroupAdd(value);
}
#else
fn rms_norm_reduce(value: f32, lane: u32, turn: u32) -> f32 {
  return value;
}
#endif

fn run(group: u32, groups: u32, lane: u32) {
  let end_row = min(step_meta[params.range + 1u], params.row_capacity);
  let first_row = step_meta[params.range];
  var turn = 0u;
#if REDUCE == lane
  let first = 0u;
  let lanes = 1u;
  for (var row = first_row + group * {{WORKGROUP_SIZE}}u + lane; row < end_row; row += groups * {{WORKGROUP_SIZE}}u) {
#else
  let first = lane;
  let lanes = {{WORKGROUP_SIZE}}u;
  for (var row = first_row + group; row < end_row; row += groups) {
#endif
#if LOGIT_ROWS
    let source = min(step_meta[params.logit_rows + row], params.x_rows - 1u) * params.columns;
#else
    let source = row * params.columns;
#endif
    var sum = 0.0;
#if KEEP
    var kept: array<f32x{{WIDTH}}, {{VALUES}}>;
    for (var i = 0u; i < {{VALUES}}u; i++) {
      let column = first + i * lanes;
      if (column < params.columns) {
#else
    {
      for (var column = first; column < params.columns; column += lanes) {
#endif
        var value = x[source + column];
#if RESIDUAL
#for p RESIDUAL_PARTS
        value += residual[{{p}}u * params.part_stride + source + column];
#endfor
#endif
#if WRITES_X
        x[source + column] = value;
#endif
#if KEEP
        kept[i] = value;
#endif
        sum += rms_norm_square(value);
      }
    }
    let total = rms_norm_reduce(sum, lane, turn);
    turn = 1u - turn;
    let scale = inverseSqrt(total * params.inverse_length + params.epsilon);
    let target_row = row * params.columns;
#if KEEP
    for (var i = 0u; i < {{VALUES}}u; i++) {
      let column = first + i * lanes;
      if (column < params.columns) {
        let value = kept[i];
#else
    {
      for (var column = first; column < params.columns; column += lanes) {
        var value = x[source + column];
#if RESIDUAL
#if !WRITES_X
#for p RESIDUAL_PARTS
        value += residual[{{p}}u * params.part_stride + source + column];
#endfor
#endif
#endif
#endif
        out[target_row + column] = store_{{OUT}}x{{WIDTH}}(value * scale * weight[column]);
      }
    }
  }
}

#if SUBGROUPS
#include "lib/main_subgroups.wgsl"
#else
#include "lib/main.wgsl"
#endif
