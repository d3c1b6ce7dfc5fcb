/** Power and clock of an NVIDIA GPU while something runs, by nvidia-smi where it is installed: reads, sets nothing. */
import { spawn, type ChildProcess } from 'node:child_process';

export interface PowerReading {
  watts: number; // medians
  megahertz: number; // of the SMs
  /** What the driver allows. */
  limitWatts: number;
}

const EVERY_MS = 100;
const QUERY = ['power.draw.instant', 'clocks.sm', 'power.limit'];

export class PowerMeter {
  readonly #child: ChildProcess;
  readonly #samples: number[][] = [];

  constructor() {
    this.#child = spawn('nvidia-smi', [
      `--query-gpu=${QUERY.join()}`,
      '--format=csv,noheader,nounits',
      '-lms',
      `${EVERY_MS}`,
    ]);
    this.#child.on('error', () => undefined); // not installed: no readings
    this.#child.stdout?.on('data', (data: Buffer) => {
      for (const line of data.toString().trim().split('\n')) {
        const values = line.split(',').map(Number);
        if (values.length === QUERY.length && values.every((value) => value > 0)) this.#samples.push(values);
      }
    });
  }

  /** Forgets what was read so far. */
  restart(): void {
    this.#samples.length = 0;
  }

  /** Medians since the start; undefined where nothing can be read. */
  read(): PowerReading | undefined {
    if (this.#samples.length === 0) return undefined;
    const [watts, megahertz, limitWatts] = QUERY.map((_, i) => {
      const sorted = this.#samples.map((sample) => sample[i]).sort((a, b) => a - b);
      return sorted[sorted.length >> 1];
    });
    return { watts, megahertz, limitWatts };
  }

  stop(): void {
    // Without a process there is no pid, and kill() would signal the group of this one.
    if (this.#child.pid !== undefined) this.#child.kill();
  }
}
