/** Our mma.sync and plain kernels as a backend: every GPU from compute capability 8.0, every shape and type. */
import { portableGemm, portablePrebuilt } from '../kernels/gemmPortable.ts';
import type { GemmBackend } from './registry.ts';

export const portable: GemmBackend = {
  name: 'portable',
  priority: 20,
  isSupported: () => undefined,
  canImplement: ({ parts = 1 }) =>
    parts > 1 ? 'it does not leave products of ranges of K; use add' : undefined,
  tactics: () => ['default'],
  launches: (call, target) => portableGemm(call, target),
  prebuilt: () => portablePrebuilt(),
};
