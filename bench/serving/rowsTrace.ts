/** A trace of what a bench timed: one span for each row, one after the other. For benches that time parts, not a run. */
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import type { TraceHeader } from '../../src/engine/trace/trace.ts';
import { producer, saveTrace } from './traceFile.ts';

export interface RowsTraceOptions {
  file: string;
  device: { kind: string; name: string };
  rows: readonly object[];
  /** Nanoseconds of one unit of each field that holds a time; a track for each. */
  times?: Readonly<Record<string, number>>;
  print: (line: string) => void;
}

/** A row's texts and counts are its name. @returns whether there was a row with a time */
export async function saveRowsTrace(options: RowsTraceOptions): Promise<boolean> {
  const { file, device, times = { microseconds: 1000 }, print } = options;
  const rows = options.rows as readonly Record<string, unknown>[];
  const builder = new TraceBuilder({
    source: device.kind as TraceHeader['source'],
    producer,
    date: new Date().toISOString(),
    command: process.argv.slice(2).join(' '),
    device: { name: device.name, units: 0, unitKind: 'workgroup' },
    clock: { unit: 'ns', resolutionNs: 1000, method: 'medians of repeated runs', synced: 0 },
    intrusive: false,
  });
  const cases = builder.track('device', device.name);
  for (const [field, unit] of Object.entries(times)) {
    let at = 0;
    for (const row of rows) {
      const time = row[field];
      if (typeof time !== 'number') continue;
      const end = at + time * unit;
      const name = Object.values(row).filter((fact) => typeof fact === 'string' || Number.isInteger(fact));
      builder.span({
        track: builder.track('stream', field, cases),
        name: name.join(', '),
        cls: 'host',
        start: at,
        end,
      });
      at = end;
    }
  }
  if (builder.spanCount === 0) return false;
  await saveTrace(file, builder.finish(), print);
  return true;
}
