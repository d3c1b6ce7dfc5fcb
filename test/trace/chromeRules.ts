/**
 * The rules of Chrome's trace event format that Perfetto's importer enforces (json_trace_tokenizer, json_trace_parser,
 * slice_tracker, flow_tracker of trace_processor), written again from their description: what it would count as an
 * import error is a line of the result.
 */
import type { ChromeEvent } from '../../src/engine/trace/chrome.ts';

interface Open {
  end: number;
  name: string;
}

/** Microseconds as the importer makes nanoseconds of them. */
export const importedNs = (us: number): number => Math.trunc(us * 1000);

const phases = ['M', 'X', 'b', 'e', 'C', 's', 'f'];

export function importErrors(events: readonly ChromeEvent[]): string[] {
  const errors: string[] = [];
  const slices = new Map<number, Open[]>(); // by tid: thread tracks are found by tid alone
  const pidOf = new Map<number, number>();
  const pairs = new Map<string, number>();
  const flows = new Map<string, number>();
  const threads = new Set<number>();
  const say = (event: ChromeEvent, text: string): void => {
    errors.push(`${event.ph} '${event.name}' at ${event.ts}: ${text}`);
  };
  // The importer sorts by time and keeps the file's order for equal ones.
  const order = events
    .map((event, i) => ({ event, i, ns: event.ph === 'M' ? -1 : importedNs(event.ts ?? NaN) }))
    .sort((a, b) => a.ns - b.ns || a.i - b.i);
  for (const { event, ns } of order) {
    const { ph, name, pid, tid, args = {} } = event;
    if (!phases.includes(ph)) say(event, 'unknown phase');
    if (typeof name !== 'string') say(event, 'no name');
    for (const [key, id] of Object.entries({ pid, tid }))
      if (!Number.isInteger(id) || id < 0 || id > 2 ** 32 - 1) say(event, `${key} is no uint32`);
    if (Object.values(event).some(Array.isArray)) say(event, 'array at the top level of an event');
    if (typeof args !== 'object') say(event, 'args is no object');
    if ((pidOf.get(tid) ?? pid) !== pid) say(event, 'tid is used in two processes');
    pidOf.set(tid, pid);
    if (ph === 'M') {
      const value = args[name.endsWith('sort_index') ? 'sort_index' : 'name'];
      if (name.endsWith('sort_index') ? !Number.isInteger(value) : typeof value !== 'string' || value === '')
        say(event, 'metadata without its value');
      if (name === 'thread_name') threads.add(tid);
      continue;
    }
    if (!Number.isFinite(ns) || ns < 0) say(event, 'no time');
    if (!threads.has(tid)) say(event, 'thread without a name');
    const stack = slices.get(tid) ?? [];
    slices.set(tid, stack);
    if (ph === 'X') {
      const end = ns + importedNs(event.dur ?? NaN);
      if (!(end >= ns)) say(event, 'no duration');
      while (stack.length > 0 && stack.at(-1)!.end <= ns) stack.pop();
      if (stack.length > 0 && stack.at(-1)!.end < end)
        say(event, `overlaps '${stack.at(-1)!.name}' in part (misplaced end event)`);
      stack.push({ end, name });
    } else if (ph === 'b' || ph === 'e') {
      const id = event.id2?.local;
      if (typeof id !== 'string' || id === '') say(event, 'async event without id2.local');
      const key = [pid, event.cat, name, id].join('/');
      const count = (pairs.get(key) ?? 0) + (ph === 'b' ? 1 : -1);
      if (count < 0) say(event, 'end without a begin');
      if (count > 1) say(event, 'two begins with one id: their ends can not be told apart');
      pairs.set(key, count);
    } else if (ph === 'C') {
      const values = Object.values(args);
      if (values.length === 0 || values.some((value) => typeof value !== 'number'))
        say(event, 'counter without numbers');
    } else {
      while (stack.length > 0 && stack.at(-1)!.end <= ns) stack.pop();
      if (stack.length === 0) say(event, 'flow_no_enclosing_slice');
      const key = [event.cat, name, event.id].join('/');
      if (!Number.isInteger(event.id)) say(event, 'flow_invalid_id');
      if (ph === 's') {
        if (flows.has(key)) say(event, 'flow_duplicate_id');
        flows.set(key, ns);
      } else {
        if (event.bp !== 'e') say(event, 'flow end that binds to the next slice');
        if (!flows.has(key)) say(event, 'flow_end_without_start');
        flows.delete(key);
      }
    }
  }
  for (const [key, count] of pairs) if (count !== 0) errors.push(`async ${key} is never ended`);
  for (const key of flows.keys()) errors.push(`flow ${key} is never ended`);
  return errors;
}
