/** Global set-up of the rings that run built files: makes dist/ current, as bin/nanoflow.js does. */
import { ensureBuilt } from '../../scripts/lib/freshness.js';

export async function setup(): Promise<void> {
  await ensureBuilt();
}
