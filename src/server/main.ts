/** Listening: binds the application to an address, and stops it in order. */
import { createServer } from 'node:net';
import { type AppOptions, createApp } from './app.ts';
import { isLoopback } from './guard.ts';
import { MAX_SILENCE_MS, WATCH_MS } from './limits.ts';
import type { Metrics } from './metrics.ts';

export interface ServerOptions extends Omit<AppOptions, 'allowedHosts'> {
  host: string;
  port: number; // 0: any free one
  /** Host names besides loopback ones that a loopback server answers to. */
  allowedHosts?: string[];
  /** Allows a public address without an API key. */
  insecure?: boolean;
  /** The device is lost, or the engine's thread was silent for MAX_SILENCE_MS: only a new process helps. */
  onEngineDead?: (reason: string) => void;
}

export interface Server {
  url: string;
  /** Refuses new requests, lets running ones finish for `graceMs`, then aborts them; @returns how many were aborted. */
  stop(graceMs: number): Promise<number>;
  /** Cuts a running stop() short. */
  abort(): void;
}

/** An address that can not be used; the message is for people. */
export class ListenError extends Error {
  override name = 'ListenError';
}

/** @throws ListenError when a server that anyone can reach would be open to anyone */
export function checkExposure(options: { host: string; apiKeys?: string[]; insecure?: boolean }): void {
  if (isLoopback(options.host) || options.apiKeys?.length || options.insecure) return;
  throw new ListenError(
    `${options.host} can be reached from other machines and no API key is set: add --api-key <key> (or NANOFLOW_API_KEY), or --insecure.`,
  );
}

function explain(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const reasons: Record<string, string> = {
    EADDRINUSE: `port ${port} on ${host} is in use: stop the other program, or choose another with --port`,
    EACCES: `port ${port} may not be used by this user: choose one from 1024 up with --port`,
    EADDRNOTAVAIL: `${host} is not an address of this machine: use 127.0.0.1, or 0.0.0.0 for all`,
    ENOTFOUND: `host ${host} was not found: use an address such as 127.0.0.1`,
  };
  const reason = reasons[error.code ?? ''];
  return reason ? new ListenError(reason) : error;
}

/** Fails early, before a model is loaded, when the address can not be used. */
export async function checkAddress(host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error) => reject(explain(error, host, port)));
    probe.listen({ host, port, exclusive: true }, () => probe.close(() => resolve()));
  });
}

/**
 * Asks the engine for its state every few seconds: keeps its list of step sizes short between scrapes of /metrics, and
 * finds out when it is dead.
 */
function watch(metrics: Metrics, onEngineDead: (reason: string) => void): () => void {
  let lastAnswer = performance.now();
  const look = async () => {
    try {
      const { state } = await metrics.stats();
      lastAnswer = performance.now();
      if (state === 'lost') onEngineDead('the device is lost');
    } catch (error) {
      // worker/thread.ts: 'ended' for good, or only 'silent' so far.
      if ((error as { kind?: string }).kind === 'ended') onEngineDead((error as Error).message);
      const silence = performance.now() - lastAnswer;
      if (silence > MAX_SILENCE_MS) onEngineDead(`no step for ${Math.round(silence / 1000)} s`);
    }
  };
  const timer = setInterval(() => void look(), WATCH_MS);
  timer.unref();
  return () => clearInterval(timer);
}

export async function startServer(options: ServerOptions): Promise<Server> {
  checkExposure(options);
  const allowedHosts = isLoopback(options.host) ? (options.allowedHosts ?? []) : undefined;
  const { app, drain, metrics } = await createApp({ ...options, allowedHosts });
  try {
    await app.listen({ host: options.host, port: options.port });
  } catch (error) {
    throw explain(error as NodeJS.ErrnoException, options.host, options.port);
  }
  const { port } = app.server.address() as { port: number };
  const shown = ['0.0.0.0', '::'].includes(options.host) ? '127.0.0.1' : options.host;
  const stopWatching = watch(metrics, options.onEngineDead ?? (() => {}));
  return {
    url: `http://${shown.includes(':') ? `[${shown}]` : shown}:${port}`,
    async stop(graceMs) {
      const aborted = await drain.finish(graceMs);
      stopWatching();
      await app.close();
      return aborted;
    },
    abort: () => drain.abortAll(),
  };
}
