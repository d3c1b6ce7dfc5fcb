/**
 * Paged attention: decode batches, a single stream and prefill, with random queries and KV, pages in random order.
 * The first case copies memory (the embed kernel with token t in row t): attention that is bound by memory is judged
 * by its share of those GB/s.
 */
import type { Device } from '../../src/engine/device.ts';
import { tensorBytes } from '../../src/engine/device.ts';
import type { KernelCall } from '../../src/engine/kernels/calls.ts';
import { attentionCapacity, planAttention, type TileRows } from '../../src/engine/plan/attention.ts';
import { SAMPLED_WORDS, stepMetaLayout, writeCounts } from '../../src/engine/plan/stepMeta.ts';
import { Buffers } from './buffers.ts';
import type { CaseGroup } from './index.ts';

export interface AttentionBenchShape {
  requests: number;
  qLen: number;
  kvLen: number; // this step's tokens included
  heads: number;
  kvHeads: number;
  headDim: number;
  dtype: 'f32' | 'f16'; // q, KV and out
  pageSize?: number; // 16
  workgroups?: number; // the device's default
  tiles?: readonly TileRows[];
  sequential?: boolean; // pages in order instead of random
  seed?: number; // the same data each time
}

const EMBEDDED = { heads: 8, kvHeads: 4, headDim: 32 };
const LLAMA_1B = { heads: 32, kvHeads: 8, headDim: 64 };
const LLAMA_8B = { heads: 32, kvHeads: 8, headDim: 128 };

export function* groups(device: Device): Generator<CaseGroup> {
  const { software, kind } = device.target;
  if (kind === 'cpu' || software) {
    yield attentionCase(device, { requests: 1, qLen: 1, kvLen: 200, ...EMBEDDED, dtype: 'f32' });
    yield attentionCase(device, { requests: 16, qLen: 1, kvLen: 200, ...EMBEDDED, dtype: 'f32' });
    yield attentionCase(device, { requests: 1, qLen: 256, kvLen: 256, ...EMBEDDED, dtype: 'f32' });
    return;
  }
  yield copyCase(device, 512);
  yield attentionCase(device, { requests: 64, qLen: 1, kvLen: 2048, ...LLAMA_8B, dtype: 'f16' });
  yield attentionCase(device, { requests: 1, qLen: 1, kvLen: 2048, ...LLAMA_1B, dtype: 'f16' });
  yield attentionCase(device, { requests: 1, qLen: 1, kvLen: 32768, ...LLAMA_8B, dtype: 'f16' });
  yield attentionCase(device, { requests: 1, qLen: 2048, kvLen: 2048, ...LLAMA_8B, dtype: 'f16' });
}

/** One attention step as the engine would launch it, and its merge where the plan splits tiles. */
export function attentionCase(device: Device, shape: AttentionBenchShape): CaseGroup {
  const { requests, qLen, kvLen, heads, kvHeads, headDim, dtype, pageSize = 16, tiles } = shape;
  const workgroups = shape.workgroups ?? device.target.defaultWorkgroups;
  const tokens = requests * qLen;
  const pagesEach = Math.ceil(kvLen / pageSize);
  const pages = requests * pagesEach;
  const { partialRows, ...capacity } = attentionCapacity({
    tokens,
    requests,
    heads,
    kvHeads,
    workgroups,
    tiles,
  });
  const layout = stepMetaLayout({
    ...capacity,
    tokens,
    requests,
    pages,
    attentionWorkgroups: workgroups,
    adjustments: 1,
  });
  const words = new Uint32Array(layout.words);
  for (let page = 0; page < pages; page++) words[layout.pages + page] = page;
  for (let i = shape.sequential ? 0 : pages - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    const page = words[layout.pages + i];
    words[layout.pages + i] = words[layout.pages + j];
    words[layout.pages + j] = page;
  }
  const list = Array.from({ length: requests }, (_, i) => ({
    qStart: i * qLen,
    qLen,
    kvLen,
    pageStart: i * pagesEach,
  }));
  const plan = planAttention(
    { requests: list, heads, kvHeads, headDim, pageSize, workgroups, tiles },
    layout.attention[0],
    words,
  );

  const buffers = new Buffers(device, shape.seed);
  const meta = buffers.make('meta', 'u32', [layout.words]);
  device.write(meta.buffer, 0, words);
  const q = buffers.random('q', dtype, [tokens, heads, headDim]);
  const kCache = buffers.random('k', dtype, [pages, kvHeads, pageSize, headDim]);
  const vCache = buffers.random('v', dtype, [pages, kvHeads, pageSize, headDim]);
  const out = buffers.make('out', dtype, [tokens, heads, headDim]);
  const partialOut = buffers.make('partialOut', 'f32', [Math.max(partialRows, 1), headDim]);
  const partialLse = buffers.make('partialLse', 'f32', [Math.max(partialRows, 1)]);
  const base = { label: 'bench', meta, layout };
  const tensors = { q, kCache, vCache, out, partialOut, partialLse };
  const sizes = { heads, kvHeads, headDim, pageSize, scale: 1 / Math.sqrt(headDim) };
  const calls: KernelCall[] = [];
  for (const tile of [16, 128] as const) {
    if ((tile === 16 ? plan.items16 : plan.items128) === 0) continue;
    calls.push({ ...base, kernel: 'attention', tile, ...tensors, ...sizes, workgroups });
  }
  if (plan.mergeRows > 0) calls.push({ ...base, kernel: 'merge', partialOut, partialLse, out, headDim });

  const seen = qLen * kvLen - (qLen * (qLen - 1)) / 2; // (query, KV token) pairs of one request and head
  return {
    cases: [
      {
        name: `attention ${requests} x ${qLen} of ${kvLen}, ${heads}/${kvHeads} x ${headDim} ${dtype}`,
        calls,
        bytes: 2 * requests * tensorBytes(dtype, [kvLen, kvHeads, headDim]) + 2 * tensorBytes(dtype, q.shape),
        flops: 4 * requests * seen * heads * headDim,
      },
    ],
    free: () => buffers.free(),
  };
}

/** Reads and writes `mebibytes` once each. */
export function copyCase(device: Device, mebibytes: number): CaseGroup {
  const hidden = 2048;
  const tokens = (mebibytes * 2 ** 20) / (hidden * 4);
  const layout = stepMetaLayout({
    tokens,
    requests: 1,
    pages: 1,
    items16: 1,
    items128: 1,
    mergeRows: 1,
    attentionWorkgroups: 1,
    adjustments: 1,
  });
  const words = new Uint32Array(layout.words);
  writeCounts(layout, words, tokens, 0);
  for (let token = 0; token < tokens; token++) words[layout.tokenIds + token] = token;
  const buffers = new Buffers(device);
  const meta = buffers.make('meta', 'u32', [layout.words]);
  device.write(meta.buffer, 0, words);
  const table = buffers.random('table', 'f32', [tokens, hidden]);
  const sampled = buffers.make('sampled', 'u32', [1, SAMPLED_WORDS]);
  const out = buffers.make('copy', 'f32', [tokens, hidden]);
  const call = { label: 'bench', meta, layout, kernel: 'embed' as const, table, rowStart: 0, sampled, out };
  const bytes = 2 * tensorBytes('f32', out.shape);
  return { cases: [{ name: `copy ${mebibytes} MiB`, calls: [call], bytes }], free: () => buffers.free() };
}
