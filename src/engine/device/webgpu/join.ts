/**
 * Several kernels in one dispatch: whole WGSL files become one module, and a partition table in a uniform gives each of
 * them its own range of workgroups. Nothing in a kernel's file knows of it: a kernel is `run(group, groups, lane)`.
 *
 * A kernel that draws its work by ticket (Launch.dynamic) is run by every workgroup once its own part is done, so cores
 * that finish early help out. WebGPU has no grid-wide barrier: parts must not depend on each other.
 */
import { DTYPE_BYTES, elementCount, type DeviceTarget, type TensorView } from '../../device.ts';
import type { Launch } from '../../kernels/definition.ts';
import {
  joinedModule,
  joinedWorkgroupBytes,
  kernelKey,
  kernelText,
  MOST_PARTS,
  type JoinLayout,
} from './joinModule.ts';

export interface JoinedLaunch {
  label: string; // "gemm_matrix 128x128x64 ... | attention_lanes ..."
  /** Everything that the module depends on. */
  key: string;
  code(): string;
  /** Uniform slots: the partition table, then the params of each part. */
  params: Launch['params'][];
  bindings: Launch['bindings'];
  workgroups: number;
}

/** `excess`: bytes of workgroup memory that are missing, when that is the reason. */
export type Join = { joined: JoinedLaunch } | { reason: string; excess?: number };

/** One launch of the parts, or why they must run one after the other. Pure: no device is needed. */
export function joinLaunches(
  launches: readonly Launch[],
  target: Pick<DeviceTarget, 'limits'>,
  layout: JoinLayout = 'blocks',
): Join {
  if (launches.length > MOST_PARTS) return { reason: `${launches.length} parts, at most ${MOST_PARTS} fit` };
  const sizes = new Set(launches.map(({ defines }) => defines.WORKGROUP_SIZE));
  if (sizes.size > 1) return { reason: `workgroups of ${[...sizes].join(' and ')} invocations` };
  const conflict = sharedBuffer(launches);
  if (conflict) return { reason: conflict };
  const slots = bindingSlots(launches);
  if (slots.bindings.length > target.limits.maxStorageBuffers) {
    return {
      reason: `${slots.bindings.length} storage buffers, the device binds ${target.limits.maxStorageBuffers}`,
    };
  }
  const workgroups = launches.reduce((sum, launch) => sum + launch.workgroups, 0);
  if (workgroups > target.limits.maxWorkgroups) {
    return { reason: `${workgroups} workgroups, the device takes ${target.limits.maxWorkgroups}` };
  }
  const bytes = joinedWorkgroupBytes(launches);
  if (Number.isNaN(bytes)) return { reason: 'workgroup memory of a type that is not known' };
  const excess = bytes - target.limits.maxWorkgroupBytes;
  if (excess > 0) {
    const reason = `${bytes} bytes of workgroup memory, the device has ${target.limits.maxWorkgroupBytes}`;
    return { reason, excess };
  }
  const identity = launches.map((launch, part) => [kernelKey(launch), slots.at[part]]);
  return {
    joined: {
      label: launches.map(({ shader, variant }) => `${shader} ${variant}`.trim()).join(' | '),
      key: JSON.stringify(['joined', layout, launches.map(({ dynamic }) => dynamic ?? false), identity]),
      code: () => joinedModule(launches, slots.at, layout),
      params: [partitionTable(launches), ...launches.map(({ params }) => params)],
      bindings: slots.bindings,
      workgroups,
    },
  };
}

/** [first, count] of each part; `spread` uses the counts alone. */
function partitionTable(launches: readonly Launch[]): number[] {
  let first = 0;
  return launches.flatMap(({ workgroups }) => {
    first += workgroups;
    return [first - workgroups, workgroups];
  });
}

/** WebGPU binds a buffer in one dispatch for reading or for writing, and for writing without overlap. */
function sharedBuffer(launches: readonly Launch[]): string | undefined {
  const seen = new Map<object, { part: number; access: string }>();
  for (const [part, { bindings }] of launches.entries()) {
    for (const { view, access } of bindings) {
      const other = seen.get(view.buffer);
      if (other && other.part !== part && (access === 'read_write' || other.access === 'read_write')) {
        // Two writers of different parts of a buffer are allowed, e.g. of two counters for tickets.
        if (!(access === other.access && access === 'read_write' && apart(launches, view))) {
          return `"${view.buffer.label}" is written by one part and used by another`;
        }
      }
      if (!other || access === 'read_write') seen.set(view.buffer, { part, access });
    }
  }
  return undefined;
}

/** Whether no two bindings of this view's buffer overlap. */
function apart(launches: readonly Launch[], { buffer }: TensorView): boolean {
  const ranges = launches
    .flatMap(({ bindings }) => bindings)
    .filter(({ view }) => view.buffer === buffer)
    .map(({ view }) => [view.offset, view.offset + elementCount(view.shape) * DTYPE_BYTES[view.dtype]])
    .sort((a, b) => a[0] - b[0]);
  return ranges.every(([start], i) => i === 0 || ranges[i - 1][1] <= start);
}

/** Where each part's bindings go. Equal views that are only read share a binding when they are declared alike. */
function bindingSlots(launches: readonly Launch[]): { bindings: Launch['bindings']; at: number[][] } {
  const bindings: Launch['bindings'] = [];
  const known = new Map<string, number>();
  const ids = new Map<object, number>();
  const at = launches.map((launch) => {
    const { types } = kernelText(launch);
    return launch.bindings.map((binding, index) => {
      const { view, access } = binding;
      if (!ids.has(view.buffer)) ids.set(view.buffer, ids.size);
      const key = [ids.get(view.buffer), view.offset, view.shape.join('x'), types[index]].join();
      const shared = access === 'read' && types[index] !== undefined ? known.get(key) : undefined;
      if (shared !== undefined) return shared;
      if (access === 'read') known.set(key, bindings.length);
      bindings.push(binding);
      return bindings.length - 1;
    });
  });
  return { bindings, at };
}
