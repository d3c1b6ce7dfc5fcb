/**
 * `nanoflow bench kernels`: times every case of the *.bench.ts files in this folder on one device. A file exports
 * `groups`, a generator, so that only one group's buffers exist at a time.
 */
import type { Device } from '../../src/engine/device.ts';
import { createCpuDevice } from '../../src/engine/device/cpu/cpuDevice.ts';
import { createCudaDevice, findCudaDevices } from '../../src/engine/device/cuda/openCuda.ts';
import { findNodeAdapters, nodeGpu } from '../../src/engine/device/webgpu/gpu.node.ts';
import { createWebgpuDevice } from '../../src/engine/device/webgpu/webgpuDevice.ts';
import { flatCalls, type KernelCall } from '../../src/engine/kernels/calls.ts';
import { KERNELS } from '../../src/engine/kernels/index.ts';
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { LANE_CLASS, laneOf } from '../../src/engine/trace/recordCalls.ts';
import type { Trace } from '../../src/engine/trace/trace.ts';
import { profileHeader, saveTrace } from '../serving/traceFile.ts';
import { formatRow, timeCase, type TimedCase, type TimingRow } from './timing.ts';

/** Cases that share buffers; `free` gives them back. */
export interface CaseGroup {
  cases: TimedCase[];
  free(): void;
}

interface BenchFile {
  groups(device: Device): Iterable<CaseGroup> | AsyncIterable<CaseGroup>;
}

const files = import.meta.glob<BenchFile>('./*.bench.ts', { eager: true });

// The command loads this file through Vite's runner, which imports nothing more once the file is loaded: so the
// WebGPU package is loaded here. Where it cannot be, findNodeAdapters says why.
await nodeGpu().catch(() => undefined);

export interface KernelBenchOptions {
  device: 'auto' | 'cuda' | 'webgpu' | 'cpu';
  /** Only cases whose name contains this text. */
  filter?: string;
  /** Where to save a trace: the median run of each case, one after the other. */
  trace?: string;
  print: (line: string) => void;
}

export interface KernelBench {
  device: { kind: string; name: string };
  rows: TimingRow[];
}

export async function openDevice(kind: KernelBenchOptions['device']): Promise<Device> {
  if (kind === 'cpu') return createCpuDevice({ registry: KERNELS });
  if (kind === 'cuda') return createCudaDevice();
  if (kind === 'auto' && findCudaDevices().devices.length > 0) return createCudaDevice();
  const { candidates, rejected } = await findNodeAdapters();
  if (candidates.length > 0) return createWebgpuDevice(candidates[0].adapter, { registry: KERNELS });
  if (kind === 'auto') return createCpuDevice({ registry: KERNELS });
  throw new Error(`no WebGPU adapter: ${rejected.map(({ reason }) => reason).join('; ')}`);
}

/** One span for each case. */
function caseTrace(
  device: Device,
  rows: readonly TimingRow[],
  calls: readonly (readonly KernelCall[])[],
): Trace {
  const builder = new TraceBuilder(
    profileHeader(device.target, {
      clock: { unit: 'ns', resolutionNs: 1000, method: 'median of repeated runs', synced: 0 },
      intrusive: false,
    }),
  );
  const stream = builder.track('stream', 'cases', builder.track('device', device.target.name));
  let at = 0;
  rows.forEach(({ name, microseconds, gigabytesPerSecond = 0, teraflops = 0 }, i) => {
    const end = at + microseconds * 1000;
    const bytes = gigabytesPerSecond * microseconds * 1e3;
    const flops = teraflops * microseconds * 1e6;
    const cls = LANE_CLASS[laneOf(calls[i][0])];
    builder.span({ track: stream, name, cls, start: at, end, iter: i, bytes, flops });
    at = end;
  });
  return builder.finish();
}

/** Prints a line for each case and returns all rows. */
export async function runKernelBench({
  device: kind,
  filter,
  trace,
  print,
}: KernelBenchOptions): Promise<KernelBench> {
  const device = await openDevice(kind);
  const rows: TimingRow[] = [];
  const kinds: (readonly KernelCall[])[] = [];
  try {
    for (const path of Object.keys(files).sort()) {
      for await (const { cases, free } of files[path].groups(device)) {
        for (const timed of cases) {
          if (filter && !timed.name.includes(filter)) continue;
          const row = await timeCase(device, timed);
          print(formatRow(row));
          rows.push(row);
          kinds.push(flatCalls(timed.calls));
        }
        free();
      }
    }
    if (trace !== undefined) await saveTrace(trace, caseTrace(device, rows, kinds), print);
    return { device: { kind: device.target.kind, name: device.target.name }, rows };
  } finally {
    device.destroy();
  }
}
