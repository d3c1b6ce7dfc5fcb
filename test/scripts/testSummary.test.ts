import { expect, test } from 'vitest';
import { judge } from '../../scripts/lib/testSummary.js';
import type { RingSummary, TestSummary } from '../setup/reporter.ts';

const ring = (passed: number, failed = 0, ...skips: RingSummary['skips']): RingSummary => ({
  passed,
  failed,
  skips,
});
const summary = (rings: Record<string, RingSummary>, more: Partial<TestSummary> = {}): TestSummary => ({
  rings,
  otherErrors: [],
  filteredByName: false,
  ...more,
});
const counts = ({ passed, failed }: { passed: number; failed: number }) => [passed, failed];

test('adds up the rings', () => {
  expect(counts(judge(summary({ unit: ring(5), device: ring(7, 2) }), 1, ['unit', 'device']))).toEqual([
    12, 2,
  ]);
  expect(counts(judge(summary({ unit: ring(5), device: ring(7) }), 0, ['unit', 'device']))).toEqual([12, 0]);
});

test('a skip with a reason is reported and counts as nothing', () => {
  const skip = { test: 'a.test.ts > f16', reason: 'the adapter has no shader-f16' };
  const judged = judge(summary({ device: ring(1, 0, skip) }), 0, ['device']);
  expect(counts(judged)).toEqual([1, 0]);
  expect(judged.report).toContainEqual('skipped  a.test.ts > f16: the adapter has no shader-f16');
});

test('a skip without a reason fails, unless a name filter made it', () => {
  const skipped = { device: ring(1, 0, { test: 'a', reason: '' }) };
  expect(counts(judge(summary(skipped), 0, []))).toEqual([1, 1]);
  expect(counts(judge(summary(skipped, { filteredByName: true }), 0, []))).toEqual([1, 0]);
});

test('a ring that ran nothing fails, be it absent, empty or all skipped', () => {
  const skip = { test: 'a', reason: 'because' };
  const deviceRings: Record<string, RingSummary>[] = [{}, { device: ring(0) }, { device: ring(0, 0, skip) }];
  for (const rings of deviceRings) {
    const judged = judge(summary({ unit: ring(3), ...rings }), 0, ['unit', 'device']);
    expect(counts(judged)).toEqual([3, 1]);
    expect(judged.report).toContainEqual('problem  no test ran in ring device');
  }
});

test('nothing at all, no summary, an error outside of tests, and an unexplained exit code fail', () => {
  expect(counts(judge(summary({}), 0, []))).toEqual([0, 1]);
  expect(counts(judge(undefined, null, []))).toEqual([0, 1]);
  expect(counts(judge(summary({ unit: ring(2) }, { otherErrors: ['does not load'] }), 1, ['unit']))).toEqual([
    2, 1,
  ]);
  expect(counts(judge(summary({ unit: ring(2) }), 7, ['unit']))).toEqual([2, 1]);
});

test('the report lists the rings in the order in which they run', () => {
  const { report } = judge(summary({ e2e: ring(1), unit: ring(1), device: ring(1) }), 0, [
    'unit',
    'device',
    'e2e',
  ]);
  expect(report.map((line) => line.split(' ')[0])).toEqual(['unit', 'device', 'e2e']);
});
