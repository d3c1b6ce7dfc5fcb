/** The figure of `nanoflow bench ablation`: tokens per second of each pipeline, and where one layer's time goes. */
import { drawAxis, drawTimeline, timelineHeight, type Timeline } from './lanes.ts';
import { bar, el, figure, PALETTE, text, textWidth, type FigureClass } from './svg.ts';

export interface AblationFigure {
  title: string;
  /** Lines: the batch, and whether it was measured or modelled. */
  subtitle: readonly string[];
  bars: readonly { name: string; tokensPerSecond: number }[];
  timelines: readonly Timeline[];
}

const WIDTH = 960;
const MARGIN = 28;
const LANES = ['compute', 'memory', 'network'];

export function ablationFigure({ title, subtitle, bars, timelines }: AblationFigure): string {
  const inner = WIDTH - 2 * MARGIN;
  const parts = [
    text(MARGIN, 40, title, { size: 19, weight: 650 }),
    ...subtitle.map((line, i) => text(MARGIN, 62 + 18 * i, line, { fill: PALETTE.faint })),
  ];
  let y = 66 + 18 * subtitle.length;
  const classes = (['C', 'M', 'N'] as const).filter((cls) =>
    timelines.some(({ spans }) => spans.some((span) => span.cls === cls)),
  );

  const nameWidth = Math.max(...bars.map(({ name }) => textWidth(name, 14))) + 16;
  const most = Math.max(...bars.map(({ tokensPerSecond }) => tokensPerSecond));
  const base = bars[0].tokensPerSecond;
  const says = bars.map(({ tokensPerSecond }, i) => {
    const gain =
      i === 0 ? '' : ` (${tokensPerSecond >= base ? '+' : ''}${percent(tokensPerSecond / base - 1)})`;
    return `${formatRate(tokensPerSecond)} tokens/s${gain}`;
  });
  const room = Math.max(...says.map((label) => textWidth(label, 14, 600))) + 12;
  const scale = (inner - nameWidth - room) / most;
  bars.forEach(({ name, tokensPerSecond }, i) => {
    const width = tokensPerSecond * scale;
    parts.push(text(MARGIN, y + 19, name, { size: 14 }));
    // The bars say nothing about a lane: one neutral colour, the best one darker.
    const fill = tokensPerSecond === most ? '#30363d' : '#8c959f';
    parts.push(el('rect', { x: MARGIN + nameWidth, y, width, height: 28, rx: 2, fill }));
    parts.push(text(MARGIN + nameWidth + width + 8, y + 19, says[i], { size: 14, weight: 600 }));
    y += 36;
  });
  y += 12;

  if (timelines.length > 0) {
    parts.push(text(MARGIN, y + 14, 'One layer in the steady state', { size: 15, weight: 650 }));
    parts.push(legend(classes, WIDTH - MARGIN, y + 3));
    y += 32;
    const end = Math.max(1e-9, ...timelines.flatMap(({ spans }) => spans.map((span) => span.end)));
    for (const timeline of timelines) {
      parts.push(drawTimeline(timeline, { x: MARGIN, y, width: inner, most: end, lanes: LANES }));
      y += timelineHeight(timeline, LANES) + 12;
    }
    parts.push(drawAxis({ x: MARGIN, y: y - 6, width: inner, most: end }));
    y += 24;
  }
  const description = `${subtitle.join('; ')}. ${bars
    .map(({ name, tokensPerSecond }) => `${name}: ${formatRate(tokensPerSecond)} tokens per second`)
    .join(
      '; ',
    )}. ${timelines.map(({ title, spans }) => `${title}: ${spans.length} nano-operations in a layer`).join('; ')}`;
  return figure(WIDTH, y + 12, { title, description }, ...parts);
}

/** Right-aligned at x. */
function legend(classes: readonly FigureClass[], x: number, y: number): string {
  let right = x;
  return classes
    .toReversed()
    .map((cls) => {
      const { name } = PALETTE[cls];
      const width = textWidth(name, 12) + 32;
      right -= width;
      return bar(right, y, 16, 12, cls) + text(right + 21, y + 10.5, name, { size: 12, fill: PALETTE.faint });
    })
    .join('');
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

function formatRate(rate: number): string {
  return rate >= 1000 ? Math.round(rate).toLocaleString('en-US') : rate.toPrecision(3);
}
