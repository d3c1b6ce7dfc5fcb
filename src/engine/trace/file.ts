/** Traces as bytes of a file: columnar JSON, or Chrome's JSON by the name; gzip when the name ends in .gz. */
import { traceToChrome } from './chrome.ts';
import { chromeToTrace } from './fromChrome.ts';
import { parseTrace, traceToJson } from './json.ts';
import type { Trace } from './trace.ts';

/** Names that ask for Chrome's JSON, which chrome://tracing and ui.perfetto.dev load. */
const CHROME = /\.(chrome|perfetto)\.json(\.gz)?$/i;

/** What a file of that name holds. */
export async function encodeTrace(name: string, trace: Trace): Promise<Uint8Array<ArrayBuffer>> {
  const text = CHROME.test(name) ? JSON.stringify(traceToChrome(trace)) : traceToJson(trace);
  const bytes = new TextEncoder().encode(text);
  return /\.gz$/i.test(name) ? pipe(bytes, new CompressionStream('gzip')) : bytes;
}

/** Reads either format, packed or not. @throws Error that says what is wrong with the file */
export async function decodeTrace(bytes: Uint8Array<ArrayBuffer>): Promise<Trace> {
  const packed = bytes[0] === 0x1f && bytes[1] === 0x8b;
  const text = new TextDecoder().decode(packed ? await pipe(bytes, new DecompressionStream('gzip')) : bytes);
  return /^\s*(\[|\{\s*"(displayTimeUnit|traceEvents|schemaVersion)")/.test(text)
    ? chromeToTrace(JSON.parse(text))
    : parseTrace(text);
}

async function pipe(
  bytes: Uint8Array<ArrayBuffer>,
  through: CompressionStream | DecompressionStream,
): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(through);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
