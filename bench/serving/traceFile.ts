/** Writes traces to files, and says in a few lines what is in them. */
import { writeFile } from 'node:fs/promises';
import packageJson from '../../package.json' with { type: 'json' };
import type { DeviceTarget } from '../../src/engine/device.ts';
import { encodeTrace } from '../../src/engine/trace/file.ts';
import { printTrace } from '../../src/engine/trace/summary.ts';
import type { Trace, TraceHeader } from '../../src/engine/trace/trace.ts';

export const producer = `nanoflow ${packageJson.version}`;

/** Writes `trace` in the format that the name asks for. */
export async function saveTrace(file: string, trace: Trace, print: (line: string) => void): Promise<void> {
  const bytes = await encodeTrace(file, trace);
  await writeFile(file, bytes);
  for (const line of printTrace(trace)) print(line);
  print(`saved ${file} (${(bytes.length / 1024).toFixed(0)} KiB)`);
}

/** The header of a trace that a real device's profile makes. `units`: the workgroups that shares are given out of. */
export function profileHeader(
  target: DeviceTarget,
  more: Partial<TraceHeader> = {},
  units = target.defaultWorkgroups,
): TraceHeader {
  return {
    source: target.kind,
    producer,
    date: new Date().toISOString(),
    command: process.argv.slice(2).join(' '),
    device: { name: target.name, units, unitKind: 'workgroup' },
    clock:
      target.features.timestamps && target.kind !== 'cpu'
        ? { unit: 'ns', resolutionNs: 1, method: 'timestamp-query', synced: false }
        : { unit: 'ns', resolutionNs: 1000, method: 'performance.now', synced: 0 },
    intrusive: true, // a compute pass of its own for each call
    ...more,
  };
}
