/**
 * sample on CUDA: one token for each logit row, in stages over (row, chunk of the vocabulary) and over rows. Rows that
 * are greedy or drawn without thresholds are decided in the first stage, which reads the logits once. For rows with
 * top-k, top-p or min-p a second stage lists what can be left, and the last one draws from the list.
 */
import { elementCount } from '../../../device.ts';
import { budgetRows } from '../../../kernels/elementwise.ts';
import { sampleScratchBytes } from '../../../kernels/sample.ts';
import { COUNT } from '../../../plan/stepMeta.ts';
import type { CudaKernel } from '../launch.ts';
import { ctasFor } from './vector.ts';

/** As in sample_chunk.cu and lib/sampling.cuh. */
const CHUNK_THREADS = 256;
const CHUNK = 4096;
const PARTIAL_WORDS = 8;
const TOP_WORDS = 40;
const ROW_THREADS = 512;
/** What a chunk tells of its largest logits and of its masses, and candidates of a row, for rows with thresholds. */
const CHUNK_BOUNDS = 8 + 12;
const MOST_CANDIDATES = 512;

/** Candidates of a row that fit into what the chunks leave of the scratch; without any, rows are read again. */
export function candidateCapacity(scratchWordsOfRow: number, chunks: number): number {
  const words = scratchWordsOfRow - chunks * (PARTIAL_WORDS + TOP_WORDS) - 1 - chunks * CHUNK_BOUNDS;
  return Math.max(0, Math.min(MOST_CANDIDATES, Math.floor(words / 2)));
}

export const sample: CudaKernel<'sample'> = {
  launches(call, target) {
    const [rows, vocab] = call.logits.shape;
    const adjustments = call.layout.capacity.adjustments;
    const needed = sampleScratchBytes(rows, vocab, adjustments);
    const scratchBytes = 4 * elementCount(call.scratch.shape);
    if (scratchBytes < needed) {
      throw new Error(
        `call "${call.label}": got ${scratchBytes} bytes of scratch, expected ${needed}; take sampleScratchBytes(${rows}, ${vocab}, ${adjustments})`,
      );
    }
    const chunks = Math.ceil(vocab / CHUNK);
    const top = rows * chunks * PARTIAL_WORDS;
    const saved = top + rows * chunks * TOP_WORDS;
    const candidatesAt = saved + adjustments;
    const candidates = candidateCapacity((needed / 4 - adjustments) / rows, chunks);
    const { sampling, adjust } = call.layout;
    const defines = { VECTOR: vocab % 4 === 0 };
    const launched = budgetRows(call, rows);
    const variant = defines.VECTOR ? 'vector' : '';
    const tensors = [{ pointer: call.meta }, { pointer: call.logits }, { pointer: call.scratch }];
    return [
      {
        source: 'sample_chunk',
        variant,
        defines,
        args: [
          ...tensors,
          ...[vocab, chunks, rows, sampling, adjust, top, saved].map((u32) => ({ u32 })),
          ...[COUNT.logitRows, candidatesAt, candidates].map((u32) => ({ u32 })),
        ],
        ctas: ctasFor(call, target, launched * chunks, 1, 4),
        threads: CHUNK_THREADS,
      },
      ...(candidates === 0
        ? []
        : [
            {
              source: 'sample_gather',
              variant,
              defines,
              args: [
                ...tensors,
                ...[vocab, chunks, rows, sampling, COUNT.logitRows, candidatesAt, candidates].map((u32) => ({
                  u32,
                })),
              ],
              ctas: ctasFor(call, target, launched * chunks, 1, 4),
              threads: CHUNK_THREADS,
            },
          ]),
      {
        source: 'sample_row',
        variant,
        defines,
        args: [
          ...tensors,
          { pointer: call.sampled },
          ...[vocab, chunks, CHUNK, rows, sampling, adjust, top, saved].map((u32) => ({ u32 })),
          ...[COUNT.logitRows, candidatesAt, candidates].map((u32) => ({ u32 })),
        ],
        ctas: ctasFor(call, target, launched, 1, 2),
        threads: ROW_THREADS,
      },
    ];
  },
  prebuilt: () =>
    ['sample_chunk', 'sample_gather', 'sample_row'].flatMap((source) =>
      [false, true].map((vector) => ({ source, defines: { VECTOR: vector } })),
    ),
};
