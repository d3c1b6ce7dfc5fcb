/** The events of one request as an async iterator: pushed as they come, pulled one by one. */
import type { RequestEvent } from '../protocol.ts';
import { GenerateError, type GenerationEvent } from './types.ts';

type Result = IteratorResult<GenerationEvent, undefined>;

interface Reader {
  resolve(result: Result): void;
  reject(error: GenerateError): void;
}

const DONE: Result = { done: true, value: undefined };

/**
 * Not a generator function: leaving one before its first next() runs nothing of it, and leaving one that waits for an
 * event waits too. Here both abort the request at once.
 */
export class RequestStream implements AsyncIterableIterator<GenerationEvent, undefined> {
  readonly #onLeave: () => void;
  #events: RequestEvent[] = [];
  #readers: Reader[] = [];
  /** open: more will come. ended: nothing will come, events may wait. left: nobody reads. */
  #state: 'open' | 'ended' | 'left' = 'open';

  /** `onLeave` is called once, when the reader leaves before the request has ended. */
  constructor(onLeave: () => void = () => {}) {
    this.#onLeave = onLeave;
  }

  /** Ignored after an end, and when nobody reads any more. */
  push(event: RequestEvent): void {
    if (this.#state !== 'open') return;
    if (event.type !== 'tokens') this.#state = 'ended';
    const reader = this.#readers.shift();
    if (reader) hand(event, reader);
    else this.#events.push(event);
    if (this.#state === 'ended') this.#dismissReaders();
  }

  next(): Promise<Result> {
    return new Promise((resolve, reject) => {
      const event = this.#events.shift();
      if (event) hand(event, { resolve, reject });
      else if (this.#state === 'open') this.#readers.push({ resolve, reject });
      else resolve(DONE);
    });
  }

  async return(): Promise<Result> {
    const left = this.#state === 'open';
    this.#state = 'left';
    this.#events = [];
    this.#dismissReaders();
    if (left) this.#onLeave();
    return DONE;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #dismissReaders(): void {
    for (const reader of this.#readers.splice(0)) reader.resolve(DONE);
  }
}

function hand(event: RequestEvent, reader: Reader): void {
  if (event.type === 'error') reader.reject(new GenerateError(event.error));
  else reader.resolve({ done: false, value: event });
}
