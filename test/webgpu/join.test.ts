/** Joined modules go through Tint and Dawn's validation on the null backend; what cannot be joined says why. */
import { beforeAll, describe, expect, it } from 'vitest';
import { tensor, type DeviceTarget, type TensorView } from '../../src/engine/device.ts';
import { nodeGpu } from '../../src/engine/device/webgpu/gpu.node.ts';
import { joinLaunches } from '../../src/engine/device/webgpu/join.ts';
import { numberedLines } from '../../src/engine/device/webgpu/shaders.ts';
import { maximumLimits, WANTED_FEATURES } from '../../src/engine/device/webgpu/target.ts';
import { moduleNames, renameModule } from '../../src/engine/device/webgpu/wgslNames.ts';
import type { KernelCall } from '../../src/engine/kernels/calls.ts';
import type { KernelDefinition, Launch } from '../../src/engine/kernels/definition.ts';
import { KERNELS } from '../../src/engine/kernels/index.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';

const target: DeviceTarget = {
  kind: 'webgpu',
  name: 'NVIDIA H100',
  vendor: 'nvidia',
  software: false,
  features: { f16: true, subgroups: true, subgroupMatrix: true, timestamps: true },
  subgroupSize: { min: 32, max: 32 },
  limits: {
    maxStorageBuffers: 16,
    maxBindingBytes: 2 ** 31 - 4,
    maxBufferBytes: 2 ** 31,
    maxWorkgroupBytes: 49152,
    maxInvocations: 1024,
    maxWorkgroups: 65535,
  },
  defaultWorkgroups: 264,
};

const layout = stepMetaLayout({
  tokens: 512,
  requests: 512,
  pages: 1024,
  ranges: 4,
  attentionSlots: 2,
  items16: 4096,
  items128: 64,
  mergeRows: 4096,
  attentionWorkgroups: 264,
  adjustments: 1,
});
let made = 0;
const view = (dtype: TensorView['dtype'], ...shape: number[]): TensorView => {
  const bytes = shape.reduce((a, b) => a * b, dtype === 'f16' ? 2 : 4);
  return tensor({ label: `b${made++}`, bytes }, dtype, shape);
};
const meta = view('u32', layout.words);
const base = { meta, layout, label: 'test', maxRows: 512 };
const heads = { heads: 32, kvHeads: 8, headDim: 128, pageSize: 16 };

function gemm(more: object = {}): KernelCall {
  return {
    ...base,
    kernel: 'gemm',
    rows: 'tokens',
    a: view('f16', 512, 4096),
    w: view('f16', 4096, 4096),
    out: view('f16', 512, 4096),
    outColumn: 0,
    epilogue: 'none',
    workgroups: 100,
    ...more,
  } as KernelCall;
}
function attention(tile: 16 | 128): KernelCall {
  return {
    ...base,
    kernel: 'attention',
    ...heads,
    tile,
    slot: 1,
    q: view('f16', 512, 32, 128),
    kCache: view('f16', 1024, 8, 16, 128),
    vCache: view('f16', 1024, 8, 16, 128),
    out: view('f16', 512, 32, 128),
    partialOut: view('f32', 4096, 128),
    partialLse: view('f32', 4096),
    scale: 0.1,
    workgroups: 32,
  };
}
const merge = (): KernelCall => ({
  ...base,
  kernel: 'merge',
  partialOut: view('f32', 4096, 128),
  partialLse: view('f32', 4096),
  out: view('f16', 512, 32, 128),
  headDim: 128,
  workgroups: 20,
});
const norm = (more: object = {}): KernelCall => ({
  ...base,
  kernel: 'rms_norm',
  rows: 'tokens',
  x: view('f32', 512, 4096),
  residual: view('f32', 2, 512, 4096),
  weight: view('f32', 4096),
  out: view('f16', 512, 4096),
  epsilon: 1e-5,
  workgroups: 10,
  ...more,
});
const rope = (): KernelCall => ({
  ...base,
  kernel: 'rope_append',
  ...heads,
  qkv: view('f16', 512, 6144),
  epsilon: 1e-5,
  table: view('f32', 4096, 64, 2),
  q: view('f16', 512, 32, 128),
  kCache: view('f16', 1024, 8, 16, 128),
  vCache: view('f16', 1024, 8, 16, 128),
  workgroups: 7,
});
const silu = (): KernelCall => ({
  ...base,
  kernel: 'silu_mul',
  gateUp: view('f16', 512, 4096),
  out: view('f16', 512, 4096),
  rowsPerToken: 1,
  workgroups: 9,
});

/** Launches of the parts with workgroups of one size. */
function launchesOf(parts: readonly KernelCall[], invocations = 256): Launch[] {
  return parts.map((part) => {
    const definition = KERNELS[part.kernel] as KernelDefinition<KernelCall['kernel']>;
    const [launch] = definition.launches({ ...part, invocations }, target);
    return launch;
  });
}

const tickets = (): object => ({ tickets: view('u32', 1) });
const cases: Record<string, KernelCall[]> = {
  'matrix GEMM, decode attention': [gemm(), attention(16)],
  'ticket GEMM, decode attention': [gemm(tickets()), attention(16)],
  'gated ticket GEMM, decode attention': [
    gemm({ ...tickets(), epilogue: 'silu_mul', out: view('f16', 512, 2048) }),
    attention(16),
  ],
  'GEMM in parts, decode attention': [
    gemm({ ...tickets(), parts: 2, out: view('f32', 2, 512, 4096) }),
    attention(16),
  ],
  'matrix GEMM, prefill attention': [gemm(tickets()), attention(128)],
  'GEMM, decode and prefill attention': [gemm(), attention(16), attention(128)],
  'two ticket GEMMs': [gemm(tickets()), gemm(tickets())],
  'norm, merge': [norm(), merge()],
  'rope, norm': [rope(), norm()],
  'silu, attention': [silu(), attention(16)],
  'GEMM, norm, merge': [gemm(tickets()), norm(), merge()],
};

describe('joined modules', () => {
  let device: GPUDevice;

  beforeAll(async () => {
    const adapter = await (await nodeGpu({ backend: 'null' })).requestAdapter();
    device = await adapter!.requestDevice({
      requiredFeatures: WANTED_FEATURES.filter((name) => adapter!.features.has(name)) as GPUFeatureName[],
      requiredLimits: { ...maximumLimits(adapter!.limits) },
    });
  });

  describe.each(['blocks', 'spread'] as const)('%s', (placing) => {
    it.each(Object.keys(cases))('%s', async (name) => {
      const launches = launchesOf(cases[name]);
      const result = joinLaunches(launches, target, placing);
      expect(result).not.toHaveProperty('reason');
      if (!('joined' in result)) return;
      const { joined } = result;
      expect(joined.workgroups).toBe(launches.reduce((sum, { workgroups }) => sum + workgroups, 0));
      const code = joined.code();
      device.pushErrorScope('validation');
      const module = device.createShaderModule({ code });
      const refused = await device.popErrorScope();
      const { messages } = await module.getCompilationInfo();
      const problems = messages
        .filter(({ type }) => type === 'error')
        .map(({ lineNum, message }) => `${message}\n${numberedLines(code, lineNum)}`);
      expect(problems).toEqual([]);
      expect(refused?.message).toBeUndefined();
      const bindings = [...code.matchAll(/@binding\((\d+)\)/g)].map(([, binding]) => Number(binding));
      const all = joined.params.length + joined.bindings.length;
      expect(bindings.sort((a, b) => a - b)).toEqual(Array.from({ length: all }, (_, i) => i));
    });
  });

  it('binds what parts read alike once', () => {
    const result = joinLaunches(launchesOf(cases['rope, norm']), target);
    if ('reason' in result) throw new Error(result.reason);
    expect(result.joined.bindings.filter(({ view: { buffer } }) => buffer === meta.buffer)).toHaveLength(1);
  });

  it('parts share workgroup memory of one type', () => {
    const result = joinLaunches(launchesOf(cases['matrix GEMM, decode attention']), target);
    if ('reason' in result) throw new Error(result.reason);
    const code = result.joined.code();
    expect(code.match(/var<workgroup> \w+: array<vec4<u32>/g)).toHaveLength(1);
    expect(code).toMatch(/array<vec4<u32>, max\(p0_GEMM_SHARED, .*\)>/);
  });
});

describe('what cannot be joined', () => {
  it.each<[string, () => KernelCall[], RegExp]>([
    [
      'a buffer that one part writes and another reads',
      () => {
        const x = view('f16', 512, 4096);
        return [norm({ out: x }), gemm({ a: x })];
      },
      /"b\d+" is written by one part and used by another/,
    ],
    [
      'too many storage buffers',
      () => [attention(16), attention(16), attention(128)],
      /19 storage buffers, the device binds 16/,
    ],
  ])('%s', (_, parts, reason) => {
    expect(joinLaunches(launchesOf(parts()), target)).toEqual({ reason: expect.stringMatching(reason) });
  });

  it('workgroups of different sizes', () => {
    const launches = [launchesOf([norm()], 64)[0], launchesOf([merge()], 128)[0]];
    expect(joinLaunches(launches, target)).toEqual({ reason: 'workgroups of 64 and 128 invocations' });
  });
});

describe('renaming', () => {
  const code = `
    struct Params { rows: u32, run: f32, } // run
    alias Vector = vec4<f32>;
    @group(0) @binding(0) var<uniform> params: Params;
    @group(0) @binding(1) var<storage, read_write> rows: array<Vector>;
    const A = 0x1fu; var<workgroup> pool: array<f32, A * 2u>;
    fn run(group: u32) -> u32 { let rows = params.rows + A; return rows + u32(params.run) + pool_size(); }
    fn pool_size() -> u32 { return arrayLength(&rows); }`;

  it('finds the names of the top level', () => {
    expect(moduleNames(code)).toEqual([
      'Params',
      'Vector',
      'params',
      'rows',
      'A',
      'pool',
      'run',
      'pool_size',
    ]);
  });

  it('leaves members of structs, comments and numbers alone', () => {
    const renamed = renameModule(code, (name) => `p_${name}`);
    expect(renamed).toContain('struct p_Params { rows: u32, run: f32, } // run');
    expect(renamed).toContain('p_params.rows + p_A');
    expect(renamed).toContain('p_params.run');
    expect(renamed).toContain('arrayLength(&p_rows)');
    expect(renamed).toContain('const p_A = 0x1fu');
    expect(moduleNames(renamed)).toEqual(moduleNames(code).map((name) => `p_${name}`));
  });
});
