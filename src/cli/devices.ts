/** `nanoflow devices`: what could compute here, best first, and why or why not. */
import { Command } from 'commander';
import { listKernelModules, listNodeDevices } from '../worker/node/client.ts';
import { formatTable } from './table.ts';

export function devicesCommand(): Command {
  return new Command('devices')
    .description('list the devices of this machine, best first')
    .option('--json', 'as JSON')
    .option(
      '--modules',
      'the kernels of the cuda device: prebuilt (aot), cached (disk) or compiled on first use (jit)',
    )
    .action(async (flags: { json?: boolean; modules?: boolean }) => {
      if (flags.modules) return printModules(flags.json);
      const devices = await listNodeDevices();
      if (flags.json) {
        process.stdout.write(`${JSON.stringify(devices, null, 2)}\n`);
        return;
      }
      const rows = devices.map(({ kind, name, reason }) => [kind, name, reason]);
      process.stdout.write(formatTable(['device', 'name', 'reason'], rows));
    });
}

async function printModules(json = false): Promise<void> {
  const modules = await listKernelModules();
  if (json) {
    process.stdout.write(`${JSON.stringify(modules, null, 2)}\n`);
    return;
  }
  const rows = modules.map(({ origin, architecture, bytes, name }) => [
    origin,
    architecture,
    bytes > 0 ? `${(bytes / 1024).toFixed(0)} KB` : '',
    name,
  ]);
  process.stdout.write(formatTable(['from', 'for', 'size', 'kernel'], rows));
}
