/**
 * `nanoflow bench gemm-peers`: our products beside cuBLASLt's in the same run, on the shapes of Llama-3-8B: few rows
 * against the bandwidth, many against the arithmetic, and a part of the CTAs against all of them.
 */
import type { GemmCall } from '../../src/engine/kernels/calls.ts';
import type { CudaDevice } from '../../src/engine/device/cuda/cudaDevice.ts';
import { bandwidth, LLAMA_8B, openCuda, Products, race, type ProductShape } from './cudaSetup.ts';

export interface GemmPeersOptions {
  /** Rows to measure; default few and many. */
  rows?: readonly number[];
  /** Only shapes whose name contains this. */
  filter?: string;
  print: (line: string) => void;
}

interface GemmRow {
  shape: string;
  rows: number;
  ours: number; // microseconds
  cublas?: number;
  /** cuBLAS's time over ours. */
  ratio?: number;
  gigabytesPerSecond: number;
  teraflops: number;
  /** Our time over that of the weights at 85 % of the copy bandwidth; rows up to 64. */
  ofBandwidth?: number;
}

interface LinearRow {
  shape: string;
  rows: number;
  ctas: number;
  microseconds: number;
  /** Rate over the rate with all SMs, and over the part of the SMs. */
  ofFull: number;
  linearity: number;
}

const FEW = [1, 2, 4, 8, 16, 32, 64];
const MANY = [96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096];
/** Calls of one captured program. */
const CALLS = 24;

const SHAPES: readonly ProductShape[] = [
  ...LLAMA_8B,
  { name: 'up+gate silu', N: 28672, K: 4096, epilogue: 'silu_mul' },
  { name: 'lm_head', N: 128256, K: 4096, out: 'f32' },
];

export async function runGemmPeers({ rows = [...FEW, ...MANY], filter = '', print }: GemmPeersOptions) {
  const device = await openCuda();
  const band = await bandwidth(device);
  print(`${device.target.name}: read ${band.read.toFixed(0)} GB/s, copy ${band.copy.toFixed(0)} GB/s`);
  const table: GemmRow[] = [];
  const linear: LinearRow[] = [];
  for (const shape of SHAPES.filter(({ name }) => name.includes(filter))) {
    const products = new Products(device, shape, Math.max(...rows));
    for (const M of rows) {
      if (shape.name === 'lm_head' && M > 512) continue;
      const row = await compare(device, products, shape, M, band.copy);
      table.push(row);
      print(format(row));
    }
    const many = rows.filter((M) => M >= 1024 && shape.name !== 'lm_head');
    for (const M of many.slice(0, 1)) {
      for (const row of await linearity(device, products, shape, M)) {
        linear.push(row);
        print(
          `${row.shape.padEnd(14)} M ${String(M).padStart(5)}  ${row.ctas} CTAs: ${row.microseconds.toFixed(1)} us, ` +
            `${row.ofFull.toFixed(3)} of the full rate = ${row.linearity.toFixed(3)} of linear`,
        );
      }
    }
    products.free();
  }
  device.destroy();
  return { device: { kind: 'cuda', name: device.target.name }, bandwidth: band, rows: table, linear };
}

async function program(device: CudaDevice, calls: readonly GemmCall[]) {
  const list = Array.from({ length: CALLS }, (_, i) => calls[i % calls.length]);
  return { program: await device.compile('products', list), times: CALLS };
}

async function compare(
  device: CudaDevice,
  products: Products,
  shape: ProductShape,
  M: number,
  copy: number,
): Promise<GemmRow> {
  const contestants = [{ name: 'ours', ...(await program(device, products.calls(M))) }];
  try {
    const peer = products.calls(M, { backend: 'cublaslt', epilogue: 'none' });
    // cuBLASLt has no such epilogue: it is timed on the product alone, into a tensor of that width.
    if (shape.epilogue !== 'silu_mul') contestants.push({ name: 'cublas', ...(await program(device, peer)) });
  } catch {
    // not installed
  }
  const [ours, cublas] = await race(device, contestants);
  for (const { program: each } of contestants) each.destroy();
  const bytes = 2 * shape.N * shape.K;
  return {
    shape: shape.name,
    rows: M,
    ours,
    cublas,
    ratio: cublas && cublas / ours,
    gigabytesPerSecond: bytes / ours / 1e3,
    teraflops: (2 * M * shape.N * shape.K) / ours / 1e6,
    ofBandwidth: M <= 64 ? bytes / ours / 1e3 / (0.85 * copy) : undefined,
  };
}

async function linearity(
  device: CudaDevice,
  products: Products,
  shape: ProductShape,
  M: number,
): Promise<LinearRow[]> {
  const all = device.target.cuda.multiprocessors;
  const counts = [all, 128, 116, 100, 84, 66, 33, 16];
  const contestants = await Promise.all(
    counts.map(async (ctas) => ({
      name: `${ctas}`,
      ...(await program(device, products.calls(M, { workgroups: ctas }))),
    })),
  );
  const times = await race(device, contestants, { rounds: 5 });
  for (const { program: each } of contestants) each.destroy();
  return counts.map((ctas, i) => ({
    shape: shape.name,
    rows: M,
    ctas,
    microseconds: times[i],
    ofFull: times[0] / times[i],
    linearity: times[0] / times[i] / (ctas / all),
  }));
}

function format({
  shape,
  rows,
  ours,
  cublas,
  ratio,
  gigabytesPerSecond,
  teraflops,
  ofBandwidth,
}: GemmRow): string {
  const peer =
    cublas === undefined ? '' : `  cuBLAS ${cublas.toFixed(1).padStart(8)} us  ratio ${ratio!.toFixed(3)}`;
  const floor = ofBandwidth === undefined ? '' : `  ${ofBandwidth.toFixed(2)} of 85 % of copy`;
  return (
    `${shape.padEnd(14)} M ${String(rows).padStart(5)}  ours ${ours.toFixed(1).padStart(8)} us` +
    ` ${teraflops.toFixed(0).padStart(4)} TFLOP/s ${gigabytesPerSecond.toFixed(0).padStart(5)} GB/s${peer}${floor}`
  );
}
