/** clear: zeros a tensor of u32. */
import type { DeviceTarget } from '../device.ts';
import { elementCount } from '../device.ts';
import type { ClearCall } from './calls.ts';
import type { KernelDefinition, Launch, TwinMemory } from './definition.ts';
import type { Variant } from './variants.ts';

const WORKGROUP_SIZE = 64;

function launches(call: ClearCall, target: DeviceTarget): Launch[] {
  const words = elementCount(call.out.shape);
  return [
    {
      shader: 'clear',
      variant: '',
      defines: { WORKGROUP_SIZE },
      bindings: [{ view: call.out, access: 'read_write' }],
      params: [words],
      workgroups:
        call.workgroups ?? Math.max(1, Math.min(target.defaultWorkgroups, Math.ceil(words / WORKGROUP_SIZE))),
    },
  ];
}

function twin(call: ClearCall, memory: TwinMemory): void {
  memory.u32(call.out).fill(0);
}

export const clear: KernelDefinition<'clear'> = { kernel: 'clear', launches, twin };

export const variantDefines: Variant[] = [{ shader: 'clear', defines: { WORKGROUP_SIZE } }];
