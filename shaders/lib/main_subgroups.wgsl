// Entry point of a kernel that uses subgroup operations: as lib/main.wgsl, and the subgroup's facts are in private
// variables. Needs `enable subgroups;` at the top of the kernel's file. Subgroup sizes differ between adapters
// (4..128) and between kernels on one adapter, so the size is only known here.
var<private> subgroup_lane: u32; // this invocation within its subgroup
var<private> subgroup_lanes: u32; // invocations of a subgroup

@compute @workgroup_size({{WORKGROUP_SIZE}})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_invocation_id) lane_in_subgroup: u32,
  @builtin(subgroup_size) lanes_in_subgroup: u32,
) {
  subgroup_lane = lane_in_subgroup;
  subgroup_lanes = lanes_in_subgroup;
  run(workgroup.x, workgroups.x, lane);
}
