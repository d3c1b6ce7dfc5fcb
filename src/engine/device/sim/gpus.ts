/**
 * GPUs as the simulator sees them: one plain record each, every constant in it. Copy a record and change it to ask
 * "what if". Bandwidths are per GPU; `linkBandwidth` is one way.
 *
 * Sources. Data sheets: NVIDIA A100 80GB SXM, H100 SXM, H200 SXM, B200 (HGX), GeForce RTX 4090 (Ada whitepaper; FP16
 * with FP32 accumulation). [T2]: NanoFlow (OSDI '25), table 2, "real" milliseconds of LLaMA-2-70B on 8x A100 at 2048
 * tokens. [AS]: NanoFlow's published auto-search profiles of an A100. [H]: measured on an H100 80GB HBM3 with CUDA 13
 * (docs/log.md). "Assumed" marks what nobody measured.
 *
 * CALIBRATED, all on [T2] and nothing else: `gemmFraction`, `memoryFraction` and `linkFraction` of the
 * A100. The H100's are read off [H]. test/sim/fidelity.test.ts tests on other data.
 */

/** A GEMM kernel's output tile. One tile runs on one SM; a wave is one tile for each SM. */
export interface Tile {
  m: number; // tokens
  n: number; // output columns
  /** Speed relative to the best tile. */
  efficiency: number;
  /** Only for products with no more rows than the tile. */
  skinny?: boolean;
}

export interface Gpu {
  name: string;
  title: string;
  /** FLOP/s of dense f16 matrix products, data sheet. */
  peakFlops: number;
  /** Share of the peak that the best GEMM reaches where tiles fill all waves. */
  gemmFraction: number;
  /** Share of the peak that prefill attention reaches. */
  attentionFraction: number;
  memoryBandwidth: number; // bytes/s, data sheet
  memoryFraction: number; // achieved by a long read
  memoryBytes: number;
  sms: number;
  tiles: readonly Tile[];
  /** Most parts that K is split into when the tiles of a product do not fill the SMs. */
  maxSplitK: number;
  linkBandwidth: number; // bytes/s one way between the GPUs of a host, data sheet
  linkFraction: number; // achieved by a large collective
  /** Fixed part of a collective: everyone meets. */
  linkSeconds: number;
  /** From the end of one kernel to the start of the next in a stream, with ramp-up. */
  launchSeconds: number;
  /** Fixed part of an attention kernel: split KV, waves of unequal items, merging. */
  attentionSeconds: number;
  /** Bytes/s one way between a GPU and host memory, achieved. */
  hostBandwidth: number;
  /** What the host does for each iteration: form the batch, plan, deliver tokens. */
  hostSeconds: number;
}

const GB = 1e9;
const TERA = 1e12;
const MICRO = 1e-6;
const MILLI = 1e-3;

const a100: Gpu = {
  name: 'a100-80',
  title: 'NVIDIA A100 80GB SXM',
  peakFlops: 312 * TERA,
  // [T2] UG 69.92, D 34.96, KQV 16.08, O 16.01 ms: within 3 % with 128x128 tiles and whole waves.
  gemmFraction: 0.936,
  attentionFraction: 0.2, // assumed: at 512 tokens a prompt few tiles fill the SMs
  memoryBandwidth: 2000 * GB, // the paper's figure; the data sheet says 2039
  memoryFraction: 0.87, // [T2] DecAttn 35.60 ms for 462.2 GB less the fixed part
  memoryBytes: 80 * GB,
  sms: 108,
  tiles: [
    { m: 128, n: 128, efficiency: 1 },
    // NanoFlow's published kernels for 128 rows and more all have tiles of 128 rows.
    { m: 64, n: 128, efficiency: 0.7, skinny: true }, // assumed
  ],
  // [AS] KQV over 256, 384, 640, 768 tokens: .086, .100, .155, .162 ms. Unsplit 128x128 tiles: .104 each.
  maxSplitK: 1,
  linkBandwidth: 300 * GB,
  linkFraction: 0.7, // [T2] Net 47.92 ms for 75.2 GB less the fixed part
  linkSeconds: 12 * MICRO, // assumed
  launchSeconds: 5 * MICRO, // assumed
  attentionSeconds: 36 * MICRO, // [AS] GEMV: 116 us for 256 requests, 196 us for 512
  hostBandwidth: 25 * GB, // PCIe 4 x16
  hostSeconds: 2 * MILLI, // assumed
};

const h100: Gpu = {
  name: 'h100',
  title: 'NVIDIA H100 80GB SXM',
  peakFlops: 989 * TERA,
  gemmFraction: 0.82, // [H] 803 TFLOP/s at the best shape
  attentionFraction: 0.5, // [H] 601 TFLOP/s at 4k tokens, 392 at 1k (cuDNN)
  memoryBandwidth: 3352 * GB,
  memoryFraction: 0.92, // [H] 3.09 TB/s
  memoryBytes: 80 * GB,
  sms: 132,
  tiles: [
    { m: 128, n: 256, efficiency: 1 },
    { m: 128, n: 128, efficiency: 0.93 }, // [H] q,k,v at 1024 tokens: 726 TFLOP/s
    { m: 64, n: 128, efficiency: 0.7, skinny: true },
  ],
  maxSplitK: 4,
  linkBandwidth: 450 * GB,
  linkFraction: 0.7, // assumed
  linkSeconds: 10 * MICRO, // assumed
  launchSeconds: 4 * MICRO, // assumed
  attentionSeconds: 15 * MICRO, // assumed
  hostBandwidth: 50 * GB, // PCIe 5 x16
  hostSeconds: 2 * MILLI, // assumed
};

const h200: Gpu = {
  ...h100,
  name: 'h200',
  title: 'NVIDIA H200 141GB SXM',
  memoryBandwidth: 4800 * GB,
  memoryBytes: 141 * GB,
};

const b200: Gpu = {
  ...h100,
  name: 'b200',
  title: 'NVIDIA B200 180GB SXM',
  peakFlops: 2250 * TERA,
  gemmFraction: 0.78, // assumed
  memoryBandwidth: 8000 * GB,
  memoryFraction: 0.9, // assumed
  memoryBytes: 180 * GB,
  sms: 148,
  linkBandwidth: 900 * GB,
};

const rtx4090: Gpu = {
  ...a100,
  name: 'rtx-4090',
  title: 'NVIDIA GeForce RTX 4090',
  peakFlops: 165.2 * TERA,
  gemmFraction: 0.9, // assumed
  memoryBandwidth: 1008 * GB,
  memoryFraction: 0.9, // assumed
  memoryBytes: 24 * GB,
  sms: 128,
  linkBandwidth: 32 * GB, // PCIe 4 x16; no peer access
  linkFraction: 0.6, // assumed
  linkSeconds: 30 * MICRO, // assumed
  attentionSeconds: 15 * MICRO, // assumed
};

export const GPUS: readonly Gpu[] = [a100, h100, h200, b200, rtx4090];

/** `count` equal GPUs of one host that share every layer (tensor parallelism). */
export interface GpuSystem {
  name: string; // "a100-80x8"
  gpu: Gpu;
  count: number;
}

/** "h100", "a100-80x8". @throws Error for an unknown name or count. */
export function parseGpu(name: string): GpuSystem {
  const match = /^(.+?)(?:x([1-9]\d*))?$/.exec(name);
  const gpu = GPUS.find((preset) => preset.name === match?.[1]);
  if (!gpu) {
    const known = GPUS.map((preset) => preset.name).join(', ');
    throw new Error(
      `'${name}' is no GPU preset; expected one of ${known}, with x<count> for several (a100-80x8)`,
    );
  }
  return systemOf(gpu, Number(match?.[2] ?? 1));
}

/** A system of a record of one's own. */
export function systemOf(gpu: Gpu, count: number): GpuSystem {
  return { name: count === 1 ? gpu.name : `${gpu.name}x${count}`, gpu, count };
}
