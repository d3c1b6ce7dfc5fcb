/** Entry of the `nanoflow` command (dist/node/cli.js). */
import { run } from './program.ts';

const code = await run(process.argv.slice(2));
if (code !== undefined) process.exit(code);
