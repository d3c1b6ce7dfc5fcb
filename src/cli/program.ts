/**
 * The `nanoflow` command. Each subcommand is a file, loaded when it is called, so that one does not wait for another's
 * libraries. Exit codes: 0 done, 1 could not be done, 2 wrong use.
 */
import { Command, CommanderError } from 'commander';
import { CliError } from './values.ts';
import { version } from './version.ts';

const subcommands: Record<string, () => Promise<Command>> = {
  serve: async () => (await import('./serve.ts')).serveCommand(),
  generate: async () => (await import('./generate.ts')).generateCommand(),
  pull: async () => (await import('./pull.ts')).pullCommand(),
  bench: async () => (await import('./bench.ts')).benchCommand(),
  search: async () => (await import('./search.ts')).searchCommand(),
  devices: async () => (await import('./devices.ts')).devicesCommand(),
};

/** Throws CommanderError where commander would end the process, also in the subcommands of a subcommand. */
function prepare(command: Command): Command {
  command.exitOverride().showHelpAfterError(`(nanoflow ${command.name()} --help shows the options)`);
  for (const child of command.commands) prepare(child);
  return command;
}

async function createProgram(name: string | undefined): Promise<Command> {
  const program = new Command('nanoflow')
    .description('an LLM serving engine in TypeScript and WGSL')
    .version(version)
    .showHelpAfterError('(nanoflow --help shows the commands)')
    .exitOverride();
  const named = name !== undefined && Object.hasOwn(subcommands, name) ? [subcommands[name]] : undefined;
  for (const load of named ?? Object.values(subcommands)) program.addCommand(prepare(await load()));
  return program;
}

/** @returns the exit code; undefined: the command set it, or goes on (a server) */
export async function run(argv: string[]): Promise<number | undefined> {
  try {
    const program = await createProgram(argv[0]);
    await program.parseAsync(argv, { from: 'user' });
    return undefined;
  } catch (error) {
    // commander has printed its message by then; help and version are no errors.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (error instanceof CliError) {
      process.stderr.write(`nanoflow: ${error.message}\n`);
      return 1;
    }
    process.stderr.write(`nanoflow: ${String((error as Error)?.stack ?? error)}\n`);
    return 1;
  }
}
