/** Where Node keeps the tables of searched pipelines: beside the models of `nanoflow pull` (NANOFLOW_CACHE). */
import { homedir } from 'node:os';
import { join } from 'node:path';

export function tableFile(key: string): string {
  return join(
    process.env.NANOFLOW_CACHE || join(homedir(), '.cache', 'nanoflow'),
    'pipelines',
    `${key}.json`,
  );
}
