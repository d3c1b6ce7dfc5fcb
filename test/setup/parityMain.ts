/** Entry of dist/tests/parity.mjs: the golden models on the device under test, run from the repository's root. */
import { runFiles } from './miniVitest.ts';

const files = import.meta.glob(['../model/parity.test.ts', '../model/cudaEngine.test.ts']) as Record<
  string,
  () => Promise<unknown>
>;
const { failed } = await runFiles(files, process.argv.slice(2));
process.exit(failed > 0 ? 1 : 0);
