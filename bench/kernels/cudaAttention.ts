/**
 * `nanoflow bench attention-peers`: attention of the cuda device on Llama-3-8B's heads. Decode against the bandwidth that
 * a plain read reaches in the same run, with all SMs, with 32, and as a guest; causal prefill; a mixed batch in one
 * launch against our own two. PyTorch's kernels on the same GPU: bench/peers/pytorch.py.
 */
import type { CudaDevice } from '../../src/engine/device/cuda/cudaDevice.ts';
import { Random } from '../../src/engine/device/sim/random.ts';
import type { AttentionCall, KernelCall } from '../../src/engine/kernels/calls.ts';
import { attentionCapacity, planAttention } from '../../src/engine/plan/attention.ts';
import { stepMetaLayout, writeCounts } from '../../src/engine/plan/stepMeta.ts';
import { Buffers } from './buffers.ts';
import { bandwidth, openCuda, race } from './cudaSetup.ts';

const HEADS = { heads: 32, kvHeads: 8, headDim: 128 };
const PAGE = 16;

export interface AttentionRequest {
  qLen: number;
  kvLen: number;
}

interface Way {
  name: string;
  /** CTAs of the plan and of the launch; default one for each SM. */
  ctas?: number;
  /** The calls, from one with both tile sizes and the merge inside. */
  calls: (call: AttentionCall) => KernelCall[];
}

interface AttentionRow {
  batch: string;
  way: string;
  microseconds: number;
  gigabytesPerSecond?: number;
  ofRead?: number;
  teraflops?: number;
}

const fused: Way = { name: 'one launch', calls: (call) => [{ ...call, tile: 16, both: false }] };

export async function runAttentionPeers({ print }: { print: (line: string) => void }) {
  const device = await openCuda();
  const { read } = await bandwidth(device);
  print(`${device.target.name}: read ${read.toFixed(0)} GB/s`);
  const random = new Random(3);
  const decode = (count: number, low: number, high: number): AttentionRequest[] =>
    Array.from({ length: count }, () => ({ qLen: 1, kvLen: low + random.below(high - low + 1) }));
  const prompts = (count: number, length: number): AttentionRequest[] =>
    Array.from({ length: count }, () => ({ qLen: length, kvLen: length }));
  const rows: AttentionRow[] = [];
  const measure = async (
    batch: string,
    requests: AttentionRequest[],
    ways: readonly Way[],
  ): Promise<void> => {
    for (const row of await timeBatch(device, batch, requests, ways, read)) {
      rows.push(row);
      print(format(row));
    }
  };
  const sms = device.target.cuda.multiprocessors;
  await measure('decode 256 x 1024-2048', decode(256, 1024, 2048), [
    fused,
    { ...fused, name: '32 CTAs', ctas: 32 },
    { ...fused, name: '24 CTAs', ctas: 24 },
    { name: 'guest', ctas: sms, calls: (call) => [{ ...call, tile: 16, both: false, residency: 'guest' }] },
  ]);
  await measure('decode 1 x 2048', decode(1, 2048, 2048), [fused]);
  await measure('decode 8 x 2048', decode(8, 2048, 2048), [fused]);
  const prefill: Way = { name: 'one launch', calls: (call) => [{ ...call, tile: 128, both: false }] };
  await measure('prefill 1 x 4096', prompts(1, 4096), [prefill]);
  await measure('prefill 4 x 4096', prompts(4, 4096), [prefill]);
  await measure('prefill 8 x 1024', prompts(8, 1024), [prefill]);
  await measure(
    '2 x 2048 prompts + 128 decode at 2048',
    [...prompts(2, 2048), ...decode(128, 2048, 2048)],
    [
      { name: 'one launch', calls: (call) => [call] },
      {
        name: 'two launches',
        calls: (call) => [
          { ...call, both: false, tile: 128 },
          { ...call, both: false, tile: 16 },
        ],
      },
    ],
  );
  device.destroy();
  return { device: { kind: 'cuda', name: device.target.name }, read, rows };
}

/** KV bytes that decoding requests read, and FLOP of causal prefill. */
function workOf(requests: readonly AttentionRequest[]): { bytes: number; flops: number } {
  const { heads, kvHeads, headDim } = HEADS;
  let bytes = 0;
  let flops = 0;
  for (const { qLen, kvLen } of requests) {
    if (qLen === 1) bytes += 2 * kvLen * kvHeads * headDim * 2;
    else flops += 2 * 2 * heads * headDim * (qLen * (kvLen - qLen) + (qLen * (qLen + 1)) / 2);
  }
  return { bytes, flops };
}

async function timeBatch(
  device: CudaDevice,
  batch: string,
  requests: readonly AttentionRequest[],
  ways: readonly Way[],
  read: number,
): Promise<AttentionRow[]> {
  const { bytes, flops } = workOf(requests);
  const buffers = new Buffers(device, 11);
  const contestants = [];
  for (const { name, ctas = device.target.cuda.multiprocessors, calls } of ways) {
    const call = attentionCall(device, buffers, requests, ctas);
    contestants.push({ name, program: await device.compile(name, calls(call)), times: 1 });
  }
  const times = await race(device, contestants, { warmUpMs: 200 });
  for (const { program } of contestants) program.destroy();
  buffers.free();
  return ways.map(({ name }, i) => {
    const microseconds = times[i];
    const gigabytesPerSecond = bytes > 0 && flops === 0 ? bytes / microseconds / 1e3 : undefined;
    return {
      batch,
      way: name,
      microseconds,
      gigabytesPerSecond,
      ofRead: gigabytesPerSecond && gigabytesPerSecond / read,
      teraflops: flops > 0 && bytes === 0 ? flops / microseconds / 1e6 : undefined,
    };
  });
}

/** A call over random queries and KV, pages in random order, with its plan in a metadata buffer of its own. */
export function attentionCall(
  device: CudaDevice,
  buffers: Buffers,
  requests: readonly AttentionRequest[],
  ctas: number,
): AttentionCall {
  const { heads, kvHeads, headDim } = HEADS;
  const tokens = requests.reduce((sum, { qLen }) => sum + qLen, 0);
  const pages = requests.reduce((sum, { kvLen }) => sum + Math.ceil(kvLen / PAGE), 0);
  const { partialRows, ...capacity } = attentionCapacity({
    tokens,
    requests: requests.length,
    heads,
    kvHeads,
    workgroups: ctas,
  });
  const layout = stepMetaLayout({
    ...capacity,
    tokens,
    requests: requests.length,
    pages,
    attentionWorkgroups: ctas,
    adjustments: 1,
  });
  const words = new Uint32Array(layout.words);
  const random = new Random(pages);
  for (let page = 0; page < pages; page++) words[layout.pages + page] = page;
  for (let i = pages - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [words[layout.pages + i], words[layout.pages + j]] = [words[layout.pages + j], words[layout.pages + i]];
  }
  let qStart = 0;
  let pageStart = 0;
  const list = requests.map(({ qLen, kvLen }) => {
    const made = { qStart, qLen, kvLen, pageStart };
    qStart += qLen;
    pageStart += Math.ceil(kvLen / PAGE);
    return made;
  });
  writeCounts(layout, words, tokens, 0);
  planAttention({ requests: list, ...HEADS, pageSize: PAGE, workgroups: ctas }, layout.attention[0], words);
  const meta = buffers.make('meta', 'u32', [layout.words]);
  device.write(meta.buffer, 0, words);
  const kv = [pages, kvHeads, PAGE, headDim];
  return {
    kernel: 'attention',
    label: 'attention',
    meta,
    layout,
    workgroups: ctas,
    tile: 16,
    both: true,
    merged: true,
    q: buffers.random('q', 'bf16', [tokens, heads, headDim]),
    kCache: buffers.random('k', 'bf16', kv),
    vCache: buffers.random('v', 'bf16', kv),
    out: buffers.make('out', 'bf16', [tokens, heads, headDim]),
    partialOut: buffers.make('partialOut', 'f32', [Math.max(1, partialRows), headDim]),
    partialLse: buffers.make('partialLse', 'f32', [Math.max(1, partialRows)]),
    ...HEADS,
    pageSize: PAGE,
    scale: 1 / Math.sqrt(headDim),
  };
}

function format({ batch, way, microseconds, gigabytesPerSecond, ofRead, teraflops }: AttentionRow): string {
  const rate =
    gigabytesPerSecond !== undefined
      ? `${gigabytesPerSecond.toFixed(0).padStart(5)} GB/s = ${(100 * ofRead!).toFixed(0)} % of a plain read`
      : teraflops !== undefined
        ? `${teraflops.toFixed(0).padStart(5)} TFLOP/s`
        : '';
  return `${batch.padEnd(38)} ${way.padEnd(14)} ${microseconds.toFixed(1).padStart(8)} us  ${rate}`;
}
