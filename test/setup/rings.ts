/**
 * The test rings: which files belong to each, and what it needs (style: rings are named by their needs).
 *
 * | ring    | files                                   | needs                                             |
 * | ------- | --------------------------------------- | ------------------------------------------------- |
 * | unit    | test/** but the folders below           | nothing                                           |
 * | device  | test/device/**                          | a WebGPU adapter that Dawn accepts                |
 * | model   | test/model/**                           | the same, and the committed goldens               |
 * | browser | test/browser/**                         | a Chromium, and the built page                    |
 * | e2e     | test/e2e/**                             | the built command; starts real servers            |
 *
 * `npm test` (scripts/test.js) brings the needs, then runs all of them; `npx vitest run --project unit` runs one.
 */
import type { TestProjectInlineConfiguration, ViteUserConfig } from 'vitest/config';

type TestOptions = NonNullable<ViteUserConfig['test']>;

/** Oldest Node that the bundles and the command support; package.json `engines` says the same. */
export const nodeVersionTarget = 'node20.19';

const second = 1000;

/** One ring. Rings run one after another; only `unit` runs its files side by side. */
function ring(name: string, order: number, options: TestOptions): TestProjectInlineConfiguration {
  return {
    extends: true,
    test: {
      name,
      environment: 'node',
      pool: 'forks',
      include: [`test/${name}/**/*.test.ts`],
      sequence: { groupOrder: order },
      ...options,
    },
  };
}

/** One file at a time: software adapters use every core, and timings of servers suffer from neighbours. */
const oneAtATime: TestOptions = { fileParallelism: false, maxWorkers: 1 };

export const rings: TestOptions = {
  allowOnly: false,
  reporters: ['default'],
  projects: [
    ring('unit', 1, {
      include: ['test/**/*.test.ts'],
      exclude: ['test/{device,model,browser,e2e}/**'],
      maxWorkers: 2,
      testTimeout: 30 * second,
      hookTimeout: 60 * second,
    }),
    ring('device', 2, { ...oneAtATime, testTimeout: 120 * second, hookTimeout: 120 * second }),
    ring('model', 3, { ...oneAtATime, testTimeout: 300 * second, hookTimeout: 300 * second }),
    ring('browser', 4, {
      ...oneAtATime,
      globalSetup: 'test/setup/built.ts',
      testTimeout: 180 * second,
      hookTimeout: 180 * second,
    }),
    ring('e2e', 5, {
      ...oneAtATime,
      globalSetup: 'test/setup/built.ts',
      testTimeout: 180 * second,
      hookTimeout: 180 * second,
    }),
  ],
};
