/**
 * Every kernel call there is: plain records that name a kernel, its tensors and its static parameters. They can be
 * printed, compared and run by any device. Sizes that change from step to step (T tokens, R logit rows, work items)
 * are not here: kernels read them from the metadata buffer (plan/stepMeta.ts).
 *
 * Shapes: T tokens of the dense batch (capacity B), R logit rows, H hidden, F intermediate, V vocabulary, Hq query
 * heads, Hkv KV heads, D head dimension, E experts, X experts per token, P pages, S page size.
 */
import type { DType, TensorView } from '../device.ts';
import type { StepMetaLayout } from '../plan/stepMeta.ts';

/** Which counter of the metadata gives the number of rows. */
export type RowCount = 'tokens' | 'logitRows';

interface CallBase {
  /** For people: "layers.3.qkv". */
  label: string;
  /** The step metadata. */
  meta: TensorView; // [layout.words] u32
  layout: StepMetaLayout;
  /** Workgroup budget; any value from 1 up gives the same result. Default: the kernel's own choice for the target. */
  workgroups?: number;
  /**
   * Slot of the metadata's `ranges` that says which rows this call works on (a nano-batch). Default 0: all of them.
   */
  range?: number;
  /**
   * Invocations of a workgroup that are wanted, for a call that shares a dispatch with others (they must agree).
   * Kernels that can, follow; the launch's WORKGROUP_SIZE says what it became.
   */
  invocations?: number;
  /**
   * Devices with several streams (cuda) run calls of one stream in order and streams side by side; `needs` names the
   * calls of other streams that must have ended (their `signal`). A program lists its calls in an order that is right
   * one after the other, and other devices run them so. Default 0.
   */
  stream?: number;
  /** SMs of the green context of stream 0, other streams having the rest (cuda). Default: streams divide nothing. */
  contextCores?: number;
  signal?: string;
  needs?: readonly string[];
  /**
   * Shares its cores with another call of the same joined one (Stage.colocated): the host leaves registers and memory of
   * each core free, the guest makes do with them. Devices without such variants ignore it.
   */
  residency?: 'host' | 'guest';
  /**
   * Most rows (tokens, or logit rows) that this program is for: default budgets follow it, so that a program for one
   * row starts no thousand workgroups that find nothing to do. Default: what the tensors hold.
   */
  maxRows?: number;
}

/** out[t] = table[tokenIds[t] - rowStart] for tokens whose id lies in [rowStart, rowStart + rows). Others untouched. */
export interface EmbedCall extends CallBase {
  kernel: 'embed';
  table: TensorView; // [rows, H] f32 | f16: one piece of the embedding table
  rowStart: number; // first token id of this piece
  sampled: TensorView; // [requests, SAMPLED_WORDS] u32 of the step before, for ids with FROM_SAMPLED
  out: TensorView; // [B, H] f32
}

/**
 * rows 'tokens': x[t] += residual[t] (when there is one); out[t] = x[t] / rms(x[t]) * weight.
 * rows 'logitRows': out[r] = norm(x[logitRows[r]] + residual[logitRows[r]]); x is not changed.
 */
export interface RmsNormCall extends CallBase {
  kernel: 'rms_norm';
  rows: RowCount;
  x: TensorView; // [B, H] f32, read and written when there is a residual and rows is 'tokens'
  residual?: TensorView; // [B, H] f32, or [parts, B, H]: their sum is added
  weight: TensorView; // [H] f32
  out: TensorView; // [B or requests, H] f32 | f16
  epsilon: number;
}

/**
 * out[m, outColumn + n] = sum_k a[m, k] * w[n, k] + bias[n], m < rows.
 * epilogue 'silu_mul': w is [2F, K] (gate rows, then up rows), out[m, f] = silu(a.w[f]) * (a.w[F + f]); no bias.
 */
export interface GemmCall extends CallBase {
  kernel: 'gemm';
  rows: RowCount;
  /** Most rows that this program is for: the chooser picks the variant from it. */
  maxRows: number;
  a: TensorView; // [capacity, K] f32 | f16
  w: TensorView; // [N, K] f32 | f16
  bias?: TensorView; // [N] f32
  /**
   * More than 1: K is cut into this many ranges, and out is [parts, capacity, ldc], one product for each; whoever reads
   * it adds them up (RmsNormCall.residual). So few rows still give work to every core, and tiles stay large. For
   * subgroup matrices only, without bias and epilogue. Default 1.
   */
  parts?: number;
  out: TensorView; // [capacity, ldc] f32 | f16
  outColumn: number; // 0 unless the weight is one piece of a larger tensor
  epilogue: 'none' | 'silu_mul';
  /** Adds to what stands in `out` (f32; the residual stream) instead of replacing it. Devices of kind cuda and cpu only. */
  add?: boolean;
  /** Which backend of the registry carries it out (device/cuda/gemm/registry.ts); default: the best that can. */
  backend?: string;
  /**
   * [1] u32, zero when the call starts: tiles are drawn from this counter instead of dealt out, so the time is linear
   * in the workgroups whatever else runs on their cores. Only subgroup matrices use it; twins do not touch it.
   */
  tickets?: TensorView;
}

/**
 * Per-head q/k RMSNorm (when weights are given), rotary embedding (half-split pairs: i and i + D/2, as Hugging Face
 * checkpoints store them), q to its own buffer, k and v appended to the KV pages at kvSlots[t].
 */
export interface RopeAppendCall extends CallBase {
  kernel: 'rope_append';
  qkv: TensorView; // [B, (Hq + 2 Hkv) * D] f32 | f16
  qNorm?: TensorView; // [D] f32
  kNorm?: TensorView; // [D] f32
  epsilon: number;
  table: TensorView; // [positions, D/2, 2] f32: cos, sin of each position (attention factor included)
  q: TensorView; // [B, Hq, D] f32 | f16
  kCache: TensorView; // [P, Hkv, S, D] f32 | f16
  vCache: TensorView; // same
  heads: number;
  kvHeads: number;
  headDim: number; // even
  pageSize: number;
}

/**
 * Paged attention over the work items of one tile size (plan/attention.ts). Causal: query token i of a request with
 * qLen, kvLen sees KV positions <= kvLen - qLen + i, and, with a sliding window W, > kvLen - qLen + i - W.
 * An item writes `out` itself when its tile is not split, else the partial result and its base-2 log-sum-exp.
 */
export interface AttentionCall extends CallBase {
  kernel: 'attention';
  /** Which of the metadata's attention plans (layout.attention) this call carries out. Default 0. */
  slot?: number;
  tile: 16 | 128;
  /** Both tile sizes of the plan (made with together: true), whatever `tile` says. cuda only. */
  both?: boolean;
  /** Split tiles are merged by the call itself, so that no MergeCall follows. cuda only. */
  merged?: boolean;
  q: TensorView; // [B, Hq, D] f32 | f16
  kCache: TensorView; // [P, Hkv, S, D] f32 | f16
  vCache: TensorView;
  out: TensorView; // [B, Hq, D] f32 | f16
  partialOut: TensorView; // [partialRows, D] f32
  partialLse: TensorView; // [partialRows] f32, -inf-like (<= -1e30) for an empty range
  heads: number;
  kvHeads: number;
  headDim: number;
  pageSize: number;
  scale: number; // usually 1 / sqrt(D)
  slidingWindow?: number;
}

/** Combines the partial rows of split tiles: out = sum 2^(lse_i - max) o_i / sum 2^(lse_i - max). */
export interface MergeCall extends CallBase {
  kernel: 'merge';
  slot?: number; // as in AttentionCall
  partialOut: TensorView; // [partialRows, D] f32
  partialLse: TensorView; // [partialRows] f32
  out: TensorView; // [B, Hq, D] f32 | f16
  headDim: number;
}

/**
 * out[t, f] = silu(gateUp[t, f]) * gateUp[t, F + f]. For MoE the rows are the T * rowsPerToken slots of the grouped
 * GEMM: of a range [s, e) of tokens they are `compact`, rows 0 to (e - s) * rowsPerToken, as route numbers them.
 */
export interface SiluMulCall extends CallBase {
  kernel: 'silu_mul';
  gateUp: TensorView; // [rows, 2F] f32 | f16
  out: TensorView; // [rows, F] f32 | f16
  rowsPerToken: number; // 1, or X after a grouped GEMM
  compact?: boolean; // rows count from 0 within the range; default: when rowsPerToken > 1 (a model with X = 1 says so)
}

/**
 * Softmax over E router logits, top X experts (ties: lower index first), weights renormalised when asked, and the
 * (token, choice) slots sorted by expert, in token order within an expert. With a range [s, e) of tokens the sorted
 * slots count from 0 to (e - s) * X, while slotSource keeps token * X + choice of the whole batch; so groups of rows that
 * are routed side by side need slotSource, expertStart and the tensors of slots each for itself.
 */
export interface RouteCall extends CallBase {
  kernel: 'route';
  logits: TensorView; // [B, E] f32
  topK: number; // X
  normalize: boolean;
  weights: TensorView; // [B, X] f32
  choices: TensorView; // [B, X] u32: the chosen experts, most likely first
  /** slot s (0 <= s < T*X, sorted by expert) belongs to (token, choice) slotSource[s] = token * X + choice. */
  slotSource: TensorView; // [B * X] u32
  expertStart: TensorView; // [E + 1] u32: first slot of each expert
}

/**
 * Grouped GEMM over the slots that expertStart lists (of route's range): for slot s of expert e: out[o, n] = sum_k a[i, k] * w[e, n, k] with
 * gather 'token': i = slotSource[s] / X, o = s;  gather 'slot': i = s, o = slotSource[s] (back to token order).
 */
export interface MoeGemmCall extends CallBase {
  kernel: 'moe_gemm';
  maxRows: number; // most slots this program is for
  gather: 'token' | 'slot';
  topK: number;
  a: TensorView; // [B or B * X, K] f32 | f16
  w: TensorView; // [experts, N, K] f32 | f16: one piece of the experts
  expertFirst: number; // first expert of this piece; slots of other experts are left untouched
  slotSource: TensorView;
  expertStart: TensorView;
  out: TensorView; // [B * X, N] f32 | f16
}

/** out[t] = sum_x weights[t, x] * y[t * X + x]. */
export interface MoeCombineCall extends CallBase {
  kernel: 'moe_combine';
  topK: number;
  y: TensorView; // [B * X, H] f32
  weights: TensorView; // [B, X] f32
  out: TensorView; // [B, H] f32
}

/** One token for each logit row from its SAMPLE parameters; see plan/stepMeta.ts for the order of operations. */
export interface SampleCall extends CallBase {
  kernel: 'sample';
  logits: TensorView; // [requests, V] f32, changed in place by adjustments
  sampled: TensorView; // [requests, SAMPLED_WORDS] u32
  /** Room for partial results of the rows' chunks; sampleScratchBytes() gives its size. */
  scratch: TensorView;
}

/** out = 0. Kernels that count (tickets) start from it. */
export interface ClearCall extends CallBase {
  kernel: 'clear';
  out: TensorView; // u32
}

export type KernelCall =
  | ClearCall
  | EmbedCall
  | RmsNormCall
  | GemmCall
  | RopeAppendCall
  | AttentionCall
  | MergeCall
  | SiluMulCall
  | RouteCall
  | MoeGemmCall
  | MoeCombineCall
  | SampleCall;

/**
 * Calls that run side by side in one dispatch, each on its own range of workgroups (`workgroups` of each part). They
 * are independent: none reads what another writes. A device that cannot join them runs them one after the other.
 */
export interface JoinedCall {
  kernel: 'joined';
  label: string;
  parts: readonly KernelCall[];
  /** Parts one after the other in the order of workgroups (default), or each spread evenly over all of them. */
  layout?: 'blocks' | 'spread';
}

/** What a program is made of. */
export type ProgramCall = KernelCall | JoinedCall;

/** The calls of a program with joined ones taken apart, in an order that gives the same results. */
export function flatCalls(calls: readonly ProgramCall[]): KernelCall[] {
  return calls.flatMap((call) => (call.kernel === 'joined' ? call.parts : [call]));
}

export type KernelName = KernelCall['kernel'];
export type CallOf<K extends KernelName> = Extract<KernelCall, { kernel: K }>;

export type { DType };
