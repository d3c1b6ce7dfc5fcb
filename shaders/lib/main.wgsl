// Entry point of an ordinary kernel: the file that includes this defines run(group, groups, lane), a persistent body
// that gives the same result for any number of workgroups. Kernels never look at the grid themselves, so that
// several of them can later share one dispatch, each with its own range of workgroups.
@compute @workgroup_size({{WORKGROUP_SIZE}})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  run(workgroup.x, workgroups.x, lane);
}
