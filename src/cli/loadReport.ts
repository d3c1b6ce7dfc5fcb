/** What a person sees while a model loads: a moving line on a terminal when it takes long, else a line per stage. */
import type { LoadProgress } from '../protocol.ts';
import { formatBytes, ProgressLine, type ProgressOutput } from './progress.ts';

/** Shorter loads show no moving line. */
const PATIENCE_MS = 2000;

export class LoadReport {
  #output: ProgressOutput;
  #verbose: boolean;
  #started = performance.now();
  #line?: ProgressLine;
  #stage?: LoadProgress['stage'];
  #stageStarted = 0;
  #last?: LoadProgress;

  constructor(output: ProgressOutput, options: { verbose: boolean }) {
    this.#output = output;
    this.#verbose = options.verbose;
  }

  update(progress: LoadProgress): void {
    if (progress.stage !== this.#stage) {
      this.#endStage();
      this.#stage = progress.stage;
      this.#last = undefined;
      this.#stageStarted = performance.now();
    }
    // Remarks in a stage count nothing; the most that was done is what counts.
    if (!this.#last || progress.done >= this.#last.done) this.#last = progress;
    if (this.#verbose && progress.stage === 'compile' && progress.detail)
      this.#output.write(`compile  ${progress.detail}\n`);
    const isSlow = performance.now() - this.#started > PATIENCE_MS;
    if (!this.#output.isTTY || !isSlow || progress.total === 0) return;
    if (progress.unit === 'bytes') {
      this.#line ??= new ProgressLine(this.#output);
      this.#line.update(progress.done, progress.total, progress.detail);
    } else if (!this.#verbose) {
      const text = `${progress.stage} ${progress.done} of ${progress.total} ${progress.unit} ${progress.detail}`;
      this.#output.write(`\r\x1b[K${text.slice(0, (this.#output.columns ?? 100) - 1)}`);
    }
  }

  end(): void {
    this.#endStage();
    this.#stage = undefined;
  }

  #endStage(): void {
    const seconds = (performance.now() - this.#stageStarted) / 1000;
    const last = this.#last;
    if (this.#stage === undefined || !last) return;
    const clear = this.#output.isTTY ? '\r\x1b[K' : '';
    this.#line = undefined;
    if (this.#stage === 'weights' && last.unit === 'bytes') {
      const rate = seconds > 0.05 ? ` (${formatBytes(last.done / seconds)}/s)` : '';
      this.#output.write(`${clear}weights  ${formatBytes(last.done)} in ${seconds.toFixed(1)} s${rate}\n`);
    } else if (this.#stage === 'compile') {
      this.#output.write(`${clear}compile  ${last.done} ${last.unit} in ${seconds.toFixed(1)} s\n`);
    } else if (clear) this.#output.write(clear);
  }
}
