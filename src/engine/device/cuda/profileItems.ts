/**
 * What every CTA of a program's launches worked on, when, and on which multiprocessor: the launches are made again from
 * kernels that record it (PROFILE=1), each with a buffer of its own, and run once, on the same streams.
 */
import {
  tensor,
  type CompiledProgram,
  type DeviceBuffer,
  type ProfiledItem,
  type TensorView,
} from '../../device.ts';
import type { LaunchName } from './compileProgram.ts';
import type { CudaLaunch } from './launch.ts';
import { decodeProfile, profileBytes, type ProfileRecords } from './profileRecords.ts';

/** Puts another launch in the place of one, when a program is made. */
export type ChangeLaunch = (launch: CudaLaunch, name: LaunchName) => CudaLaunch;

/** What it takes of the device. */
export interface ProfiledDevice {
  createBuffer(label: string, bytes: number): DeviceBuffer;
  destroyBuffer(buffer: DeviceBuffer): void;
  read(buffer: DeviceBuffer, byteOffset: number, bytes: number): Promise<ArrayBuffer>;
  submit(program: CompiledProgram): void;
}

/** The launch built to record its work items in `buffer`, up to `records` of each CTA. */
export function profiledLaunch(launch: CudaLaunch, buffer: TensorView, records: number): CudaLaunch {
  return {
    ...launch,
    variant: `${launch.variant} profiled`.trim(),
    defines: { ...launch.defines, PROFILE: true },
    args: [...launch.args, { pointer: buffer }, { u32: records }],
  };
}

/** A launch that records, and where. */
interface Area {
  name: LaunchName;
  buffer: DeviceBuffer;
  ctas: number;
  records: number;
}

/**
 * @param again makes the program once more, its launches changed
 * @returns items in the order of their begin; times count from the first
 * @throws Error when none of the program's kernels can record
 */
export async function profileItems(
  device: ProfiledDevice,
  label: string,
  again: (change: ChangeLaunch) => Promise<CompiledProgram>,
): Promise<ProfiledItem[]> {
  const first = await runProfiled(device, label, again, []);
  if (first.every(({ profile }) => profile.dropped === 0)) return itemsOf(first);
  // Whoever had no room for all of its events said how many there are: they are the same in every run.
  const room = first.map(({ profile }) => profile.most);
  return itemsOf(await runProfiled(device, label, again, room));
}

/** Runs the program once. `room`: records that CTAs need, by launch that records; what launches say when left out. */
async function runProfiled(
  device: ProfiledDevice,
  label: string,
  again: (change: ChangeLaunch) => Promise<CompiledProgram>,
  room: readonly number[],
): Promise<{ name: LaunchName; profile: ProfileRecords }[]> {
  const areas: Area[] = [];
  const silent = new Set<string>();
  let program: CompiledProgram | undefined;
  try {
    program = await again((launch, name) => {
      if (!launch.profiles) {
        silent.add(launch.source);
        return launch;
      }
      const { ctas } = launch;
      const records = Math.max(launch.profiles.records, room[areas.length] ?? 0);
      const bytes = profileBytes(ctas, records);
      const buffer = device.createBuffer(`profile of ${name.label}`, bytes);
      areas.push({ name, buffer, ctas, records });
      return profiledLaunch(launch, tensor(buffer, 'u32', [bytes / 4]), records);
    });
    if (areas.length === 0) {
      throw new Error(
        `program "${label}": none of its kernels can record work items (${[...silent].join(', ') || 'it has none'}); ` +
          'attention and products on tensor cores of compute capability 9.0 can',
      );
    }
    device.submit(program);
    const profiles = [];
    for (const { name, buffer, ctas, records } of areas) {
      const words = await device.read(buffer, 0, buffer.bytes);
      profiles.push({ name, profile: decodeProfile(words, ctas, records) });
    }
    return profiles;
  } finally {
    program?.destroy();
    for (const { buffer } of areas) device.destroyBuffer(buffer);
  }
}

/** Items of all launches on one time line. */
function itemsOf(profiles: readonly { name: LaunchName; profile: ProfileRecords }[]): ProfiledItem[] {
  const zeros = profiles.flatMap(({ profile }) => profile.zero ?? []);
  if (zeros.length === 0) return [];
  const zero = zeros.reduce((least, each) => (each < least ? each : least));
  const items = profiles.flatMap(({ name: { kernel, label, call }, profile }) => {
    const start = Number((profile.zero ?? zero) - zero);
    return profile.records.map(({ begin, end, ...record }) => ({
      ...{ kernel, label, call, ...record },
      ...{ beginNs: start + begin, endNs: start + end },
    }));
  });
  return items.sort((a, b) => a.beginNs - b.beginNs || a.sm - b.sm || a.cta - b.cta);
}
