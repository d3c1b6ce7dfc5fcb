/** What a meter makes of nvidia-smi's lines; a made-up program stands in for it. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { PowerMeter } from '../../bench/serving/powerMeter.ts';

const folder = mkdtempSync(join(tmpdir(), 'nanoflow-power-'));
const { PATH } = process.env;
afterAll(() => {
  process.env.PATH = PATH;
  rmSync(folder, { recursive: true });
});

function standIn(lines: readonly string[]): void {
  const file = join(folder, 'nvidia-smi');
  writeFileSync(file, `#!/bin/sh\nprintf '${lines.join('\\n')}\\n'\nexec sleep 20\n`);
  chmodSync(file, 0o755);
  process.env.PATH = `${folder}:${PATH}`;
}

async function readWithin(meter: PowerMeter, milliseconds: number) {
  for (const end = performance.now() + milliseconds; performance.now() < end;) {
    const reading = meter.read();
    if (reading) return reading;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return meter.read();
}

describe('a power meter', () => {
  it('has the medians of what can be read, and forgets them on restart', async () => {
    standIn(['690.5, 1740, 700.00', '[N/A], 1700, 700.00', '650.0, 1980, 700.00', '710.0, 1500, 700.00']);
    const meter = new PowerMeter();
    expect(await readWithin(meter, 5000)).toEqual({ watts: 690.5, megahertz: 1740, limitWatts: 700 });
    meter.restart();
    expect(meter.read()).toBeUndefined();
    meter.stop();
  });

  it('reads nothing where there is no such program', async () => {
    process.env.PATH = '/nonexistent';
    const meter = new PowerMeter();
    expect(await readWithin(meter, 100)).toBeUndefined();
    meter.stop();
    // At once, before the failure is told: a signal would reach the group of this process.
    new PowerMeter().stop();
  });
});
