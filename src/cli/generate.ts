/** `nanoflow generate`: one prompt, its answer streamed to standard output, figures to standard error. */
import { text as readAll } from 'node:stream/consumers';
import { Command } from 'commander';
import type { ChatMessage, SamplingParams, StopParams } from '../protocol.ts';
import { type EngineClient, GenerateError } from '../worker/types.ts';
import { deviceName } from './describe.ts';
import { addEngineOptions, type EngineFlags, loadModel } from './engineOptions.ts';
import { CliError, collect, decimal, integer } from './values.ts';

interface GenerateFlags extends EngineFlags {
  chat?: boolean;
  system?: string;
  maxTokens: number;
  temperature: number;
  topP: number;
  topK: number;
  seed?: number;
  stop?: string[];
  ignoreEos?: boolean;
}

export function generateCommand(): Command {
  const command = new Command('generate')
    .description('answer one prompt')
    .argument('[prompt]', 'text; left out or "-": standard input')
    .option('--chat', "the prompt is a user's message: use the model's chat template")
    .option('--system <text>', 'system message (with --chat)')
    .option('--max-tokens <n>', 'most tokens of the answer', integer(1), 256)
    .option('--temperature <x>', '0: always the most likely token', decimal(0, 2), 0)
    .option('--top-p <x>', 'draw from the likeliest tokens that make up this much', decimal(0.001, 1), 1)
    .option('--top-k <n>', 'draw from this many likeliest tokens; 0: all', integer(0), 0)
    .option('--seed <n>', 'same seed, same answer', integer(Number.MIN_SAFE_INTEGER))
    .option('--stop <text>', 'end before this text; several allowed', collect)
    .option('--ignore-eos', "go on after the model's end of sequence");
  return addEngineOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  nanoflow generate --chat "What is continuous batching?"
  echo "Once upon a time" | nanoflow generate --max-tokens 100 --temperature 0.8 --seed 1`,
    )
    .action(generate);
}

async function generate(prompt: string | undefined, flags: GenerateFlags): Promise<void> {
  if (flags.system !== undefined && !flags.chat) throw new CliError('--system needs --chat');
  if (prompt === undefined && process.stdin.isTTY)
    throw new CliError('no prompt: give it as an argument, or on standard input');
  const input = prompt === undefined || prompt === '-' ? await readAll(process.stdin) : prompt;
  if (input === '') throw new CliError('the prompt is empty');
  const { client } = await loadModel(flags);
  try {
    await answer(client, input, flags);
  } catch (error) {
    if (error instanceof GenerateError) throw new CliError(error.message);
    throw error;
  } finally {
    await client.dispose();
  }
}

async function answer(client: EngineClient, input: string, flags: GenerateFlags): Promise<void> {
  const promptTokenIds = flags.chat
    ? await encodeChat(client, input, flags.system)
    : await client.encode(input);
  const abort = new AbortController();
  const onInterrupt = () => abort.abort();
  process.once('SIGINT', onInterrupt);
  // `| head` closes the pipe: enough was read.
  process.stdout.on('error', onInterrupt);
  const events = await client.generate(
    { promptTokenIds, sampling: sampling(flags), stop: stopping(flags) },
    { signal: abort.signal },
  );
  for await (const event of events) {
    if (event.type === 'tokens') {
      if (!process.stdout.destroyed) process.stdout.write(event.text);
      continue;
    }
    if (!process.stdout.destroyed) process.stdout.write('\n');
    const { usage, timings } = event;
    const rate = usage.completionTokens > 1 ? (usage.completionTokens - 1) / timings.decode : 0;
    process.stderr.write(
      `${usage.promptTokens} prompt tokens, ${usage.completionTokens} tokens (${event.finishReason}); ` +
        `first after ${(timings.timeToFirstToken * 1000).toFixed(0)} ms, ` +
        `then ${rate.toFixed(1)} tokens/s on ${deviceName(client.info.device)}\n`,
    );
    if (event.finishReason === 'abort' && !process.stdout.destroyed) process.exitCode = 130;
  }
  process.off('SIGINT', onInterrupt);
}

async function encodeChat(client: EngineClient, content: string, system?: string): Promise<number[]> {
  const messages: ChatMessage[] = system === undefined ? [] : [{ role: 'system', content: system }];
  messages.push({ role: 'user', content: content.trimEnd() });
  return (await client.encodeChat(messages)).tokenIds;
}

function sampling(flags: GenerateFlags): SamplingParams {
  return {
    temperature: flags.temperature,
    topK: flags.topK,
    topP: flags.topP,
    minP: 0,
    presencePenalty: 0,
    frequencyPenalty: 0,
    repetitionPenalty: 1,
    logitBias: [],
    seed: flags.seed,
  };
}

function stopping(flags: GenerateFlags): StopParams {
  return {
    maxTokens: flags.maxTokens,
    minTokens: 0,
    ignoreEos: flags.ignoreEos ?? false,
    stopStrings: flags.stop ?? [],
    stopTokenIds: [],
  };
}
