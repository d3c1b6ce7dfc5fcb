/** Measures an engine through its client: N streams at the same time, from submission to the last token. */
import type { GenerateRequest } from '../protocol.ts';
import type { EngineClient } from '../worker/types.ts';

export interface Load {
  streams: number; // requests at the same time
  promptTokens: number;
  outputTokens: number; // of each request; its end of sequence is ignored
}

/** What is measured: the engine's client, or the engine alone with the same face. */
export type MeasuredClient = Pick<EngineClient, 'info' | 'generate'>;

/** Milliseconds from the start of the run. */
export interface RequestTimes {
  submitted: number;
  firstToken: number;
  ended: number;
  tokens: number;
}

export interface RunTimes {
  /** Milliseconds from the first submission to the last token. */
  wall: number;
  firstToken: number[]; // ms, one per request
  /** Milliseconds between two tokens of a request: the pauses that a reader sees. */
  gaps: number[];
  tokens: number;
  requests: RequestTimes[];
}

export interface Figures {
  streams: number;
  promptTokens: number;
  outputTokens: number;
  /** Medians over the runs. Output tokens of all streams per second, prefill included. */
  totalRate: number;
  /** Tokens per second of one stream, from its first token on. */
  streamRate: number;
  firstTokenP50: number; // ms
  firstTokenP99: number;
  gapP50: number; // ms
  gapP99: number;
  runs: number;
}

/** Smallest value that `share` of all values do not exceed; NaN when there is none. */
export function percentile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? NaN;
}

export function median(values: number[]): number {
  return percentile(values, 0.5);
}

/** Tokens that follow from the seed: the same prompts in each run, of no meaning. */
function randomPrompt(length: number, vocabSize: number, seed: number): number[] {
  let state = (seed * 2654435761) >>> 0 || 1;
  return Array.from({ length }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % vocabSize;
  });
}

function request(load: Load, vocabSize: number, seed: number): Omit<GenerateRequest, 'id'> {
  return {
    promptTokenIds: randomPrompt(load.promptTokens, vocabSize, seed),
    sampling: {
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
      repetitionPenalty: 1,
      logitBias: [],
    },
    stop: { maxTokens: load.outputTokens, minTokens: 0, ignoreEos: true, stopStrings: [], stopTokenIds: [] },
  };
}

/** One run of a load. @throws Error when a request ends early: the figures would be wrong */
export async function runOnce(client: MeasuredClient, load: Load): Promise<RunTimes> {
  const times: RunTimes = { wall: 0, firstToken: [], gaps: [], tokens: 0, requests: [] };
  const began = performance.now();
  const one = async (_: unknown, index: number) => {
    const submitted = performance.now();
    const events = await client.generate(request(load, client.info.model.vocabSize, index + 1));
    let last: number | undefined;
    const own = { submitted: submitted - began, firstToken: 0, ended: 0, tokens: 0 };
    times.requests.push(own);
    for await (const event of events) {
      if (event.type === 'end') {
        if (event.usage.completionTokens !== load.outputTokens)
          throw new Error(
            `a request ended after ${event.usage.completionTokens} of ${load.outputTokens} tokens (${event.finishReason})`,
          );
        continue;
      }
      const now = performance.now();
      if (last === undefined) {
        times.firstToken.push(now - submitted);
        own.firstToken = now - began;
      } else times.gaps.push(now - last);
      last = now;
      own.ended = now - began;
      own.tokens += event.tokenIds.length;
      times.tokens += event.tokenIds.length;
    }
  };
  await Promise.all(Array.from({ length: load.streams }, one));
  times.wall = performance.now() - began;
  return times;
}

/** One unmeasured run, then `runs` measured ones; `requests` are those of the last. */
export async function measure(
  client: MeasuredClient,
  load: Load,
  runs: number,
): Promise<{ figures: Figures; requests: RequestTimes[] }> {
  await runOnce(client, { ...load, outputTokens: Math.min(load.outputTokens, 16) });
  const all: RunTimes[] = [];
  for (let run = 0; run < runs; run++) all.push(await runOnce(client, load));
  const firstToken = all.flatMap((run) => run.firstToken);
  const gaps = all.flatMap((run) => run.gaps);
  const meanGap = all.map((run) => run.gaps.reduce((sum, gap) => sum + gap, 0) / run.gaps.length);
  const figures = {
    ...load,
    totalRate: median(all.map((run) => (run.tokens / run.wall) * 1000)),
    streamRate: 1000 / median(meanGap),
    firstTokenP50: median(firstToken),
    firstTokenP99: percentile(firstToken, 0.99),
    gapP50: median(gaps),
    gapP99: percentile(gaps, 0.99),
    runs,
  };
  return { figures, requests: all.at(-1)!.requests };
}
