/** Server-sent events on the raw socket: one `data:` line per object, comments while silent, a cap on unread bytes. */
import type { FastifyReply } from 'fastify';
import type { ServerResponse } from 'node:http';
import { KEEP_ALIVE_MS, MAX_UNSENT_BYTES } from './limits.ts';

export class EventStream {
  #raw: ServerResponse;
  #timer: NodeJS.Timeout;
  #onOverflow: () => void;

  /**
   * Sends the headers (status 200); errors can no longer change the status after that.
   * @param onOverflow - the client left more than MAX_UNSENT_BYTES unread: its connection is cut, stop the work
   */
  constructor(reply: FastifyReply, options: { onOverflow: () => void; keepAliveMs?: number }) {
    reply.hijack();
    this.#raw = reply.raw;
    this.#onOverflow = options.onOverflow;
    this.#raw.writeHead(200, {
      ...(reply.getHeaders() as Record<string, string>),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no', // nginx would collect the events otherwise
    });
    this.#raw.flushHeaders();
    const keepAliveMs = options.keepAliveMs ?? KEEP_ALIVE_MS;
    this.#timer = setTimeout(() => this.#write(': keep-alive\n\n'), keepAliveMs);
    this.#raw.once('close', () => clearTimeout(this.#timer));
  }

  get isOpen(): boolean {
    return !this.#raw.destroyed && !this.#raw.writableEnded;
  }

  send(data: object): void {
    this.#write(`data: ${JSON.stringify(data)}\n\n`);
  }

  /** The last event; `done`: OpenAI's end mark, left out after an error. */
  end(options: { done: boolean }): void {
    clearTimeout(this.#timer);
    if (!this.isOpen) return;
    this.#raw.end(options.done ? 'data: [DONE]\n\n' : undefined);
  }

  #write(text: string): void {
    if (!this.isOpen) return;
    this.#raw.write(text);
    this.#timer.refresh(); // silence is counted from the last write
    if (this.#raw.writableLength > MAX_UNSENT_BYTES) {
      this.#onOverflow();
      this.#raw.destroy();
    }
  }
}
