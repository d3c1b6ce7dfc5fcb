/** Turns the summary of a test run (test/setup/reporter.ts) into a report and the two counts that decide. */

/** @typedef {import('../../test/setup/reporter.ts').TestSummary} TestSummary */

/**
 * Failures are the failed tests, and everything else that must not pass for success: errors outside of tests, skips
 * without a reason, rings that ran nothing, a run that ended early.
 * @param {TestSummary | undefined} summary - undefined: the runner ended before it wrote one
 * @param {number | null} exitCode - the runner's
 * @param {string[]} expectedRings - rings of which at least one test must have run
 * @returns {{ report: string[], passed: number, failed: number }} the report's lines, and the counts
 */
export function judge(summary, exitCode, expectedRings) {
  if (!summary)
    return { report: [`vitest ended (exit ${exitCode}) without a summary`], passed: 0, failed: 1 };
  const problems = summary.otherErrors.map((error) => `error outside of a test: ${error}`);
  const report = [];
  let passed = 0;
  let failed = 0;
  for (const [name, ring] of Object.entries(summary.rings).sort(byRing(expectedRings))) {
    passed += ring.passed;
    failed += ring.failed;
    report.push(
      `${name.padEnd(8)} ${ring.passed} passed, ${ring.failed} failed, ${ring.skips.length} skipped`,
    );
  }
  if (!summary.filteredByName) {
    for (const { test, reason } of Object.values(summary.rings).flatMap((ring) => ring.skips)) {
      report.push(`skipped  ${test}: ${reason || '(no reason given)'}`);
      if (!reason) problems.push(`skipped without a reason: ${test}`);
    }
  }
  for (const name of expectedRings) {
    const ring = summary.rings[name];
    if (!ring || ring.passed + ring.failed === 0) problems.push(`no test ran in ring ${name}`);
  }
  if (passed + failed + problems.length === 0) problems.push('no test ran');
  if (exitCode !== 0 && failed + problems.length === 0) problems.push(`vitest failed with exit ${exitCode}`);
  report.push(...problems.map((problem) => `problem  ${problem}`));
  return { report, passed, failed: failed + problems.length };
}

/** Order of the rings in the report: as they run, then the others. */
function byRing(/** @type {string[]} */ order) {
  const place = (/** @type {string} */ name) => (order.includes(name) ? order.indexOf(name) : order.length);
  return (/** @type {[string, unknown]} */ a, /** @type {[string, unknown]} */ b) =>
    place(a[0]) - place(b[0]);
}
