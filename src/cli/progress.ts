/** One line of progress on a terminal; a line for every tenth of the way where there is none (logs). */

export interface ProgressOutput {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export class ProgressLine {
  readonly #output: ProgressOutput;
  readonly #started = performance.now();
  #lastDrawn = -Infinity; // ms
  #lastTenth = -1;
  #startedAt: number | undefined; // `done` at the first update: resumed work is no speed

  constructor(output: ProgressOutput = process.stderr) {
    this.#output = output;
  }

  /** `done` and `total` in bytes. */
  update(done: number, total: number, label: string): void {
    this.#startedAt ??= done;
    const now = performance.now();
    const share = total > 0 ? Math.min(1, done / total) : 0;
    const seconds = (now - this.#started) / 1000;
    const speed = seconds > 0.2 ? `, ${formatBytes((done - this.#startedAt) / seconds)}/s` : '';
    const amounts = `${formatBytes(done)} of ${formatBytes(total)}${speed}`;
    if (!this.#output.isTTY) {
      const tenth = Math.floor(share * 10);
      if (tenth > this.#lastTenth) this.#output.write(`${tenth * 10}% ${amounts} ${label}\n`);
      this.#lastTenth = Math.max(this.#lastTenth, tenth);
      return;
    }
    if (now - this.#lastDrawn < 100 && share < 1) return;
    this.#lastDrawn = now;
    const bar = '#'.repeat(Math.round(share * 24)).padEnd(24, '.');
    const line = `[${bar}] ${String(Math.floor(share * 100)).padStart(3)}% ${amounts} ${label}`;
    this.#output.write(`\r\x1b[K${line.slice(0, (this.#output.columns ?? 100) - 1)}`);
  }

  /** Leaves the line, so that what is printed next begins a new one. */
  end(): void {
    if (this.#output.isTTY && this.#lastDrawn > 0) this.#output.write('\n');
  }
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}
