/**
 * How long a nano-operation takes alone on the whole GPU: a roofline of arithmetic, memory and link, with tiles and
 * waves for matrix products and a fixed start for every kernel. Seconds.
 */
import type { Operation, Work } from '../../model/graph.ts';
import type { Gpu, Tile } from './gpus.ts';

/** Rows of `work` that an operation works on. */
export function rowsOf(operation: Operation, work: Work): number {
  if (operation.rows === 'decode') return work.decodeTokens;
  if (operation.rows === 'prefill') return work.tokens - work.decodeTokens;
  return operation.rows === 'samples' ? work.samples : work.tokens;
}

/** Seconds of an operation over `work`; 0 when there are no rows. */
export function operationSeconds(gpu: Gpu, operation: Operation, work: Work): number {
  if (rowsOf(operation, work) <= 0) return 0;
  const { flops, bytes, linkBytes } = operation.cost(work);
  const memory = bytes / (gpu.memoryBandwidth * gpu.memoryFraction);
  let arithmetic: number;
  let start = gpu.launchSeconds;
  if (operation.gemm) {
    const { n, k, count = 1 } = operation.gemm;
    arithmetic = gemmSeconds(gpu, flops / (2 * n * k), n, k, count);
  } else if (operation.name === 'decode_attention' || operation.name === 'prefill_attention') {
    arithmetic = flops / (gpu.peakFlops * gpu.attentionFraction);
    start = gpu.attentionSeconds;
  } else {
    arithmetic = 0; // a few FLOP for each byte: memory is slower on every GPU
  }
  if (linkBytes === 0) return start + Math.max(arithmetic, memory);
  const link = linkBytes / (gpu.linkBandwidth * gpu.linkFraction);
  return gpu.linkSeconds + Math.max(arithmetic, memory, link);
}

/**
 * Seconds of the arithmetic of `count` products (experts) that share `rows` rows evenly: the best tile and split of K.
 * Whole waves: the last one takes as long as a full one. The partial sums of a split K are written and read in f32.
 */
export function gemmSeconds(gpu: Gpu, rows: number, n: number, k: number, count = 1): number {
  const products = Math.min(count, rows);
  let best = Infinity;
  for (const tile of gpu.tiles) {
    if (tile.skinny && rows / products > tile.m) continue;
    for (let split = 1; split <= gpu.maxSplitK; split++) {
      const tiles = products * Math.ceil(rows / products / tile.m) * Math.ceil(n / tile.n) * split;
      let seconds = Math.ceil(tiles / gpu.sms) * tileSeconds(gpu, tile, k / split);
      if (split > 1) {
        seconds += gpu.launchSeconds + (8 * split * rows * n) / (gpu.memoryBandwidth * gpu.memoryFraction);
      }
      if (seconds < best) best = seconds;
    }
  }
  return best;
}

function tileSeconds(gpu: Gpu, tile: Tile, k: number): number {
  return (2 * tile.m * tile.n * k * gpu.sms) / (gpu.peakFlops * gpu.gemmFraction * tile.efficiency);
}
