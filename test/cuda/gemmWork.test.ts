import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { scheduleOf } from '../../src/engine/device/cuda/gemm/hopper/schedule.ts';

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

describe('how gemm_wgmma deals out its work', () => {
  it(
    'gives every step of every tile to one cluster, parts of a tile their order, and cuts as scheduleOf says',
    { timeout: 60_000 },
    (context) => {
      context.skip(!hasCompiler(), 'g++ is not installed');
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
        const lines = execFileSync(join(folder, 'work'), ['3000']).toString().trim().split('\n');
        expect(lines.pop()).toBe('ok');
        let fair = 0;
        for (const line of lines) {
          const [tiles, clusters, steps, cut, ways] = line.split(' ').map(Number);
          const plan = scheduleOf(tiles, clusters, steps, true);
          expect([line, plan.cut, plan.fair ? 0 : plan.parts]).toEqual([line, cut, ways]);
          if (plan.fair) fair++;
        }
        expect(fair).toBeGreaterThan(100);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});
