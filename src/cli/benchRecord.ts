/** What every bench leaves behind: figures as JSON with what is needed to repeat them, and a trace when asked. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Option, type Command } from 'commander';
import { packageRoot } from '../worker/node/client.ts';
import { describeMachine, deviceName } from './describe.ts';
import { version } from './version.ts';

export interface RecordFlags {
  json?: string;
  trace?: string;
  save: boolean;
}

export function addRecordOptions(command: Command): Command {
  return command
    .option('--json <file>', 'where to save the figures (default: bench/results/<date>-<device>-<name>.json)')
    .option(
      '--trace <file>',
      'save a trace: .chrome.json or .perfetto.json for ui.perfetto.dev, other names get the columnar format (.gz packs)',
    )
    .addOption(new Option('--no-save', 'only print the figures'));
}

/** "webgpu-llvmpipe-llvm-19": a device's name as part of a file's. */
function slug({ kind, name }: { kind: string; name: string }): string {
  const words = `${kind} ${name === kind ? '' : name}`.toLowerCase().match(/[a-z0-9]+/g) ?? [kind];
  return words.slice(0, 5).join('-');
}

/** @returns the file, without its '.json': the place for figures beside it; undefined when nothing is saved */
export async function saveRecord(
  flags: RecordFlags,
  name: string,
  device: { kind: string; name: string },
  figures: object,
): Promise<string | undefined> {
  if (!flags.save && flags.json === undefined) return undefined;
  const date = new Date().toISOString();
  // In a clone next to the benches; an installed package is not a place to write to.
  const home = existsSync(join(packageRoot(), 'src')) ? packageRoot() : process.cwd();
  const folder = join(home, 'bench', 'results');
  const file = flags.json ?? join(folder, `${date.slice(0, 10)}-${slug(device)}-${name}.json`);
  const record = {
    name,
    date,
    version,
    command: `nanoflow ${process.argv.slice(2).join(' ')}`,
    device: deviceName(device),
    machine: describeMachine(),
    ...figures,
  };
  if (flags.json === undefined) await mkdir(folder, { recursive: true });
  await writeFile(file, `${JSON.stringify(record, null, 2)}\n`);
  process.stderr.write(`saved ${file}\n`);
  return file.replace(/\.json$/, '');
}
