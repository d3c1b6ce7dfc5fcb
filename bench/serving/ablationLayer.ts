/** One layer's worth of time out of a longer run: what the figure shows. */
import type { LaneSpan } from '../figures/lanes.ts';

/**
 * From where `layer` begins to where the next one does, with what runs of other layers in that time; times from its
 * start. A run whose last layer it is shows that layer alone.
 */
export function onePeriod(spans: readonly (LaneSpan & { layer: number })[], layer: number): LaneSpan[] {
  const own = spans.filter((span) => span.layer === layer).sort((a, b) => a.start - b.start);
  if (own.length === 0) return [];
  const [{ start: from, name, lane }] = own;
  const again = spans.find((span) => span.layer === layer + 1 && span.name === name && span.lane === lane);
  const to = again?.start ?? Math.max(...own.map(({ end }) => end));
  return (again ? spans : own)
    .filter(({ start, end }) => end > from && start < to)
    .map(({ layer: _, ...span }) => ({
      ...span,
      start: Math.max(span.start, from) - from,
      end: Math.min(span.end, to) - from,
    }));
}
