/** Prints the simulator against NanoFlow's published figures; the README's table is its `markdown`. */
import { fidelity, type FidelityRow, type OfflineSteps } from '../../src/engine/device/sim/fidelity.ts';
import { fidelityMarkdown, fidelityText } from '../../src/engine/device/sim/fidelityTable.ts';

export interface FidelityBench {
  device: { kind: string; name: string };
  unit: string;
  rows: FidelityRow[];
  markdown: string;
}

export async function runFidelityBench({
  print,
  offline,
}: {
  print: (line: string) => void;
  offline?: OfflineSteps;
}): Promise<FidelityBench> {
  const rows = fidelity(offline);
  print('model against published figures (NanoFlow, OSDI 2025)');
  print('');
  for (const line of fidelityText(rows).trimEnd().split('\n')) print(line);
  return {
    device: { kind: 'sim', name: 'a100-80' },
    unit: 'tokens per second and GPU, or milliseconds of an iteration; modelled',
    rows,
    markdown: fidelityMarkdown(rows),
  };
}
