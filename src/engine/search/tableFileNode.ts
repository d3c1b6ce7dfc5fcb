/** Where Node keeps the tables of searched pipelines. */
import { join } from 'node:path';
import { cacheFolder } from '../cacheFolderNode.ts';

export function tableFile(key: string): string {
  return join(cacheFolder('pipelines'), `${key}.json`);
}
