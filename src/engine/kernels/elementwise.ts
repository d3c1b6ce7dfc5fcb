/** What the kernels that touch each element once have in common: load width and workgroup count. */
import type { DeviceTarget, TensorView } from '../device.ts';

/**
 * Elements that one load takes: 4 when rows divide by it, else 2, else (f32 only) 1.
 *
 * @param rowLength elements of the rows, or parts of rows, that an access must not straddle
 * @throws Error for f16 rows of odd length: half a word cannot be written alone.
 */
export function vectorWidth(rowLength: number, views: readonly TensorView[]): 1 | 2 | 4 {
  if (rowLength % 4 === 0) return 4;
  if (rowLength % 2 === 0) return 2;
  const half = views.find((view) => view.dtype === 'f16');
  if (half) {
    throw new Error(
      `"${half.buffer.label}": got f16 rows of ${rowLength} elements, expected an even length; store it as f32`,
    );
  }
  return 1;
}

/** Invocations of a workgroup: what the call wants (it shares a dispatch with others), else the kernel's own choice. */
export function invocationsOf(call: { invocations?: number }, target: DeviceTarget, own: number): number {
  return call.invocations === undefined ? own : Math.min(call.invocations, target.limits.maxInvocations);
}

/** Rows that a default budget is for: those of the program, at most those of the tensor. */
export function budgetRows(call: { maxRows?: number }, capacity: number, rowsEach = 1): number {
  return call.maxRows === undefined ? capacity : Math.min(capacity, call.maxRows * rowsEach);
}

/**
 * Default budget for `items` independent pieces of work: no more workgroups than there is work. Streaming kernels
 * want several resident workgroups on each core of a GPU to keep enough loads in flight.
 */
export function elementwiseWorkgroups(target: DeviceTarget, items: number, workgroupSize: number): number {
  const most = target.software ? target.defaultWorkgroups : target.defaultWorkgroups * 8;
  return Math.max(1, Math.min(most, Math.ceil(items / workgroupSize), target.limits.maxWorkgroups));
}
