/** What a client saw of its requests, as a trace: for each, the wait for its first token, then its decoding. */
import { TraceBuilder } from '../../src/engine/trace/builder.ts';
import { producer, saveTrace } from './traceFile.ts';

/** Milliseconds from the start of the run. */
export interface RequestTimes {
  submitted: number;
  firstToken: number;
  ended: number;
  tokens: number;
}

export interface RequestTraceOptions {
  file: string;
  device: { kind: string; name: string };
  command: string;
  requests: readonly RequestTimes[];
  print: (line: string) => void;
}

export async function saveRequestTrace(options: RequestTraceOptions): Promise<void> {
  const { file, device, command, requests, print } = options;
  const builder = new TraceBuilder({
    source: device.kind as 'webgpu' | 'cuda' | 'cpu',
    producer,
    date: new Date().toISOString(),
    command,
    device: { name: device.name, units: 0, unitKind: 'workgroup' },
    clock: { unit: 'ns', resolutionNs: 1000, method: 'performance.now of the client', synced: 0 },
    intrusive: false,
  });
  const clients = builder.track('device', 'clients');
  const live = builder.track('counter', 'requests', clients);
  requests.forEach(({ submitted, firstToken, ended, tokens }, req) => {
    const track = builder.track('req', `request ${req + 1}`, clients);
    const at = (ms: number): number => ms * 1e6;
    const waited = builder.span({
      track,
      req,
      name: 'first token',
      cls: 'wait',
      start: at(submitted),
      end: at(firstToken),
    });
    const decoded = builder.span({
      track,
      req,
      name: `decode ${tokens - 1} tokens`,
      cls: 'host',
      start: at(firstToken),
      end: at(ended),
    });
    builder.flow(waited, decoded, 'token');
  });
  const edges = requests
    .flatMap(({ submitted, ended }) => [
      { at: submitted, change: 1 },
      { at: ended, change: -1 },
    ])
    .sort((a, b) => a.at - b.at);
  let count = 0;
  for (const { at, change } of edges) builder.counter(live, at * 1e6, (count += change));
  await saveTrace(file, builder.finish(), print);
}
