/** Entry of dist/tests/device.mjs: `node device.mjs [text...]` runs the conformance tests whose name has one of the texts. */
import { runFiles } from './miniVitest.ts';

const files = import.meta.glob('../device/*.test.ts') as Record<string, () => Promise<unknown>>;
const { failed } = await runFiles(files, process.argv.slice(2));
process.exit(failed > 0 ? 1 : 0);
