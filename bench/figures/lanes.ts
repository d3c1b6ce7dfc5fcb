/** A timeline: one row for each lane, a bar for each span, rows below each other where spans overlap. */
import { bar, el, type FigureClass, PALETTE, text, textWidth, ticks } from './svg.ts';

export interface LaneSpan {
  lane: string;
  name: string;
  cls: FigureClass;
  start: number; // us
  end: number;
}

export interface Timeline {
  title: string;
  spans: readonly LaneSpan[];
}

const ROW = 30;
const GAP = 4;
const HEAD = 22;

interface Row {
  label: string;
  spans: LaneSpan[];
}

/** What a bar may say, longest first: "decode_attention.2", "decode attn.2", "dec.2", "dec". */
function labels(name: string): string[] {
  const number = /\.\d+$/.exec(name)?.[0] ?? '';
  const operation = number ? name.slice(0, -number.length) : name;
  const middle = operation.replace('attention', 'attn').replaceAll('_', ' ');
  const short = middle
    .replace(/^(dec|pre|rope)\w* (attn|append)$/, '$1')
    .replace(/^\w+ (gather|reduce)$/, '$1');
  return [...[operation, middle, short].map((text) => text + number), short];
}

/** Lanes in the order given, each as few rows as hold its spans without overlap. */
function rowsOf(spans: readonly LaneSpan[], lanes: readonly string[]): Row[] {
  return lanes.flatMap((lane) => {
    const rows: Row[] = [];
    const mine = spans
      .filter((span) => span.lane === lane)
      .sort((a, b) => a.start - b.start || b.end - a.end);
    for (const span of mine) {
      const free = rows.find((row) => row.spans.at(-1)!.end <= span.start + 1e-6);
      if (free) free.spans.push(span);
      else rows.push({ label: rows.length === 0 ? lane : '', spans: [span] });
    }
    return rows;
  });
}

export function timelineHeight({ spans }: Timeline, lanes: readonly string[]): number {
  return HEAD + rowsOf(spans, lanes).length * (ROW + GAP);
}

/** Draws a timeline with its top left at (x, y). `most`: the end of the axis, us; the same for all to compare them. */
export function drawTimeline(
  timeline: Timeline,
  {
    x,
    y,
    width,
    most,
    lanes,
  }: { x: number; y: number; width: number; most: number; lanes: readonly string[] },
): string {
  const left = x + 76;
  const scale = (width - 76) / most;
  const parts = [text(x, y + 13, timeline.title, { weight: 600 })];
  rowsOf(timeline.spans, lanes).forEach(({ label, spans }, i) => {
    const top = y + HEAD + i * (ROW + GAP);
    parts.push(el('rect', { x: left, y: top, width: most * scale, height: ROW, fill: '#f6f8fa' }));
    if (label) parts.push(text(left - 8, top + ROW / 2 + 4.5, label, { anchor: 'end', fill: PALETTE.faint }));
    for (const { name, cls, start, end } of spans) {
      const from = left + start * scale;
      const long = (end - start) * scale;
      const hint = `${name}: ${start.toFixed(0)} to ${end.toFixed(0)} us`;
      parts.push(bar(from, top, Math.max(0.5, long - 1), ROW, cls, hint));
      const fitting = labels(name).find((label) => textWidth(label, 12, 600) < long - 4);
      if (fitting === undefined) continue;
      const { colour, text: fill } = PALETTE[cls];
      const style = { size: 12, anchor: 'middle', fill, weight: 600, halo: colour } as const;
      parts.push(text(from + (long - 1) / 2, top + ROW / 2 + 4, fitting, style));
    }
  });
  return parts.join('');
}

/** The common axis below the timelines. */
export function drawAxis({
  x,
  y,
  width,
  most,
}: {
  x: number;
  y: number;
  width: number;
  most: number;
}): string {
  const left = x + 76;
  const scale = (width - 76) / most;
  const parts = ticks(most, 8).map((us) => {
    const at = left + us * scale;
    return (
      el('line', { x1: at, x2: at, y1: y, y2: y + 5, stroke: PALETTE.faint }) +
      text(at, y + 18, String(us), { size: 11, anchor: 'middle', fill: PALETTE.faint })
    );
  });
  parts.push(el('line', { x1: left, x2: left + most * scale, y1: y, y2: y, stroke: PALETTE.faint }));
  parts.push(text(left - 8, y + 18, 'us', { size: 11, anchor: 'end', fill: PALETTE.faint }));
  return parts.join('');
}
