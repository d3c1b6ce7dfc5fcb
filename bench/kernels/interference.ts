/**
 * `nanoflow bench interference`: a product beside a stream that reads memory. P = rate over the rate alone on all SMs;
 * their sum is the best order one after the other over both together, so above 1 it is what overlap gains. By three ways of sharing: CTA budgets on two streams, green contexts, and
 * co-location (a product that leaves room on every core for a guest).
 */
import { CUDA_KERNELS } from '../../src/engine/device/cuda/kernels/index.ts';
import type { CudaDevice } from '../../src/engine/device/cuda/cudaDevice.ts';
import type { CudaLaunch } from '../../src/engine/device/cuda/launch.ts';
import { Buffers } from './buffers.ts';
import { bandwidth, openCuda, Products, race, readLaunch, LLAMA_8B } from './cudaSetup.ts';

export interface InterferenceOptions {
  rows?: number; // of the product
  print: (line: string) => void;
}

export interface InterferenceRow {
  way: 'budgets' | 'green contexts' | 'colocated';
  readSms: number;
  gemmSms: number;
  aloneGemm: number; // P
  aloneRead: number;
  gemm: number; // P, together
  read: number;
  sum: number;
}

const READ_SMS = [8, 16, 24, 32, 48, 64];
/** Products of one lane: long enough that edges do not count. */
const CALLS = 8;
/** Bytes read beside the products, as parts of what the stream alone would read in their time; the best is kept. */
const PARTS = [0.2, 0.35, 0.5, 0.65, 0.8, 1];

export async function runInterference({ rows = 1024, print }: InterferenceOptions) {
  const device = await openCuda();
  const sms = device.target.cuda.multiprocessors;
  const band = await bandwidth(device);
  const shape = LLAMA_8B[2];
  const products = new Products(device, shape, rows);
  const buffers = new Buffers(device, 9);
  const words = 2 ** 30; // 4 GiB
  const data = buffers.random('stream', 'f32', [words]);
  const sink = buffers.make('sink', 'u32', [4]);
  const lane = (launches: readonly CudaLaunch[], multiprocessors?: number) => ({
    label: 'lane',
    launches,
    multiprocessors,
  });
  const gemmLaunches = (workgroups: number, residency?: 'host'): CudaLaunch[] => {
    const calls = products.calls(rows, { workgroups, residency });
    return Array.from({ length: CALLS }, (_, i) =>
      CUDA_KERNELS.gemm!.launches(calls[i % calls.length], device.target),
    ).flat();
  };
  /** Reads in pieces, so that a run is about as long as the products. */
  const reads = (ctas: number, bytes: number, guest = false): CudaLaunch[] => {
    const piece = Math.min(words, Math.max(2 ** 20, Math.round(bytes / 4 / 256) * 256));
    return [
      readLaunch({ ...data, shape: [piece] }, sink, ctas, guest ? { threads: 128, unroll: 8 } : undefined),
    ];
  };
  const alone = await timeLanes(device, [lane(gemmLaunches(sms))]);
  const fullGemm = alone; // us of CALLS products
  print(
    `${device.target.name}: product ${rows}x${shape.N}x${shape.K} ${((2 * rows * shape.N * shape.K * CALLS) / fullGemm / 1e6).toFixed(0)} TFLOP/s alone, read ${band.read.toFixed(0)} GB/s alone`,
  );
  const table: InterferenceRow[] = [];
  const measure = async (
    way: InterferenceRow['way'],
    readSms: number,
    gemmSms: number,
    makeGemm: () => CudaLaunch[],
    makeRead: (bytes: number) => CudaLaunch[],
    green = false,
  ): Promise<void> => {
    const gemmLane = lane(makeGemm(), green ? gemmSms : 0);
    const readLane = (bytes: number) => lane(makeRead(bytes), green ? gemmSms : 0);
    const gemmAlone = await timeLanes(device, [gemmLane]);
    const probeBytes = 1e9;
    const readAlone = await timeLanes(device, [lane(makeRead(probeBytes))]);
    let best: InterferenceRow | undefined;
    for (const part of PARTS) {
      const bytes = Math.min(words * 4, part * fullGemm * band.read * 1e3);
      const together = await timeLanes(device, [gemmLane, readLane(bytes)]);
      const gemmP = fullGemm / together;
      const readP = bytes / together / (band.read * 1e3);
      const row: InterferenceRow = {
        way,
        readSms,
        gemmSms,
        aloneGemm: fullGemm / gemmAlone,
        aloneRead: probeBytes / readAlone / (band.read * 1e3),
        gemm: gemmP,
        read: readP,
        sum: gemmP + readP,
      };
      if (!best || row.sum > best.sum) best = row;
    }
    table.push(best!);
    print(format(best!));
  };
  for (const readSms of READ_SMS) {
    const gemmSms = sms - readSms;
    await measure(
      'budgets',
      readSms,
      gemmSms,
      () => gemmLaunches(gemmSms),
      (bytes) => reads(readSms, bytes),
    );
  }
  for (const readSms of READ_SMS) {
    const gemmSms = sms - readSms;
    try {
      await measure(
        'green contexts',
        readSms,
        gemmSms,
        () => gemmLaunches(gemmSms),
        (bytes) => reads(readSms * 4, bytes),
        true,
      );
    } catch (error) {
      print(`green contexts ${readSms}/${gemmSms}: ${(error as Error).message}`);
      break;
    }
  }
  for (const guests of [sms / 4, sms / 2, sms]) {
    await measure(
      'colocated',
      guests,
      sms,
      () => gemmLaunches(sms, 'host'),
      (bytes) => reads(guests, bytes, true),
    );
  }
  products.free();
  buffers.free();
  device.destroy();
  return {
    device: { kind: 'cuda', name: device.target.name },
    product: { rows, N: shape.N, K: shape.K },
    rows: table,
  };
}

type BenchLane = { label: string; launches: readonly CudaLaunch[]; multiprocessors?: number };

/** us of one run of the lanes side by side. */
async function timeLanes(device: CudaDevice, lanes: BenchLane[]): Promise<number> {
  const program = await device.compileLaunches('lanes', [lanes]);
  const [time] = await race(device, [{ name: 'lanes', program, times: 1 }], { rounds: 7, warmUpMs: 60 });
  program.destroy();
  return time;
}

function format(row: InterferenceRow): string {
  const { way, readSms, gemmSms, aloneGemm, aloneRead, gemm: gemmP, read, sum } = row;
  return (
    `${way.padEnd(15)} read ${String(readSms).padStart(3)} / gemm ${String(gemmSms).padStart(3)} SMs   ` +
    `alone: gemm ${aloneGemm.toFixed(2)}, read ${aloneRead.toFixed(2)}   ` +
    `together: gemm ${gemmP.toFixed(2)}, read ${read.toFixed(2)}, sum ${sum.toFixed(2)}`
  );
}
