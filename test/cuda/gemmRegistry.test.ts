import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { tensor } from '../../src/engine/device.ts';
import { operationOf } from '../../src/engine/device/cuda/gemm/autotune.ts';
import { cublasLt } from '../../src/engine/device/cuda/gemm/cublaslt.ts';
import {
  chooseBackend,
  describeBackends,
  type GemmBackend,
} from '../../src/engine/device/cuda/gemm/registry.ts';
import { parseTable, rowBucket, tunedKey, type TunedTable } from '../../src/engine/device/cuda/gemm/table.ts';
import { gemmTableFile, keepGemmTable, readGemmTable } from '../../src/engine/device/cuda/gemm/tableFile.ts';
import type { CudaTarget } from '../../src/engine/device/cuda/launch.ts';
import type { GemmCall } from '../../src/engine/kernels/calls.ts';
import { stepMetaLayout } from '../../src/engine/plan/stepMeta.ts';

const buffer = { label: 'b', bytes: 2 ** 30 };
const layout = stepMetaLayout({
  tokens: 64,
  requests: 16,
  pages: 16,
  items16: 1,
  items128: 1,
  mergeRows: 1,
  attentionWorkgroups: 1,
  adjustments: 1,
});

const call = (more: Partial<GemmCall> = {}): GemmCall => ({
  kernel: 'gemm',
  label: 'layers.3.qkv',
  meta: tensor(buffer, 'u32', [layout.words]),
  layout,
  rows: 'tokens',
  maxRows: 64,
  a: tensor(buffer, 'bf16', [64, 128]),
  w: tensor(buffer, 'bf16', [256, 128]),
  out: tensor(buffer, 'bf16', [64, 256]),
  outColumn: 0,
  epilogue: 'none',
  ...more,
});

const target = (gemm?: CudaTarget['cuda']['gemm']): CudaTarget =>
  ({ kind: 'cuda', cuda: { multiprocessors: 132, gemm } }) as CudaTarget;

const backend = (name: string, priority: number, more: Partial<GemmBackend> = {}): GemmBackend => ({
  name,
  priority,
  isSupported: () => undefined,
  canImplement: () => undefined,
  tactics: () => ['a', 'b'],
  launches: () => [],
  prebuilt: () => [],
  ...more,
});

const fast = backend('fast', 30, { canImplement: ({ bias }) => (bias ? 'no bias' : undefined) });
const plain = backend('plain', 20);
const absent = backend('absent', 40, { isSupported: () => 'its library is missing' });
const all = [plain, absent, fast];

const table = (entries: TunedTable['entries']): TunedTable => ({
  format: 'nanoflow-gemm-table',
  version: 1,
  subject: SUBJECT,
  entries,
});
const SUBJECT = { device: 'Fake H100', driver: 13000, engine: '1' };
const entry = { microseconds: 1, untuned: 2 };
const chosen = (what: GemmCall, where: CudaTarget = target()) => {
  const { backend: found, tactic, why } = chooseBackend(all, what, where);
  return [found.name, tactic, why];
};

describe('the registry', () => {
  it('takes the first by priority that the machine has and that can do the call', () => {
    expect(chosen(call())).toEqual(['fast', undefined, 'priority']);
    expect(chosen(call({ bias: tensor(buffer, 'f32', [256]) }))).toEqual(['plain', undefined, 'priority']);
  });

  it('takes one that is asked for, where it can', () => {
    expect(chosen(call(), target({ backend: 'plain' }))).toEqual(['plain', undefined, 'asked for']);
    expect(chosen(call({ bias: tensor(buffer, 'f32', [256]) }), target({ backend: 'fast' }))[0]).toBe(
      'plain',
    );
    expect(() => chosen(call(), target({ backend: 'wrong' }))).toThrow(
      /no backend "wrong"; there are plain, absent, fast/,
    );
  });

  it('takes what was tuned, unless it is of no use any more', () => {
    const tuned = (backendName: string, tactic: string) =>
      target({ table: table({ [tunedKey(call())]: { backend: backendName, tactic, ...entry } }) });
    expect(chosen(call(), tuned('plain', 'b'))).toEqual(['plain', 'b', 'tuned']);
    for (const where of [tuned('gone', 'a'), tuned('plain', 'gone'), tuned('absent', 'a')])
      expect(chosen(call(), where)[0]).toBe('fast');
    expect(chosen(call({ maxRows: 500 }), tuned('plain', 'b'))[0]).toBe('fast');
  });

  it('holds a call to the backend and tactic that it names, with the reason when that cannot be', () => {
    expect(chosen(call({ backend: 'plain/b' }))).toEqual(['plain', 'b', 'asked for']);
    expect(() => chosen(call({ backend: 'absent' }))).toThrow(/absent: its library is missing/);
  });

  it('says with every reason when nobody can', () => {
    expect(() =>
      chooseBackend([absent, fast], call({ bias: tensor(buffer, 'f32', [256]) }), target()),
    ).toThrow(/no backend can do it \(absent: its library is missing; fast: no bias\)/);
  });

  it('describes itself in one line', () => {
    const line = describeBackends(
      all,
      target({ backend: 'plain', table: table({ x: { backend: 'a', tactic: 'b', ...entry } }) }),
    );
    expect(line).toBe(
      'matrix products: plain where it can, absent not (its library is missing), fast, plain; 1 tuned shapes',
    );
  });
});

describe('cuBLASLt', () => {
  it('is for whole batches without epilogues', () => {
    const reason = (more: Partial<GemmCall>) => cublasLt.canImplement(call(more), target());
    expect(reason({})).toBeUndefined();
    expect(reason({ add: true, out: tensor(buffer, 'f32', [64, 256]) })).toBeUndefined();
    expect(reason({ epilogue: 'silu_mul' })).toMatch(/silu_mul/);
    expect(reason({ range: 3 })).toMatch(/range/);
    expect(reason({ workgroups: 100 })).toMatch(/budget/);
    expect(reason({ bias: tensor(buffer, 'f32', [256]) })).toMatch(/bias/);
    expect(reason({ w: tensor(buffer, 'f32', [256, 128]) })).toMatch(/different types/);
    expect(cublasLt.isSupported(target())).toMatch(/not installed/);
  });
});

describe('tuned tables', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'nanoflow-gemm-'));
    vi.stubEnv('NANOFLOW_CACHE', folder);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true, force: true });
  });

  it('put rows into buckets that hold them and grow with them', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20000 }), (rows) => {
        const bucket = rowBucket(rows);
        expect(bucket).toBeGreaterThanOrEqual(rows);
        expect(bucket).toBeLessThanOrEqual(2 * rows);
        expect(rowBucket(bucket)).toBe(bucket);
        expect(rowBucket(rows + 1)).toBeGreaterThanOrEqual(bucket);
      }),
    );
  });

  it('tell products apart by what decides their speed', () => {
    const keys = [
      call(),
      call({ maxRows: 65 }),
      call({ add: true }),
      call({ epilogue: 'silu_mul' }),
      call({ w: tensor(buffer, 'bf16', [128, 128]) }),
      call({ out: tensor(buffer, 'f32', [64, 256]) }),
    ].map(tunedKey);
    expect(new Set(keys).size).toBe(keys.length);
    expect(tunedKey(call({ maxRows: 40, label: 'other' }))).toBe(keys[0]);
  });

  it('are kept for a device, driver and version, and add up', () => {
    expect(readGemmTable(SUBJECT)).toBeUndefined();
    keepGemmTable(SUBJECT, { a: { backend: 'x', tactic: 'y', ...entry } });
    const both = keepGemmTable(SUBJECT, { b: { backend: 'x', tactic: 'z', ...entry } });
    expect(Object.keys(both.entries)).toEqual(['a', 'b']);
    expect(readGemmTable(SUBJECT)).toEqual(both);
    expect(readGemmTable({ ...SUBJECT, driver: 13010 })).toBeUndefined();
  });

  it('say what is wrong with a file', () => {
    keepGemmTable(SUBJECT, {});
    writeFileSync(gemmTableFile(SUBJECT), '{');
    expect(() => readGemmTable(SUBJECT)).toThrow(/not JSON.*tune again/);
    expect(() => parseTable('{"format":"other"}', SUBJECT)).toThrow(/no GEMM table/);
    const text = JSON.stringify(table({}));
    expect(() => parseTable(text, { ...SUBJECT, engine: '2' })).toThrow(
      /engine 1; this is .*engine 2: tune again/,
    );
    // A broken file is written anew.
    expect(
      Object.keys(keepGemmTable(SUBJECT, { a: { backend: 'x', tactic: 'y', ...entry } }).entries),
    ).toEqual(['a']);
  });

  it('know operations by the last part of the label', () => {
    expect([operationOf(call()), operationOf(call({ label: 'lm_head' }))]).toEqual(['qkv', 'lm_head']);
  });
});
