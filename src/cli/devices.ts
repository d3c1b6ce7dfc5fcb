/** `nanoflow devices`: what could compute here, best first, and why or why not. */
import { Command } from 'commander';
import { listNodeDevices } from '../worker/node/client.ts';
import { formatTable } from './table.ts';

export function devicesCommand(): Command {
  return new Command('devices')
    .description('list the devices of this machine, best first')
    .option('--json', 'as JSON')
    .action(async (flags: { json?: boolean }) => {
      const devices = await listNodeDevices();
      if (flags.json) {
        process.stdout.write(`${JSON.stringify(devices, null, 2)}\n`);
        return;
      }
      const rows = devices.map(({ kind, name, reason }) => [kind, name, reason]);
      process.stdout.write(formatTable(['device', 'name', 'reason'], rows));
    });
}
