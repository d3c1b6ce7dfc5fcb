import { describe, it } from 'vitest';
import { clear } from '../../src/engine/kernels/clear.ts';
import { compareWithTwin, filled } from './harness.ts';

describe('clear', () => {
  it.each([[[1]], [[64]], [[3, 67]], [[5000]]])('%j words', async (shape) => {
    await compareWithTwin<'clear', 'out' | 'other'>({
      definition: clear,
      tensors: {
        out: filled('u32', shape, (i) => 0xffffffff - i),
        other: filled('u32', [64], (i) => i + 1),
      },
      call: ({ out }) => ({ kernel: 'clear', out }),
    });
  });
});
