/**
 * A device's record of work items (Device.profileItems) as spans: a lane for each multiprocessor, a span for each item,
 * named after its call and what it is. Items that shared a multiprocessor are on sub-lanes.
 */
import type { ProfiledItem } from '../device.ts';
import type { TraceBuilder } from './builder.ts';
import { callFacts, LANE_CLASS, laneOf } from './recordCalls.ts';
import type { SpanClass } from './trace.ts';

export interface ItemRecording {
  /** Name of the group of tracks. */
  device: string;
  items: readonly ProfiledItem[];
  iter?: number;
  /** Where the first item begins; ns. */
  zero?: number;
}

/** What bounds an item: small attention tiles read the KV cache, whatever else the call does. */
function classOf({ event, call }: ProfiledItem): SpanClass {
  if (event === 'item of 16 rows') return 'M';
  return event === 'item of 128 rows' || !call ? 'C' : LANE_CLASS[laneOf(call)];
}

export function recordItems(builder: TraceBuilder, { device, items, iter, zero = 0 }: ItemRecording): void {
  const group = builder.track('device', device);
  // Lanes in the order of the multiprocessors, not of their first items.
  const numbers = [...new Set(items.map(({ sm }) => sm))].sort((a, b) => a - b);
  const lanes = new Map(numbers.map((sm) => [sm, builder.track('sm', `SM ${sm}`, group)]));
  for (const item of items) {
    const { name, layer, nb } = callFacts(item.call ?? item);
    builder.span({
      track: lanes.get(item.sm)!,
      name: `${name}: ${item.event}`,
      cls: classOf(item),
      start: zero + item.beginNs,
      end: zero + item.endNs,
      layer,
      nb,
      iter,
    });
  }
}
