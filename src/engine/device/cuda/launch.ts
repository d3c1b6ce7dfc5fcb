/**
 * What a kernel of the CUDA device brings: one pure function from a call and a target to launches, as plain data.
 * The addon only carries launches out; it has no code for single kernels.
 *
 * A launch names a source file and the macros it is specialised by. Source + macros + architecture is a module: built
 * ahead of time into the addon, found in the disk cache, or compiled by NVRTC when it is first needed (modules.ts).
 */
import type { DeviceTarget, DType, TensorView } from '../../device.ts';
import type { CallOf, KernelName } from '../../kernels/calls.ts';
import type { GemmPolicy } from './gemm/registry.ts';

/** Facts of an NVIDIA GPU that choosers look at, besides those of every device. */
export interface CudaTarget extends DeviceTarget {
  kind: 'cuda';
  cuda: {
    /** 90 = compute capability 9.0. */
    computeCapability: number;
    /** Which family of kernels runs: wgmma and TMA (9.0 only), or mma.sync (8.0 and up). */
    family: 'hopper' | 'portable';
    multiprocessors: number;
    /** Dynamic shared memory that one CTA may ask for, bytes. */
    sharedBytesPerCta: number;
    l2Bytes: number;
    /** Version of cuBLASLt, where it is installed. */
    cublasLt?: number;
    gemm?: GemmPolicy;
  };
}

/**
 * A tiled tensor map (cuTensorMapEncodeTiled) for TMA: element type of the view, innermost dimension first. What lies
 * outside of `sizes` reads as zero and is not written.
 */
export interface TensorMapSpec {
  view: TensorView;
  sizes: readonly number[]; // elements, innermost first; 2 to 5 dimensions
  /** Bytes from one element to the next in dimensions 1, 2, ...: multiples of 16. */
  strides: readonly number[];
  box: readonly number[]; // elements, at most 256 each; box[0] * element bytes <= swizzle
  swizzle: 0 | 32 | 64 | 128; // bytes
}

/** One parameter of the kernel, in order. */
export type CudaArgument =
  | { pointer: TensorView | undefined } // 8 bytes: address of the view, or null
  | { u32: number }
  | { f32: number }
  | { map: TensorMapSpec } // 128 bytes: const __grid_constant__ TensorMap
  /**
   * 8 bytes: address of this many bytes of working memory, shared by launches that run one after the other (never by
   * launches side by side). `counters` hold zeros when the kernel starts and must hold zeros when it ends; `scratch`
   * holds anything.
   */
  | { counters: number }
  | { scratch: number };

export interface CudaLaunch {
  /** native-cuda/kernels/<source>.cu; the entry point has the same name. */
  source: string;
  /** Short text of what was specialised, for logs: "bf16 128x256x64". */
  variant: string;
  /** Macros: `-DNAME=value`, booleans as 0 and 1. Everything the code depends on is in source + defines. */
  defines: Record<string, string | number | boolean>;
  args: readonly CudaArgument[];
  ctas: number; // x dimension only
  threads: number; // of a CTA
  cluster?: number; // CTAs of a cluster along x, divides ctas; default 1
  sharedBytes?: number; // dynamic shared memory; default 0
  /**
   * May start while the launch before it still runs (programmatic dependent launch): the kernel executes
   * griddepcontrol.wait before it touches anything that another launch writes or reads. All our kernels do; default true.
   */
  early?: boolean;
  /**
   * The kernel has a build that records its work items (macro PROFILE, native-cuda/kernels/lib/profile.cuh), with two
   * more parameters: see profileItems.ts. `records`: of a CTA, about as many as are needed.
   */
  profiles?: { records: number };
  /** Instead of a kernel: a product that cuBLASLt carries out (a backend of the GEMM registry), for `m` rows from 0. */
  product?: { a: TensorView; w: TensorView; out: TensorView; m: number; outColumn: number; add: boolean };
}

export interface CudaKernel<K extends KernelName> {
  /** One launch, or several in order when the kernel has stages. */
  launches(call: CallOf<K>, target: CudaTarget): CudaLaunch[];
  /**
   * Modules that are prebuilt for an architecture family: source, defines. Every combination that the model families
   * of the engine need in bf16 and f16; anything else is compiled on first use.
   */
  prebuilt(family: CudaTarget['cuda']['family'], also?: AotShapes): readonly CudaModule[];
}

/** Shapes that are prebuilt besides the usual ones (npm run cuda:aot); kernels take what concerns them. */
export interface AotShapes {
  headDims?: readonly number[];
  groups?: readonly number[]; // query heads for each KV head
  pageSizes?: readonly number[];
}

/** A kernel source and the macros it is specialised by. */
export type CudaModule = Pick<CudaLaunch, 'source' | 'defines'>;

export type CudaRegistry = { [K in KernelName]: CudaKernel<K> };

/** Values of the macros that name storage types (lib/types.cuh). */
export const TYPE_MACRO: Record<DType, string> = { f32: 'F32', f16: 'F16', bf16: 'BF16', u32: 'U32' };
