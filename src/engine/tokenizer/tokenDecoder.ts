/**
 * The "decoder" of a tokenizer.json as a function from a token to its bytes.
 *
 * Every decoder of the supported models says what each token contributes by itself, apart from spaces that are
 * dropped where a text begins. So text can be streamed byte by byte; nothing is ever decoded twice. Bytes that are
 * no UTF-8 become U+FFFD as WHATWG and Rust's from_utf8_lossy do it; Hugging Face's ByteFallback instead turns a
 * whole run of byte tokens into U+FFFD when any of them is wrong, which cannot be said before the run ends.
 */

export interface TokenDecoder {
  /** Bytes of a token's text as written in the vocabulary. `first`: no token came before it in this text. */
  bytes(token: string, first: boolean): Uint8Array;
  /** Most spaces that are dropped at the start of a text. */
  readonly stripSpaces: number;
}

/** A tokenizer.json that this engine cannot use; the message names the part. */
export class TokenizerError extends Error {
  override name = 'TokenizerError';
}

interface DecoderJson {
  readonly type?: unknown;
  readonly [field: string]: unknown;
}

const utf8 = new TextEncoder();

/** @throws TokenizerError for decoders that no supported model uses (WordPiece, CTC, BPEDecoder, none) */
export function compileTokenDecoder(decoder: unknown): TokenDecoder {
  const steps = flatten(decoder);
  const kinds = steps.map((step) => step.type);
  if (kinds.includes('ByteLevel')) {
    if (steps.length > 1) throw unsupported(`a sequence of ${kinds.join(', ')}`);
    return { bytes: byteLevelBytes, stripSpaces: 0 };
  }
  const byteFallback = kinds.includes('ByteFallback');
  const rewrites: ((token: string, first: boolean) => string)[] = [];
  let stripSpaces = 0;
  for (const [i, step] of steps.entries()) {
    switch (step.type) {
      case 'ByteFallback':
      case 'Fuse':
        break;
      case 'Replace':
        rewrites.push(replacement(step));
        break;
      case 'Metaspace':
        rewrites.push(metaspace(step));
        break;
      case 'Strip':
        if (
          step.content !== ' ' ||
          step.stop !== 0 ||
          !Number.isInteger(step.start) ||
          !kinds.slice(0, i).includes('Fuse')
        ) {
          throw unsupported(`Strip ${JSON.stringify(step)} other than of spaces at the start, after Fuse`);
        }
        stripSpaces = step.start as number;
        break;
      default:
        throw unsupported(`'${String(step.type)}'`);
    }
  }
  if (rewrites.length === 0) throw unsupported('one that says nothing about spaces');
  const bytes = (token: string, first: boolean): Uint8Array => {
    if (byteFallback) {
      const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
      if (byte !== undefined) return Uint8Array.of(parseInt(byte, 16));
    }
    return utf8.encode(rewrites.reduce((text, rewrite) => rewrite(text, first), token));
  };
  return { bytes, stripSpaces };
}

function unsupported(what: string): TokenizerError {
  return new TokenizerError(
    `tokenizer.json has a decoder that is not supported: ${what}; supported: ByteLevel, Metaspace, and sequences of ` +
      'Replace, Metaspace, ByteFallback, Fuse, Strip',
  );
}

function flatten(decoder: unknown): DecoderJson[] {
  if (typeof decoder !== 'object' || decoder === null) throw unsupported(String(decoder));
  const step = decoder as DecoderJson;
  if (step.type !== 'Sequence') return [step];
  if (!Array.isArray(step.decoders)) throw unsupported('a Sequence without decoders');
  return step.decoders.flatMap(flatten);
}

function replacement(step: DecoderJson): (token: string) => string {
  const pattern = (step.pattern as { String?: unknown } | undefined)?.String;
  const content = step.content;
  if (typeof pattern !== 'string' || typeof content !== 'string') {
    throw unsupported(`Replace ${JSON.stringify(step.pattern)} other than of one string by another`);
  }
  return (token) => token.replaceAll(pattern, content);
}

/** Spaces are written as '▁'; unless the scheme is 'never', those of a text's first token were not in the text. */
function metaspace(step: DecoderJson): (token: string, first: boolean) => string {
  const mark = typeof step.replacement === 'string' ? step.replacement : '▁';
  const keepsFirst =
    step.prepend_scheme === 'never' || (step.prepend_scheme === undefined && step.add_prefix_space === false);
  return (token, first) => token.replaceAll(mark, first && !keepsFirst ? '' : ' ');
}

/** GPT-2's alphabet: each byte has a printable letter. */
const BYTE_OF_LETTER: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    map.set(String.fromCharCode(printable ? byte : next++), byte);
  }
  return map;
})();

/** A token with a character outside the alphabet is one that was added as plain text. */
function byteLevelBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_LETTER.get(token[i]);
    if (byte === undefined) return utf8.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}
