/**
 * The door to the engine's thread and the text threads: turns messages into async iterators and promises. The threads
 * themselves are started by node/client.ts or web/client.ts.
 */
import * as Comlink from 'comlink';
import type {
  EngineApi,
  EngineInfo,
  EngineStats,
  GenerateRequest,
  LoadOptions,
  LoadProgress,
  RequestError,
  RequestEvent,
} from '../protocol.ts';
import { RequestStream } from './requestStream.ts';
import type { TextClient } from './textClient.ts';
import { ThreadCalls, ThreadError, type Thread } from './thread.ts';
import { GenerateError, type EngineClient, type GenerationEvent } from './types.ts';

export { GenerateError, type EngineClient, type GenerationEvent } from './types.ts';

const DISPOSED = 'the engine was shut down';
/**
 * What a thread gets to end its step and free its device; then it is ended as it is. Generous, because a thread that is
 * ended while Dawn has promises open ("Promise not resolved or rejected") takes the whole process with it.
 */
const SHUTDOWN_MILLISECONDS = 10_000;

/** Loads the model in the engine's thread and returns the client. Ends the threads when loading fails. */
export async function connect(
  thread: Thread<EngineApi>,
  text: TextClient,
  options: LoadOptions,
  onProgress: (progress: LoadProgress) => void,
): Promise<EngineClient> {
  const calls = new ThreadCalls(thread);
  const streams = new LiveStreams();
  void thread.crashed.then((reason) => {
    streams.fail({ code: 'device_lost', message: `the engine's thread ended: ${reason}` });
  });
  try {
    const receive = Comlink.proxy((events: RequestEvent[]) => streams.receive(events));
    const report = Comlink.proxy((progress: LoadProgress) => onProgress(progress));
    const [info] = await Promise.all([
      // In the order of the calls: the sink is there before the first event.
      calls.call((api) => {
        void api.events(receive).catch(() => {});
        return api.load(options, report);
      }),
      text.load(options.model),
    ]);
    return new ThreadClient(info, calls, text, streams);
  } catch (error) {
    await endThreads(calls, text);
    throw error;
  }
}

async function endThreads(calls: ThreadCalls<EngineApi>, text: TextClient): Promise<void> {
  // Threads that are busy, silent or gone end all the same: the outcome of being asked to does not matter.
  await calls.call((api) => api.shutdown(), SHUTDOWN_MILLISECONDS).catch(() => {});
  await Promise.allSettled([calls.terminate(DISPOSED), text.dispose()]);
}

/** The requests whose end has not come yet, by id. An id is free again when its end has arrived. */
class LiveStreams {
  readonly #live = new Map<string, { stream: RequestStream; onEnd: () => void }>();

  has(id: string): boolean {
    return this.#live.has(id);
  }

  add(id: string, stream: RequestStream, onEnd: () => void): void {
    this.#live.set(id, { stream, onEnd });
  }

  remove(id: string): void {
    this.#live.get(id)?.onEnd();
    this.#live.delete(id);
  }

  receive(events: RequestEvent[]): void {
    for (const event of events) {
      this.#live.get(event.id)?.stream.push(event);
      if (event.type !== 'tokens') this.remove(event.id);
    }
  }

  fail(error: RequestError): void {
    this.receive([...this.#live.keys()].map((id) => ({ type: 'error', id, error })));
  }
}

class ThreadClient implements EngineClient {
  readonly info: EngineInfo;
  readonly #calls: ThreadCalls<EngineApi>;
  readonly #text: TextClient;
  readonly #streams: LiveStreams;
  #disposal?: Promise<void>;

  constructor(info: EngineInfo, calls: ThreadCalls<EngineApi>, text: TextClient, streams: LiveStreams) {
    this.info = info;
    this.#calls = calls;
    this.#text = text;
    this.#streams = streams;
  }

  async generate(
    request: Omit<GenerateRequest, 'id'> & { id?: string },
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<AsyncIterable<GenerationEvent>> {
    if (this.#disposal) throw notReady(DISPOSED);
    const id = request.id ?? crypto.randomUUID();
    if (this.#streams.has(id)) {
      throw new GenerateError({ code: 'invalid', param: 'id', message: `request id '${id}' is in use` });
    }
    if (signal?.aborted) return abortedStream(id, request.promptTokenIds.length);

    // A thread that is gone has no such request any more, and has ended it here.
    const abort = (): void => void this.#calls.call((api) => api.abort(id)).catch(() => {});
    const stream = new RequestStream(abort);
    // Known before it is submitted: its first events may overtake the answer, and it may be aborted meanwhile.
    this.#streams.add(id, stream, () => signal?.removeEventListener('abort', abort));
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const result = await this.#calls.call(async (api) => api.submit({ ...request, id }));
      if (!result.accepted) throw new GenerateError(result.error);
      return stream;
    } catch (error) {
      this.#streams.remove(id);
      throw error instanceof ThreadError ? notReady(`the engine's thread ended: ${error.message}`) : error;
    }
  }

  encode(text: string, options: { addSpecialTokens?: boolean } = {}): Promise<number[]> {
    const { addSpecialTokens = true } = options;
    return this.#text.encode(text, { addSpecialTokens }, this.info.model.maxModelLen);
  }

  decode(tokenIds: number[], options: { skipSpecialTokens?: boolean } = {}): Promise<string> {
    return this.#text.decode(tokenIds, { skipSpecialTokens: options.skipSpecialTokens ?? false });
  }

  encodeChat(
    ...[messages, options = {}]: Parameters<EngineClient['encodeChat']>
  ): Promise<{ prompt: string; tokenIds: number[] }> {
    const { addGenerationPrompt = true } = options;
    return this.#text.encodeChat(messages, { addGenerationPrompt }, this.info.model.maxModelLen);
  }

  stats(timeoutMs = 5000): Promise<EngineStats> {
    return this.#calls.call((api) => api.stats(), timeoutMs);
  }

  /** Live requests fail with `not_ready`. */
  dispose(): Promise<void> {
    this.#disposal ??= this.#dispose();
    return this.#disposal;
  }

  async #dispose(): Promise<void> {
    this.#streams.fail({ code: 'not_ready', message: DISPOSED });
    await endThreads(this.#calls, this.#text);
  }
}

/** A request that was aborted before it was sent: it ends as the engine would have ended it. */
function abortedStream(id: string, promptTokens: number): RequestStream {
  const stream = new RequestStream();
  stream.push({
    type: 'end',
    id,
    finishReason: 'abort',
    usage: { promptTokens, completionTokens: 0 },
    timings: { queued: 0, prefill: 0, decode: 0, timeToFirstToken: 0, total: 0 },
  });
  return stream;
}

function notReady(message: string): GenerateError {
  return new GenerateError({ code: 'not_ready', message });
}
