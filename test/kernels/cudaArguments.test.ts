/**
 * What launches pass to the CUDA kernels, against the parameters that the sources declare: number, order and kind. The
 * driver cannot check that: it reads whatever lies behind a list that is too short.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tensor, type DType, type TensorView } from '../../src/engine/device.ts';
import { cudaTarget } from '../../src/engine/device/cuda/target.ts';
import { CUDA_KERNELS } from '../../src/engine/device/cuda/kernels/index.ts';
import type {
  CudaArgument,
  CudaKernel,
  CudaLaunch,
  CudaModule,
} from '../../src/engine/device/cuda/launch.ts';
import { profiledLaunch } from '../../src/engine/device/cuda/profileItems.ts';
import { kernelSources } from '../../src/engine/device/cuda/modules.ts';
import type { KernelCall } from '../../src/engine/kernels/calls.ts';
import { sampleScratchBytes } from '../../src/engine/kernels/sample.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';

const sources = kernelSources(join('native-cuda', 'kernels'));

/** The text as the preprocessor leaves it, for `#if MACRO`, #else and #endif; macros: of the launch, and #define MACRO 1. */
function preprocessed(text: string, defines: CudaModule['defines']): string {
  const values = new Map(Object.entries(defines).map(([name, value]) => [name, Number(value)]));
  const open: boolean[] = [];
  const lines = text.split('\n').filter((line) => {
    const [, directive, rest = ''] = /^#\s*(\w+)\s*(.*)$/.exec(line) ?? [];
    if (directive === 'if') open.push((values.get(rest) ?? 0) !== 0);
    else if (directive === 'ifndef' || directive === 'ifdef')
      open.push(values.has(rest) === (directive === 'ifdef'));
    else if (directive === 'else') open.push(!open.pop());
    else if (directive === 'endif') open.pop();
    else if (directive === 'define' && open.every(Boolean)) {
      const [, name, value] = /^(\w+)\s+(\d+)$/.exec(rest) ?? [];
      if (name) values.set(name, Number(value));
    }
    return directive === undefined && open.every(Boolean);
  });
  return lines.join('\n');
}

/** Parameters of the entry, without names: "const u32 *", "float". */
function parametersOf({ source, defines }: CudaModule): string[] {
  const text = preprocessed(sources.source(source), defines);
  const list = new RegExp(`extern "C"[^;{]*?\\b${source}\\(([^)]*)\\)\\s*\\{`).exec(text);
  if (!list) throw new Error(`${source}.cu: no entry of that name`);
  return list[1].split(',').map((parameter) => parameter.trim());
}

/** Kind of argument that a parameter takes. */
function kindOf(parameter: string): string {
  if (parameter.includes('*')) return 'pointer';
  if (parameter.includes('TensorMap')) return 'map';
  return parameter.startsWith('float') ? 'f32' : 'u32';
}

function kindsOf(argument: CudaArgument): string {
  const [kind] = Object.keys(argument);
  return kind === 'counters' || kind === 'scratch' ? 'pointer' : kind;
}

const B = 64;
const layout = stepMetaLayout({
  tokens: B,
  requests: B,
  pages: B,
  items16: 16,
  items128: 16,
  mergeRows: 16,
  attentionWorkgroups: 16,
  adjustments: 4,
});
const view = (dtype: DType, ...shape: number[]): TensorView =>
  tensor({ label: 'tensor', bytes: 2 ** 40 }, dtype, shape);
const meta = view('u32', layout.words);
const HEADS = { heads: 8, kvHeads: 2, headDim: 128, pageSize: 16 };
const H = 1024;
const F = 512;
const VOCABULARY = 32000;

/** Calls of every kernel, each with what makes its launches differ. */
const CALLS: readonly object[] = [
  { kernel: 'clear', out: view('u32', 64) },
  {
    kernel: 'embed',
    table: view('bf16', 100, H),
    rowStart: 0,
    sampled: view('u32', B, 44),
    out: view('f32', B, H),
  },
  ...[undefined, view('f32', B, H)].map((residual) => ({
    ...{ kernel: 'rms_norm', rows: 'tokens', x: view('f32', B, H), residual, weight: view('f32', H) },
    ...{ out: view('bf16', B, H), epsilon: 1e-5 },
  })),
  ...(['bf16', 'f32'] as const).flatMap((type) =>
    [1, 16, B].flatMap((maxRows) => [
      ...(['none', 'silu_mul'] as const).map((epilogue) => ({
        ...{
          kernel: 'gemm',
          rows: 'tokens',
          maxRows,
          a: view(type, B, H),
          w: view(type, 2 * F, H),
          outColumn: 0,
        },
        ...{ out: view(type, B, epilogue === 'none' ? 2 * F : F), epilogue },
      })),
      {
        ...{
          kernel: 'gemm',
          rows: 'tokens',
          maxRows,
          a: view(type, B, H),
          w: view(type, F, H),
          outColumn: 0,
        },
        ...{ out: view('f32', B, F), epilogue: 'none', add: true },
      },
      {
        ...{
          kernel: 'moe_gemm',
          maxRows,
          gather: 'token',
          topK: 2,
          a: view(type, B, H),
          w: view(type, 8, F, H),
        },
        ...{
          expertFirst: 0,
          slotSource: view('u32', 2 * B),
          expertStart: view('u32', 9),
          out: view(type, 2 * B, F),
        },
      },
    ]),
  ),
  {
    ...{
      kernel: 'rope_append',
      qkv: view('bf16', B, 12 * 128),
      table: view('f32', 100, 64, 2),
      epsilon: 1e-5,
    },
    ...{
      q: view('bf16', B, 8, 128),
      kCache: view('bf16', 9, 2, 16, 128),
      vCache: view('bf16', 9, 2, 16, 128),
    },
    ...HEADS,
  },
  ...([16, 128] as const).flatMap((tile) =>
    (['bf16', 'f32'] as const).map((type) => ({
      ...{ kernel: 'attention', tile, q: view(type, B, 8, 128), kCache: view(type, 9, 2, 16, 128) },
      ...{ vCache: view(type, 9, 2, 16, 128), out: view(type, B, 8, 128), partialOut: view('f32', 99, 128) },
      ...{ partialLse: view('f32', 99), scale: 0.1, ...HEADS },
    })),
  ),
  // In one launch with the other tile size and the merge; and as a guest.
  ...[{ both: true, merged: true }, { merged: true }, { residency: 'guest' }].map((how) => ({
    ...{
      kernel: 'attention',
      tile: 16,
      q: view('bf16', B, 8, 128),
      kCache: view('bf16', 9, 2, 16, 128),
      ...how,
    },
    ...{
      vCache: view('bf16', 9, 2, 16, 128),
      out: view('bf16', B, 8, 128),
      partialOut: view('f32', 99, 128),
    },
    ...{ partialLse: view('f32', 99), scale: 0.1, ...HEADS },
  })),
  {
    ...{ kernel: 'merge', partialOut: view('f32', 99, 128), partialLse: view('f32', 99) },
    ...{ out: view('bf16', B, 8, 128), headDim: 128 },
  },
  { kernel: 'silu_mul', gateUp: view('bf16', B, 2 * F), out: view('bf16', B, F), rowsPerToken: 1 },
  {
    ...{ kernel: 'route', logits: view('f32', B, 8), topK: 2, normalize: true, weights: view('f32', B, 2) },
    ...{ choices: view('u32', B, 2), slotSource: view('u32', 2 * B), expertStart: view('u32', 9) },
  },
  {
    kernel: 'moe_combine',
    topK: 2,
    y: view('f32', 2 * B, H),
    weights: view('f32', B, 2),
    out: view('f32', B, H),
  },
  {
    ...{ kernel: 'sample', logits: view('f32', B, VOCABULARY), sampled: view('u32', B, 44) },
    scratch: view('u32', sampleScratchBytes(B, VOCABULARY, 4) / 4),
  },
];

const H100 = {
  ordinal: 0,
  name: 'an H100',
  computeCapability: 90,
  memoryBytes: 80e9,
  multiprocessors: 132,
  sharedBytesPerCta: 232448,
  l2Bytes: 50e6,
};

describe.each(['hopper', 'portable'] as const)('arguments of the %s kernels', (family) => {
  const target = cudaTarget(H100 as never, family);

  it.each(Object.keys(CUDA_KERNELS))('%s', (name) => {
    const calls = CALLS.filter((call) => (call as KernelCall).kernel === name);
    expect(calls.length, 'calls of this kernel in this file').toBeGreaterThan(0);
    for (const call of calls) {
      const kernel = CUDA_KERNELS[name as KernelCall['kernel']] as unknown as CudaKernel<'gemm'>;
      const full = { label: name, meta, layout, ...call } as never;
      for (const launch of kernel.launches(full, target).filter(({ product }) => !product)) {
        check(launch);
        if (launch.profiles) check(profiledLaunch(launch, view('u32', 64), launch.profiles.records));
      }
    }
  });
});

it('kernels that record are those whose sources know how', () => {
  const target = cudaTarget(H100 as never, 'hopper');
  const found = new Map<string, boolean>();
  for (const call of CALLS) {
    const kernel = CUDA_KERNELS[(call as KernelCall).kernel] as unknown as CudaKernel<'gemm'>;
    for (const launch of kernel.launches({ label: '', meta, layout, ...call } as never, target))
      found.set(launch.source, launch.profiles !== undefined);
  }
  for (const [source, profiles] of found)
    expect(sources.source(source).includes('#if PROFILE'), source).toBe(profiles);
  expect(
    [...found]
      .filter(([, profiles]) => profiles)
      .map(([source]) => source)
      .sort(),
  ).toEqual(['attention_decode', 'attention_mixed', 'attention_wgmma', 'gemm_wgmma']);
});

function check(launch: CudaLaunch): void {
  const { source, variant, args } = launch;
  const parameters = parametersOf(launch);
  expect(args.map(kindsOf), `${source} ${variant}: ${parameters.join(', ')}`).toEqual(parameters.map(kindOf));
}
