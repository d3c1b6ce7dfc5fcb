/**
 * As much of vitest as the conformance and parity tests use, in one file without the runner: for bundles that run on
 * machines without npm (scripts/bundle-tests.js). Tests run one after the other, in the order of their files.
 */
import { format } from 'node:util';
import {
  chai,
  customMatchers,
  GLOBAL_EXPECT,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  setState,
} from '@vitest/expect';

type Body = (...values: never[]) => unknown;
type Options = { timeout?: number };

interface Context {
  skip(condition: boolean | string, note?: string): void;
}

interface Suite {
  name: string;
  parent?: Suite;
  items: (Suite | Test)[];
  before: Body[];
  beforeEach: Body[];
  after: Body[];
}

interface Test {
  name: string;
  run: (context: Context) => unknown;
}

class Skipped extends Error {}

const newSuite = (name: string, parent?: Suite): Suite => ({
  name,
  parent,
  items: [],
  before: [],
  beforeEach: [],
  after: [],
});

let current = newSuite('');

export function describe(name: string, body: () => void): void {
  const suite = newSuite(name, current);
  current.items.push(suite);
  current = suite;
  try {
    body();
  } finally {
    current = suite.parent!;
  }
}

export function it(name: string, options: Options | Body, body?: Body | number): void {
  const run = (typeof options === 'function' ? options : body) as Test['run'];
  current.items.push({ name, run });
}

/** "%s" and "$field" in the name of a case. */
function caseName(name: string, value: unknown): string {
  const values = Array.isArray(value) ? (value as unknown[]) : [value];
  const [record] = values as [Record<string, unknown>];
  const filled = name.replace(/\$(\w+)/g, (_, field: string) => String(record?.[field]));
  const used = filled.match(/%[sijd]/g)?.length ?? 0;
  return format(filled, ...values.slice(0, used));
}

const spread = (value: unknown): never[] => (Array.isArray(value) ? value : [value]) as never[];

type Cases = readonly unknown[];

describe.each =
  (cases: Cases) =>
  (name: string, body: Body): void => {
    for (const value of cases) describe(caseName(name, value), () => void body(...spread(value)));
  };
it.each =
  (cases: Cases) =>
  (name: string, body: Body): void => {
    for (const value of cases) it(caseName(name, value), () => body(...spread(value)));
  };
it.for =
  (cases: Cases) =>
  (name: string, body: (value: unknown, context: Context) => unknown): void => {
    for (const value of cases)
      it(caseName(name, value), ((context: Context) => body(value, context)) as Body);
  };
export const test = it;

export const beforeAll = (body: Body): void => void current.before.push(body);
export const beforeEach = (body: Body): void => void current.beforeEach.push(body);
export const afterAll = (body: Body): void => void current.after.push(body);

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);
export const expect = Object.assign(
  (value: unknown, message?: string) => chai.expect(value, message),
  chai.expect,
);
Object.assign(globalThis, { [GLOBAL_EXPECT]: expect });
setState(
  { assertionCalls: 0, isExpectingAssertions: false, expectedAssertionsNumber: null } as never,
  expect as never,
);
(chai.expect as unknown as { extend(on: object, matchers: object): void }).extend(expect, customMatchers);

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/**
 * Loads the files and runs their tests: those with one of `filters` in "file > suite > name", all without filters.
 * @param files how to load each one
 */
export async function runFiles(
  files: Record<string, () => Promise<unknown>>,
  filters: readonly string[],
): Promise<Counts> {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const [file, load] of Object.entries(files)) {
    const suite = newSuite(file);
    current = suite;
    await load();
    const started = performance.now();
    const before = { ...counts };
    await runSuite(suite, file, filters, counts, []);
    const ran = counts.passed + counts.failed - before.passed - before.failed;
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    if (ran > 0) console.log(`${file}: ${counts.passed - before.passed} of ${ran} passed in ${seconds} s`);
  }
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  return counts;
}

function wanted(name: string, filters: readonly string[]): boolean {
  return filters.length === 0 || filters.some((filter) => name.includes(filter));
}

function isWanted(item: Suite | Test, name: string, filters: readonly string[]): boolean {
  if (!('items' in item)) return wanted(name, filters);
  return item.items.some((inner) => isWanted(inner, `${name} > ${inner.name}`, filters));
}

async function runSuite(
  suite: Suite,
  path: string,
  filters: readonly string[],
  counts: Counts,
  outer: readonly Body[],
): Promise<void> {
  if (!isWanted(suite, path, filters)) return;
  const each = [...outer, ...suite.beforeEach];
  const report = (name: string, error: unknown): void => {
    counts.failed++;
    console.log(`FAILED ${name}\n${error instanceof Error ? error.stack : String(error)}`);
  };
  try {
    for (const body of suite.before) await body();
  } catch (error) {
    report(`${path} (beforeAll)`, error);
    return;
  }
  for (const item of suite.items) {
    const name = `${path} > ${item.name}`;
    if (!isWanted(item, name, filters)) continue;
    if ('items' in item) {
      await runSuite(item, name, filters, counts, each);
      continue;
    }
    try {
      for (const body of each) await (body as Test['run'])(context);
      await item.run(context);
      counts.passed++;
    } catch (error) {
      if (error instanceof Skipped) counts.skipped++;
      else report(name, error);
    }
  }
  try {
    for (const body of suite.after) await body();
  } catch (error) {
    report(`${path} (afterAll)`, error);
  }
}

const context: Context = {
  skip(condition, note) {
    if (condition !== false) throw new Skipped(note ?? String(condition));
  },
};
