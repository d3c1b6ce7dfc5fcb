/** A trace of what a bench timed: one span for each row, one after the other. For benches that time parts, not a run. */
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import type { TraceHeader } from '../../src/engine/trace/trace.ts';
import { producer, saveTrace } from './traceFile.ts';

export interface RowsTraceOptions {
  file: string;
  device: { kind: string; name: string };
  rows: readonly object[];
  print: (line: string) => void;
}

/** Rows without `microseconds` are left out; a row's texts are its name. @returns whether there was one with them */
export async function saveRowsTrace({ file, device, rows, print }: RowsTraceOptions): Promise<boolean> {
  const timed = rows as readonly Record<string, unknown>[];
  if (!timed.some(({ microseconds }) => typeof microseconds === 'number')) return false;
  const builder = new TraceBuilder({
    source: device.kind as TraceHeader['source'],
    producer,
    date: new Date().toISOString(),
    command: process.argv.slice(2).join(' '),
    device: { name: device.name, units: 0, unitKind: 'workgroup' },
    clock: { unit: 'ns', resolutionNs: 1000, method: 'medians of repeated runs', synced: 0 },
    intrusive: false,
  });
  const stream = builder.track('stream', 'cases', builder.track('device', device.name));
  let at = 0;
  for (const { microseconds, ...facts } of timed) {
    if (typeof microseconds !== 'number') continue;
    const end = at + microseconds * 1000;
    const name = Object.values(facts).filter((fact) => typeof fact === 'string');
    builder.span({ track: stream, name: name.join(', '), cls: 'host', start: at, end });
    at = end;
  }
  await saveTrace(file, builder.finish(), print);
  return true;
}
