/** What the kernels that stream tensors have in common: elements of an access, CTAs, storage types as macros. */
import { DTYPE_BYTES, type TensorView } from '../../../device.ts';
import { TYPE_MACRO, type CudaTarget } from '../launch.ts';

export type Width = 1 | 2 | 4 | 8;

/** Values of W in prebuilt modules: rows of models divide by 8 where anything has 16 bits, else by 4. */
export const HALVES = ['f16', 'bf16'] as const;

/**
 * Elements of one access: what divides the rows and gives the widest accesses, 16 bytes of the smallest type.
 *
 * @param rowLength elements of the rows, or parts of rows, that an access must not straddle
 */
export function accessWidth(rowLength: number, views: readonly TensorView[]): Width {
  const most = 16 / Math.min(...views.map(({ dtype }) => DTYPE_BYTES[dtype]));
  return ([8, 4, 2] as const).find((width) => width <= most && rowLength % width === 0) ?? 1;
}

/** CTAs for `items` pieces of work: what the call says, else no more than there is work or the GPU holds at once. */
export function ctasFor(
  call: { workgroups?: number },
  { cuda }: CudaTarget,
  items: number,
  itemsOfCta: number,
  ctasOfMultiprocessor: number,
): number {
  const most = cuda.multiprocessors * ctasOfMultiprocessor;
  return call.workgroups ?? Math.max(1, Math.min(most, Math.ceil(items / itemsOfCta)));
}

/** Storage type of a tensor as the value of a macro. */
export function typeOf({ dtype }: TensorView): string {
  return TYPE_MACRO[dtype];
}
