/** SVG written by hand: elements as text, the palette of the project's figures, and text that fits. */

/** Light theme. Each class has a pattern as well as a colour, so that neither is needed to tell them apart. */
export const PALETTE = {
  C: { colour: '#1F4E9E', text: '#ffffff', name: 'compute' },
  M: { colour: '#C96A00', text: '#111111', name: 'memory' },
  N: { colour: '#2A9D8F', text: '#111111', name: 'network' },
  host: { colour: '#7A3E74', text: '#ffffff', name: 'host' },
  ink: '#1b1f24',
  faint: '#57606a',
  line: '#d0d7de',
} as const;

export type FigureClass = 'C' | 'M' | 'N' | 'host';

export type Attributes = Record<string, string | number | undefined>;

export function escapeText(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** An element; children are SVG text already. Numbers are rounded to hundredths. */
export function el(tag: string, attributes: Attributes, ...children: string[]): string {
  const list = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${typeof value === 'number' ? +value.toFixed(2) : escapeText(value!)}"`)
    .join('');
  return children.length === 0 ? `<${tag}${list}/>` : `<${tag}${list}>${children.join('')}</${tag}>`;
}

export interface TextStyle {
  size?: number;
  anchor?: 'start' | 'middle' | 'end';
  fill?: string;
  weight?: number;
  /** Colour of an edge around the letters, for text on a pattern. */
  halo?: string;
}

export function text(
  x: number,
  y: number,
  content: string,
  { size = 13, anchor, fill = PALETTE.ink, weight, halo }: TextStyle = {},
): string {
  return el(
    'text',
    {
      x,
      y,
      'font-size': size,
      'text-anchor': anchor,
      fill,
      'font-weight': weight,
      ...(halo === undefined ? {} : { stroke: halo, 'stroke-width': 4, 'paint-order': 'stroke' }),
    },
    escapeText(content),
  );
}

/** About how wide a text is, on the safe side: wide system fonts take 0.62 of their size for a letter, bold ones 0.7. */
export function textWidth(content: string, size = 13, weight = 400): number {
  return content.length * size * (weight >= 600 ? 0.7 : 0.62);
}

/** A bar of a class, with its pattern over its colour. */
export function bar(
  x: number,
  y: number,
  width: number,
  height: number,
  cls: FigureClass,
  hint?: string,
): string {
  const box = { x, y, width: Math.max(width, 0.5), height, rx: Math.min(2, width / 4) };
  const title = hint === undefined ? [] : [el('title', {}, escapeText(hint))];
  const pattern = cls === 'M' || cls === 'N' ? el('rect', { ...box, fill: `url(#${cls})` }) : '';
  return el('g', {}, ...title, el('rect', { ...box, fill: PALETTE[cls].colour }), pattern);
}

const patterns = el(
  'defs',
  {},
  el(
    'pattern',
    { id: 'M', width: 7, height: 7, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
    el('rect', { width: 2, height: 7, fill: '#ffffff', 'fill-opacity': 0.28 }),
  ),
  el(
    'pattern',
    { id: 'N', width: 7, height: 7, patternUnits: 'userSpaceOnUse' },
    el('circle', { cx: 2, cy: 2, r: 1.2, fill: '#ffffff', 'fill-opacity': 0.45 }),
  ),
);

/** A whole figure: white ground, a title and a description that screen readers say. */
export function figure(
  width: number,
  height: number,
  { title, description }: { title: string; description: string },
  ...children: string[]
): string {
  const svg = el(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: 'img',
      'aria-labelledby': 'title description',
      'font-family': "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    },
    el('title', { id: 'title' }, escapeText(title)),
    el('desc', { id: 'description' }, escapeText(description)),
    patterns,
    el('rect', { width, height, fill: '#ffffff' }),
    ...children,
  );
  return `${svg}\n`;
}

/** Round numbers for an axis from 0 to `most`: at most `count` steps of 1, 2 or 5 times a power of ten. */
export function ticks(most: number, count = 5): number[] {
  if (!(most > 0)) return [0];
  const raw = most / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10]
    .map((factor) => factor * power)
    .find((candidate) => candidate >= raw * (1 - 1e-9))!;
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => +(i * step).toPrecision(12));
}
