// Entry point of a kernel that uses subgroup matrices: as lib/main.wgsl with the subgroup size fixed to 32, which
// Dawn wants declared (otherwise WORKGROUP_SIZE must be a multiple of the adapter's largest subgroup).
@compute @workgroup_size({{WORKGROUP_SIZE}}) @subgroup_size(32)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  run(workgroup.x, workgroups.x, lane);
}
