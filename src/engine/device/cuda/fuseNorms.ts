/**
 * A norm between two products needs no launch of its own. Rows of x times a number are products times that number, so
 * the product that completes the residual stream also writes the stream times the norm's weights and sums of squares of
 * its rows, and the next one divides by the root of their mean what it has multiplied:
 *
 *   x += a w            |  x += a w;  n = x * g;  squares = sums of x^2 by 64 columns
 *   n = norm(x) * g     |
 *   y = n v             |  y = (n v) / sqrt(mean of x^2 + epsilon)
 *
 * n is rounded to 16 bits before it is divided instead of after, which is as precise where the type has the range of
 * f32: bf16. Sums are added in a fixed order, so results do not depend on the CTAs. Launches that this saves wait for
 * everything before them and everything waits for them: beside attention 6 to 10 us each.
 */
import { tensor, type TensorView } from '../../device.ts';
import type { GemmCall, KernelCall, ProgramCall, RmsNormCall } from '../../kernels/calls.ts';
import { GEMM_BACKENDS } from './gemm/backends.ts';
import { chooseBackend } from './gemm/registry.ts';
import type { CudaTarget } from './launch.ts';

/** A product with the norm before it, or the one after it. */
export interface FusedGemmCall extends GemmCall {
  /** `out` is the stream, and complete: out[m] * weight goes to normed.out as well. */
  normed?: { weight: TensorView; out: TensorView; squares: TensorView };
  /** The rows of `a` are such, and are to be normalised. */
  scaled?: { squares: TensorView; epsilon: number };
}

/** Columns of one sum of squares: a step of K of the product that reads them (gemmNorm.cuh). */
const SQUARED = 64;

/** Sums of squares of a stream: f32 [columns / 64, rows]. */
export type SquaresOf = (stream: TensorView) => TensorView;

/** Shape of the sums for a stream. */
export function squaresShape([rows, columns]: readonly number[]): [number, number] {
  return [Math.ceil(columns / SQUARED), rows];
}

/**
 * The same calls, in their places; undefined where a norm is done by its neighbours.
 * @param squaresOf memory for a stream, the same at each call for it
 */
export function fuseNorms(
  calls: readonly ProgramCall[],
  target: CudaTarget,
  squaresOf: SquaresOf,
): (ProgramCall | undefined)[] {
  const result: (ProgramCall | undefined)[] = [...calls];
  if (calls.some(({ kernel }) => kernel === 'joined')) return result;
  const all = calls as readonly KernelCall[];
  for (const [at, norm] of all.entries()) {
    if (norm.kernel !== 'rms_norm' || !canLeave(norm)) continue;
    const producer = producerOf(all, at, norm, target);
    const consumers = consumersOf(all, at, norm, target);
    if (producer === undefined || consumers === undefined) continue;
    const squares = squaresOf(norm.x);
    const { weight, out, epsilon } = norm;
    // A product may be both: of normalised rows, and before the next norm.
    result[producer] = { ...result[producer], normed: { weight, out, squares } } as FusedGemmCall;
    result[at] = undefined;
    for (const consumer of consumers) {
      result[consumer] = { ...result[consumer], scaled: { squares, epsilon } } as FusedGemmCall;
    }
  }
  return result;
}

/** Nobody else waits for the norm, and it does nothing but normalise rows of 16 bits. */
function canLeave({ rows, residual, needs, signal, x, out }: RmsNormCall): boolean {
  const alone = residual === undefined && !needs?.length && signal === undefined;
  return alone && rows === 'tokens' && out.dtype === 'bf16' && x.shape.length === 2;
}

/** The product before the norm that completes the stream; undefined when it is none that can do more. */
function producerOf(
  calls: readonly KernelCall[],
  at: number,
  norm: RmsNormCall,
  target: CudaTarget,
): number | undefined {
  for (let i = at - 1; i >= 0; i--) {
    const call = calls[i];
    if (!touches(call, norm.x) && !touches(call, norm.out)) continue;
    const completes =
      call.kernel === 'gemm' &&
      call.add === true &&
      call.a.dtype === norm.out.dtype &&
      call.bias === undefined &&
      call.outColumn === 0 &&
      call.w.shape[0] === norm.x.shape[1] &&
      sameView(call.out, norm.x) &&
      sameRows(call, norm) &&
      isOurs(call, target);
    return completes ? i : undefined;
  }
  return undefined;
}

/** All who read what the norm writes, as far as they are products; else undefined. */
function consumersOf(
  calls: readonly KernelCall[],
  at: number,
  norm: RmsNormCall,
  target: CudaTarget,
): number[] | undefined {
  const found: number[] = [];
  for (let i = at + 1; i < calls.length; i++) {
    const call = calls[i];
    // The next one to write there: all have read.
    if (call.kernel === 'rms_norm' && sameView(call.out, norm.out)) break;
    if (!touches(call, norm.out)) continue;
    const reads =
      call.kernel === 'gemm' &&
      sameView(call.a, norm.out) &&
      !sameView(call.out, norm.out) &&
      sameRows(call, norm) &&
      call.add !== true &&
      isOurs(call, target);
    if (!reads) return undefined;
    found.push(i);
  }
  return found.length > 0 ? found : undefined;
}

/** Products with guests on their cores have no shared memory to spare. */
function isOurs(call: GemmCall, target: CudaTarget): boolean {
  return call.residency === undefined && chooseBackend(GEMM_BACKENDS, call, target).backend.name === 'wgmma';
}

function sameRows(a: GemmCall, b: RmsNormCall): boolean {
  return a.rows === b.rows && a.range === b.range && a.meta.buffer === b.meta.buffer;
}

function sameView(a: TensorView, b: TensorView): boolean {
  return a.buffer === b.buffer && a.offset === b.offset && a.shape.join() === b.shape.join();
}

/** Whether a call has a tensor in the same buffer. */
function touches(call: KernelCall, { buffer }: TensorView): boolean {
  return Object.values(call).some(
    (value) => typeof value === 'object' && value !== null && 'buffer' in value && value.buffer === buffer,
  );
}

/** A view of the sums in a buffer of their own. */
export function squaresView(
  createBuffer: (label: string, bytes: number) => TensorView['buffer'],
  stream: TensorView,
): TensorView {
  const [sums, rows] = squaresShape(stream.shape);
  return tensor(createBuffer(`${stream.buffer.label}.squares`, sums * rows * 4), 'f32', [sums, rows]);
}
