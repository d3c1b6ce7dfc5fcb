/** Where tuned GEMM tables are kept: a file for each device, driver and version of the engine. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cacheFolder } from '../../../cacheFolderNode.ts';
import { parseTable, type TunedEntry, type TunedSubject, type TunedTable } from './table.ts';

export function gemmTableFile({ device, driver, engine }: TunedSubject): string {
  const slug = `${device} ${driver} ${engine}`.toLowerCase().replaceAll(/[^a-z0-9.]+/g, '-');
  return join(cacheFolder('gemm'), `${slug}.json`);
}

/** The kept table; undefined where there is none. @throws Error for a file that is of no use */
export function readGemmTable(subject: TunedSubject): TunedTable | undefined {
  let text: string;
  try {
    text = readFileSync(gemmTableFile(subject), 'utf8');
  } catch {
    return undefined;
  }
  return parseTable(text, subject);
}

/** Adds entries to the kept table. Returns the whole. */
export function keepGemmTable(subject: TunedSubject, entries: Record<string, TunedEntry>): TunedTable {
  let known: TunedTable | undefined;
  try {
    known = readGemmTable(subject);
  } catch {
    known = undefined;
  }
  const table: TunedTable = {
    format: 'nanoflow-gemm-table',
    version: 1,
    subject,
    entries: { ...known?.entries, ...entries },
  };
  const file = gemmTableFile(subject);
  mkdirSync(dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}.partial`;
  writeFileSync(partial, `${JSON.stringify(table, null, 1)}\n`);
  renameSync(partial, file);
  return table;
}
