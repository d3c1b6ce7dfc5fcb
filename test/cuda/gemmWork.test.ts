import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');
const KERNELS = '../../native-cuda/kernels/lib';

function hasCompiler(): boolean {
  try {
    execFileSync('g++', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

describe.skipIf(!hasCompiler())('how gemm_wgmma deals out its work', () => {
  it(
    'gives every step of every tile to one cluster, and parts of a tile their order',
    { timeout: 60_000 },
    () => {
      const work = /^struct Work \{[^]*?^\};$/m.exec(read(`${KERNELS}/gemmWork.cuh`));
      const constants = /^constexpr u32 JOIN_STEPS.*;$/m.exec(read(`${KERNELS}/gemmTile.cuh`));
      expect(work && constants).not.toBeNull();
      const folder = mkdtempSync(join(tmpdir(), 'nanoflow-work-'));
      try {
        const source = read('gemmWork.cpp')
          .replace(/^CONSTANTS$/m, () => constants![0])
          .replace(/^WORK$/m, () => work![0]);
        writeFileSync(join(folder, 'work.cpp'), source);
        execFileSync('g++', [
          '-std=c++17',
          '-O1',
          '-w',
          '-o',
          join(folder, 'work'),
          join(folder, 'work.cpp'),
        ]);
        const said = execFileSync(join(folder, 'work'), ['3000']).toString();
        expect(said).toMatch(/^ok, [1-9]\d* with fair shares/);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});
