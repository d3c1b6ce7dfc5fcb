/** Where Node keeps what can be made again: searched pipelines, tuned tables, compiled kernels, pulled models. */
import { homedir } from 'node:os';
import { join } from 'node:path';

/** A folder of the cache: $NANOFLOW_CACHE, else ~/.cache/nanoflow. */
export function cacheFolder(name: string): string {
  return join(process.env.NANOFLOW_CACHE || join(homedir(), '.cache', 'nanoflow'), name);
}
