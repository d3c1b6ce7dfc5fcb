/**
 * Reporter of `npm test`: sums up the run, ring by ring, in the file that NANOFLOW_TEST_SUMMARY names.
 * What the counts mean for the exit code is decided in scripts/test.js.
 */
import { writeFileSync } from 'node:fs';
import type { Reporter, TestCase, TestModule, Vitest } from 'vitest/node';

export interface Skip {
  /** File, suites and name. */
  test: string;
  /** What the test said; '' when it said nothing, which is a failure. */
  reason: string;
}

export interface RingSummary {
  passed: number;
  failed: number;
  skips: Skip[];
}

export interface TestSummary {
  rings: Record<string, RingSummary>;
  /** Errors outside of any test: files that do not load, rejections that nobody handled. */
  otherErrors: string[];
  /** A name filter skips tests without asking them for a reason. */
  filteredByName: boolean;
}

function nameOf(test: TestCase): string {
  return `${test.module.relativeModuleId} > ${test.fullName}`;
}

function addModule(module: TestModule, ring: RingSummary, otherErrors: string[]): void {
  for (const test of module.children.allTests()) {
    const result = test.result();
    if (result.state === 'passed') ring.passed++;
    else if (result.state === 'skipped') ring.skips.push({ test: nameOf(test), reason: result.note ?? '' });
    else ring.failed++;
  }
  const suites = [...module.children.allSuites()];
  for (const error of [module, ...suites].flatMap((suite) => suite.errors())) {
    otherErrors.push(`${module.relativeModuleId}: ${error.message}`);
  }
}

export default class SummaryReporter implements Reporter {
  #vitest!: Vitest;

  onInit(vitest: Vitest): void {
    this.#vitest = vitest;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly { message: string }[]): void {
    const summary: TestSummary = {
      rings: {},
      otherErrors: unhandled.map((error) => error.message),
      filteredByName: this.#vitest.config.testNamePattern !== undefined,
    };
    for (const module of modules) {
      const ring = (summary.rings[module.project.name] ??= { passed: 0, failed: 0, skips: [] });
      addModule(module, ring, summary.otherErrors);
    }
    const file = process.env.NANOFLOW_TEST_SUMMARY;
    if (file) writeFileSync(file, JSON.stringify(summary));
  }
}
