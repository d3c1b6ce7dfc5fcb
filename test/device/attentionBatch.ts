/** Random batches for attention tests: page tables over a shared pool, KV slots outside every request poisoned. */
import { planAttention, attentionCapacity } from '../../src/engine/plan/attention.ts';
import type { AttentionPlan, AttentionRequest, TileRows } from '../../src/engine/plan/attention.ts';
import type { StepMetaCapacity, StepMetaLayout } from '../../src/engine/plan/stepMeta.ts';
import { filled, poisoned, random, seededRandom } from './harness.ts';
import type { TensorSpec } from './harness.ts';

export interface BatchOptions {
  /** [qLen, kvLen] of each request. */
  lengths: readonly (readonly [number, number])[];
  heads: number;
  kvHeads: number;
  headDim: number;
  pageSize: number;
  slidingWindow?: number;
  /** Workgroups of the plan; the dispatch may have any other number. */
  planned: number;
  tiles?: readonly TileRows[];
  /** Token rows at which the batch is cut into nano-batches, each with an attention plan (slot) of its own. */
  cuts?: readonly number[];
  q?: 'f32' | 'f16';
  kv?: 'f32' | 'f16';
  out?: 'f32' | 'f16';
  seed?: number;
}

export interface Batch {
  options: BatchOptions;
  requests: AttentionRequest[];
  pageTable: number[];
  tensors: Record<'q' | 'kCache' | 'vCache' | 'out' | 'partialOut' | 'partialLse', TensorSpec>;
  capacity: Partial<StepMetaCapacity>;
  /** Nano-batches: token rows [start, end). */
  parts: [start: number, end: number][];
  /** Writes page table and plans, one for each nano-batch; they share the partial rows of one plan. */
  fillMeta(words: Uint32Array, layout: StepMetaLayout): AttentionPlan[];
  scale: number;
}

export function makeBatch(options: BatchOptions): Batch {
  const { lengths, heads, kvHeads, headDim, pageSize, planned, tiles } = options;
  const next = seededRandom(options.seed ?? 1);
  let tokens = 0;
  let pages = 0;
  const requests = lengths.map(([qLen, kvLen]) => {
    const request = { qStart: tokens, qLen, kvLen, pageStart: pages };
    tokens += qLen;
    pages += Math.ceil(kvLen / pageSize);
    return request;
  });
  // A pool a little larger than needed, handed out in random order.
  const pool = Array.from({ length: pages + 3 }, (_, page) => page);
  for (let i = pool.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [pool[i], pool[j]] = [pool[j], pool[i]];
  }
  const pageTable = pool.slice(0, pages);
  const used = new Set<number>();
  for (const { kvLen, pageStart } of requests) {
    for (let token = 0; token < kvLen; token++) {
      used.add(pageTable[pageStart + Math.floor(token / pageSize)] * pageSize + (token % pageSize));
    }
  }
  const kvValue = (index: number, draw: () => number): number => {
    const row = Math.floor(index / headDim);
    const slot = row % pageSize;
    const page = Math.floor(row / pageSize / kvHeads);
    const value = draw() * 2 - 1;
    return used.has(page * pageSize + slot) ? value : NaN;
  };
  const limits = { tokens, requests: requests.length, heads, kvHeads, workgroups: planned, tiles };
  const { partialRows, ...capacity } = attentionCapacity(limits);
  const kvShape = [pool.length, kvHeads, pageSize, headDim];
  const rows = Math.max(partialRows, 1);
  const borders = [0, ...(options.cuts ?? []), tokens];
  const parts = borders.slice(1).map((end, i): [number, number] => [borders[i], end]);
  return {
    options,
    requests,
    pageTable,
    tensors: {
      q: random(options.q ?? 'f32', [Math.max(tokens, 1), heads, headDim], 2),
      kCache: filled(options.kv ?? 'f32', kvShape, kvValue),
      vCache: filled(options.kv ?? 'f32', kvShape, kvValue),
      out: poisoned(options.out ?? 'f32', [Math.max(tokens, 1), heads, headDim]),
      partialOut: poisoned('f32', [rows, headDim]),
      partialLse: poisoned('f32', [rows]),
    },
    capacity: {
      ...capacity,
      tokens: Math.max(tokens, 1),
      requests: Math.max(requests.length, 1),
      pages: pages + 1,
      attentionWorkgroups: planned,
      attentionSlots: parts.length,
    },
    parts,
    fillMeta(words, layout) {
      words.set(pageTable, layout.pages);
      const input = { requests, heads, kvHeads, headDim, pageSize, workgroups: planned, tiles };
      let partialBase = 0;
      return parts.map((part, slot) => {
        const plan = planAttention(
          {
            ...input,
            slidingWindow: options.slidingWindow,
            rows: part,
            partialBase,
            partialCapacity: partialRows - partialBase,
          },
          layout.attention[slot],
          words,
        );
        partialBase += plan.partialRows;
        return plan;
      });
    },
    scale: 1 / Math.sqrt(headDim),
  };
}
