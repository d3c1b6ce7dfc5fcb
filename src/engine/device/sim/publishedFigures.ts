/** Published figures of NanoFlow (OSDI '25; README of its repository), A100 80GB; tokens/s/GPU where not said otherwise. */
import type { OperationName } from '../../model/graph.ts';

/** Prompt and answer lengths of a workload. */
export type Column = '512-0' | '512-512' | '1024-512' | '512-1024';

export const FIGURES = {
  /** Table 2, "real" milliseconds of an iteration: LLaMA-2-70B, B = 2048, 8 GPUs, 512 in, 1024 out. */
  operations: {
    KQV: { milliseconds: 16.08, operations: ['kqv'] },
    O: { milliseconds: 16.01, operations: ['o'] },
    UG: { milliseconds: 69.92, operations: ['up_gate'] },
    D: { milliseconds: 34.96, operations: ['down'] },
    DecAttn: { milliseconds: 35.6, operations: ['decode_attention'] },
    PfAttn: { milliseconds: 4.56, operations: ['prefill_attention'] },
    Net: { milliseconds: 47.92, operations: ['attention_gather', 'o_gather', 'down_reduce'] },
  } satisfies Record<string, { milliseconds: number; operations: OperationName[] }>,
  /** Text: the most that the matrix products allow. 1857 = 260 TFLOP/s / (2 x 70e9). */
  optimum: 1857,
  /**
   * README, offline throughput. Its 512-512 (1286) is not the ablation's NanoFlow (1323) but, like the other two
   * columns, the ablation's "+ offload" (1290, 1259, 1244), so that is what it is compared with.
   */
  offline: { '512-512': 1286, '1024-512': 1263, '512-1024': 1212 },
  /** Section 6.4. */
  ablation: {
    'non-overlap': { '512-0': 1273, '512-512': 1106, '1024-512': 1092, '512-1024': 1048 },
    'nano-batch only': { '512-0': 1171, '512-512': 982, '1024-512': 958, '512-1024': 952 },
    NanoFlow: { '512-0': 1446, '512-512': 1323, '1024-512': 1291, '512-1024': 1277 },
    'NanoFlow + offload': { '512-0': 1402, '512-512': 1290, '1024-512': 1259, '512-1024': 1244 },
  },
  /** Llama-3-8B on one GPU, 1024 in, 512 out. */
  llama3: 12756,
} as const satisfies {
  ablation: Record<string, Record<Column, number>>;
  [name: string]: unknown;
};
