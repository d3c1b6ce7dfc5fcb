import { expect, test } from 'vitest';
import { kernelGaps, registeredKernels } from '../../scripts/lib/kernelRooms.js';

const rooms = (name: string) => [
  `shaders/${name}.wgsl`,
  `src/engine/kernels/${name}.ts`,
  `test/device/${name}.test.ts`,
  `native-cuda/kernels/${name}.cu`,
  `src/engine/device/cuda/kernels/${name}.ts`,
];

test('a kernel in every room has no gap', () => {
  const files = new Set([
    ...rooms('gemm'),
    ...rooms('moe_gemm'),
    'shaders/gemm_rows.wgsl',
    'native-cuda/kernels/gemm_wgmma.cu',
    'native-cuda/kernels/bench/stream_read.cu',
    'shaders/lib/tile.wgsl',
  ]);
  expect(kernelGaps(['gemm', 'moe_gemm'], files)).toEqual([]);
});

test('each missing room is one gap, named by its path', () => {
  for (const missing of rooms('gemm')) {
    const files = new Set(rooms('gemm'));
    files.delete(missing);
    const gaps = kernelGaps(['gemm'], files);
    expect(gaps).toHaveLength(1);
    expect(gaps[0]).toContain(missing);
  }
});

test('a shader of one kernel does not stand in for another whose name it starts with', () => {
  const files = new Set([...rooms('moe_gemm'), ...rooms('moe'), 'shaders/moe_gemm_rows.wgsl']);
  files.delete('shaders/moe.wgsl');
  expect(kernelGaps(['moe', 'moe_gemm'], files)).toEqual(['kernel moe: no shaders/moe.wgsl']);
});

test('a kernel may run on the shaders of the one that its name extends, and of no other', () => {
  const without = (name: string) => rooms(name).filter((path) => !/\.(wgsl|cu)$/.test(path));
  expect(kernelGaps(['gemm', 'moe_gemm'], new Set([...rooms('gemm'), ...without('moe_gemm')]))).toEqual([]);
  expect(kernelGaps(['norm', 'moe_gemm'], new Set([...rooms('norm'), ...without('moe_gemm')]))).toHaveLength(
    2,
  );
});

test('a shader that belongs to no kernel is a gap', () => {
  const files = new Set([...rooms('gemm'), 'shaders/orphan.wgsl']);
  expect(kernelGaps(['gemm'], files)).toEqual([expect.stringContaining('shaders/orphan.wgsl')]);
  const sources = new Set([...rooms('gemm'), 'native-cuda/kernels/orphan.cu']);
  expect(kernelGaps(['gemm'], sources)).toEqual([expect.stringContaining('orphan.cu')]);
});

test('reads the registry', () => {
  const source = `import { gemm } from './gemm.ts';\nimport { moeGemm } from './moe_gemm.ts';\nimport type { X } from './definition.ts';\n`;
  expect(registeredKernels(source)).toEqual(['gemm', 'moe_gemm']);
});
