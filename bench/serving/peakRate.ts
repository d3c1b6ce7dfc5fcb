/** The rate of a large product on this device, FLOP/s: what throughput is held against. */
import type { Device } from '../../src/engine/device.ts';
import { stepMetaLayout, writeCounts } from '../../src/engine/plan/stepMeta.ts';
import type { GemmCall } from '../../src/engine/kernels/calls.ts';
import { Buffers } from '../kernels/buffers.ts';
import { timeCase } from '../kernels/timing.ts';

const SIDE = 8192;

/** Of the best backend there is (on cuda cuBLASLt where it is installed), random data; undefined on other devices. */
export async function peakRate(device: Device): Promise<number | undefined> {
  if (device.target.kind !== 'cuda') return undefined;
  const buffers = new Buffers(device, 1);
  const layout = stepMetaLayout({
    tokens: SIDE,
    requests: 16,
    pages: 16,
    items16: 16,
    items128: 16,
    mergeRows: 16,
    attentionWorkgroups: 16,
    adjustments: 16,
  });
  const words = new Uint32Array(layout.words);
  writeCounts(layout, words, SIDE, 0);
  const meta = buffers.make('meta', 'u32', [layout.words]);
  device.write(meta.buffer, 0, words);
  const call: GemmCall = {
    kernel: 'gemm',
    label: 'peak',
    meta,
    layout,
    rows: 'tokens',
    maxRows: SIDE,
    a: buffers.random('a', 'bf16', [SIDE, SIDE]),
    w: buffers.random('w', 'bf16', [SIDE, SIDE]),
    out: buffers.make('out', 'bf16', [SIDE, SIDE]),
    outColumn: 0,
    epilogue: 'none',
  };
  const flops = 2 * SIDE ** 3;
  let best = 0;
  for (const backend of ['cublaslt', undefined]) {
    try {
      const row = await timeCase(
        device,
        { name: 'peak', calls: [{ ...call, backend }], flops },
        { roundMs: 50 },
      );
      best = Math.max(best, row.teraflops! * 1e12);
    } catch {
      continue; // not installed
    }
  }
  buffers.free();
  return best || undefined;
}
