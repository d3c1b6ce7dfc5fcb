import { describe, expect, it } from 'vitest';
import { fidelity, type FidelityRow } from '../../src/engine/device/sim/fidelity.ts';
import { FIDELITY_NOTES, fidelityMarkdown, fidelityText } from '../../src/engine/device/sim/fidelityTable.ts';

const rows = fidelity();
const row = (name: string): FidelityRow => rows.find((other) => other.name === name)!;
const columns = ['512-0', '512-512', '1024-512', '512-1024'];

describe('the model against NanoFlow', () => {
  it.each(rows.filter(({ name }) => name !== 'PfAttn').map((each) => [each.name, each.error] as const))(
    '%s is within 10 %% of what was published',
    (_, error) => expect(Math.abs(error)).toBeLessThan(0.1),
  );

  it('meets what it is calibrated on within 3 %', () => {
    const calibrated = rows.filter((each) => each.calibrated);
    expect(calibrated.map(({ name }) => name)).toEqual(['KQV', 'O', 'UG', 'D', 'DecAttn', 'Net']);
    for (const { error } of calibrated) expect(Math.abs(error)).toBeLessThan(0.03);
    // Too few tiles for the SMs: see the table's notes.
    expect(Math.abs(row('PfAttn').error)).toBeLessThan(0.2);
  });

  it('ranks the variants as the ablation does', () => {
    for (const column of columns) {
      const [plain, split, whole, offload] = [
        'non-overlap',
        'nano-batch only',
        'NanoFlow',
        'NanoFlow + offload',
      ].map((variant) => row(`${variant} ${column}`).modelled);
      expect(split).toBeLessThan(plain);
      expect(whole).toBeGreaterThan(plain);
      expect(offload).toBeLessThan(whole);
      expect(offload).toBeGreaterThan(plain);
    }
  });

  it('has every row of the published ablation, and prints all of them', () => {
    expect(rows.filter(({ unit }) => unit === 'tokens/s/GPU')).toHaveLength(1 + 3 + 16 + 1);
    const text = fidelityText(rows);
    const markdown = fidelityMarkdown(rows);
    for (const { name, published } of rows) {
      const lines = text.split('\n').filter((each) => each.startsWith(name));
      expect(lines.join()).toContain(String(published));
      expect(markdown).toContain(`| ${name}`);
    }
    for (const note of FIDELITY_NOTES) expect(text).toContain(note);
  });
});
