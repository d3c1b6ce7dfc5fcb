/** `nanoflow serve`: loads a model and answers HTTP until a signal ends it. */
import { join } from 'node:path';
import { Command } from 'commander';
import { checkAddress, checkExposure, ListenError, type Server, startServer } from '../server/main.ts';
import { packageRoot } from '../worker/node/client.ts';
import { describeEngine } from './describe.ts';
import { addEngineOptions, type EngineFlags, loadModel } from './engineOptions.ts';
import { CliError, collect, decimal, integer } from './values.ts';
import { version } from './version.ts';

interface ServeFlags extends EngineFlags {
  host: string;
  port: number;
  apiKey?: string[];
  servedModelName?: string;
  maxQueuedRequests?: number;
  maxQueuedTokens?: number;
  corsOrigin?: string[];
  allowedHost?: string[];
  graceSeconds: number;
  insecure?: boolean;
}

export function serveCommand(): Command {
  const command = new Command('serve')
    .description('serve a model: OpenAI-compatible HTTP API and chat page')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <number>', 'port to listen on; 0: any free one', integer(0, 65535), 8000)
    .option(
      '--api-key <key>',
      'clients must send it; several allowed (environment: NANOFLOW_API_KEY)',
      collect,
    )
    .option('--served-model-name <name>', 'name that clients use for the model')
    .option('--max-queued-requests <n>', 'requests that may wait before others get 429', integer(0))
    .option('--max-queued-tokens <n>', 'prompt tokens that may wait before others get 429', integer(1))
    .option(
      '--cors-origin <origin>',
      "web pages that may call this server; '*' for all, several allowed",
      collect,
    )
    .option('--allowed-host <name>', 'further Host header to answer to on a loopback address', collect)
    .option(
      '--grace-seconds <n>',
      'time that running requests get when the server is stopped',
      decimal(0, 86400),
      30,
    )
    .option('--insecure', 'allow a public address without an API key');
  return addEngineOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  nanoflow serve                                          the embedded model on http://127.0.0.1:8000
  nanoflow serve --model ./Llama-3.2-1B-Instruct          a model directory
  nanoflow serve --model Qwen/Qwen2.5-0.5B-Instruct       a model of the Hugging Face hub
  nanoflow serve --host 0.0.0.0 --api-key "$(openssl rand -hex 16)"`,
    )
    .action(serve);
}

async function serve(flags: ServeFlags): Promise<void> {
  const apiKeys = flags.apiKey ?? (process.env['NANOFLOW_API_KEY'] ? [process.env['NANOFLOW_API_KEY']] : []);
  if (apiKeys.some((key) => !/^[!-~]+$/.test(key)))
    throw new CliError('--api-key must be one or more visible ASCII characters without spaces');
  const address = { host: flags.host, port: flags.port, apiKeys, insecure: flags.insecure };
  const say = (line: string) => process.stdout.write(`${line}\n`);
  say(`nanoflow ${version}`);
  try {
    // Before the model, which may take minutes.
    checkExposure(address);
    await checkAddress(flags.host, flags.port);
    const { client, directory } = await loadModel(flags, {
      servedModelName: flags.servedModelName,
      maxQueuedRequests: flags.maxQueuedRequests,
      maxQueuedTokens: flags.maxQueuedTokens,
    });
    const server = await startServer({
      ...address,
      client,
      version,
      allowedHosts: flags.allowedHost,
      corsOrigins: flags.corsOrigin,
      pageDirectory: join(packageRoot(), 'dist', 'app'),
      modelDirectory: directory,
      processMetrics: true,
      log: (line) => process.stderr.write(`${line}\n`),
      onEngineDead: (reason) => {
        process.stderr.write(`nanoflow serve: ${reason}; ending, so that it can be started again\n`);
        process.exit(1);
      },
    });
    for (const line of describeEngine(client.info)) say(line);
    say(`serving  ${server.url}  (chat page; API under ${server.url}/v1)`);
    say(`try      ${curlLine(server.url, client.info.model.hasChatTemplate, apiKeys.length > 0)}`);
    stopOnSignal(server, () => client.dispose(), flags.graceSeconds * 1000);
  } catch (error) {
    if (error instanceof ListenError) throw new CliError(error.message);
    throw error;
  }
}

function curlLine(url: string, isChat: boolean, needsKey: boolean): string {
  const key = needsKey ? ` -H 'Authorization: Bearer <key>'` : '';
  const json = `-H 'Content-Type: application/json'${key}`;
  return isChat
    ? `curl ${url}/v1/chat/completions ${json} -d '{"messages":[{"role":"user","content":"What is a batch?"}]}'`
    : `curl ${url}/v1/completions ${json} -d '{"prompt":"Once upon a time","max_tokens":64}'`;
}

/** First signal: no new requests, running ones get the grace period. Second: now. */
function stopOnSignal(server: Server, dispose: () => Promise<void>, graceMs: number): void {
  let isStopping = false;
  const onSignal = (signal: 'SIGINT' | 'SIGTERM') => {
    if (isStopping) process.exit(signal === 'SIGINT' ? 130 : 143);
    isStopping = true;
    process.stderr.write(
      `${signal}: finishing running requests, at most ${graceMs / 1000} s; again to end now\n`,
    );
    void server
      .stop(graceMs)
      .then(async (aborted) => {
        if (aborted > 0) process.stderr.write(`${aborted} requests were aborted after the grace period\n`);
        await dispose();
        process.exit(0);
      })
      .catch((error: unknown) => {
        process.stderr.write(`nanoflow serve: ${String((error as Error)?.stack ?? error)}\n`);
        process.exit(1);
      });
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
}
