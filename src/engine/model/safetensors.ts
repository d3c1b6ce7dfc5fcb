/**
 * Reads the header of a safetensors file and gives its tensors as byte ranges. A file is untrusted: every check
 * of the reference reader (safetensors 0.8, SafeTensorError) is made here, under the same names, and duplicate
 * keys are refused as well. Format: 8 bytes little-endian header length, JSON header, data.
 */

import type { ByteSource } from './modelFiles.ts';

export interface TensorInfo {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly offset: number; // bytes from the start of the file
  readonly byteLength: number;
}

export interface SafetensorsFile {
  readonly source: ByteSource;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
}

export type SafetensorsErrorCode =
  | 'HeaderTooSmall' // shorter than the length field
  | 'HeaderTooLarge' // over MAX_HEADER_BYTES
  | 'InvalidHeaderLength' // the header ends behind the file
  | 'InvalidHeader' // not UTF-8
  | 'InvalidHeaderStart' // does not begin with '{'
  | 'InvalidHeaderDeserialization' // not JSON, or not the expected records
  | 'DuplicateKey'
  | 'UnknownDtype'
  | 'InvalidOffset' // overlap, hole or reversed range
  | 'TensorInvalidInfo' // shape x dtype is not the range
  | 'ValidationOverflow' // a size beyond exact integers
  | 'MetadataIncompleteBuffer'; // the data is longer or shorter than the ranges

export class SafetensorsError extends Error {
  override name = 'SafetensorsError';
  readonly code: SafetensorsErrorCode;

  constructor(code: SafetensorsErrorCode, file: string, detail: string) {
    super(`${file} is not a valid safetensors file: ${detail} (${code}); fetch it again`);
    this.code = code;
  }
}

export const MAX_HEADER_BYTES = 100_000_000;

/** Bits of one element. */
const DTYPE_BITS: Readonly<Record<string, number>> = {
  BOOL: 8, F4: 4, F6_E2M3: 6, F6_E3M2: 6, U8: 8, I8: 8, F8_E5M2: 8, F8_E4M3: 8, F8_E8M0: 8, F8_E4M3FNUZ: 8, F8_E5M2FNUZ: 8,
  I16: 16, U16: 16, F16: 16, BF16: 16, I32: 32, U32: 32, F32: 32, C64: 64, F64: 64, I64: 64, U64: 64,
}; // prettier-ignore

/** @throws SafetensorsError with the code of the first failed check. */
export async function openSafetensors(source: ByteSource): Promise<SafetensorsFile> {
  const fail = (code: SafetensorsErrorCode, detail: string) =>
    new SafetensorsError(code, source.name, detail);
  if (source.size < 8) throw fail('HeaderTooSmall', `it has ${source.size} bytes, expected at least 8`);
  const lengthField = await source.read(0, 8);
  const headerLength = new DataView(lengthField.buffer, lengthField.byteOffset, 8).getBigUint64(0, true);
  if (headerLength > BigInt(MAX_HEADER_BYTES)) {
    throw fail('HeaderTooLarge', `the header is ${headerLength} bytes, expected at most ${MAX_HEADER_BYTES}`);
  }
  const dataStart = 8 + Number(headerLength);
  if (dataStart > source.size) {
    throw fail('InvalidHeaderLength', `the header ends at byte ${dataStart} of ${source.size}`);
  }
  const header = parseHeader(await source.read(8, Number(headerLength)), fail);

  const metadata = checkMetadata(header.__metadata__, fail);
  const tensors = Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, record]) => checkTensor(name, record, dataStart, fail))
    .toSorted((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  let end = dataStart;
  for (const { name, offset, byteLength } of tensors) {
    if (offset !== end) {
      const what = offset < end ? 'overlaps the one before it' : 'leaves a hole before it';
      throw fail('InvalidOffset', `tensor '${name}' begins at data byte ${offset - dataStart} and ${what}`);
    }
    end += byteLength;
  }
  if (end !== source.size) {
    throw fail('MetadataIncompleteBuffer', `its tensors end at byte ${end} of ${source.size}`);
  }
  return { source, metadata, tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])) };
}

type Fail = (code: SafetensorsErrorCode, detail: string) => SafetensorsError;

function parseHeader(bytes: Uint8Array, fail: Fail): Record<string, unknown> {
  if (bytes[0] !== 0x7b) throw fail('InvalidHeaderStart', `the header does not begin with '{'`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw fail('InvalidHeader', 'the header is not UTF-8');
  }
  let header: Record<string, unknown>;
  try {
    header = JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw fail('InvalidHeaderDeserialization', `the header is not JSON (${(error as Error).message})`);
  }
  const unique = countUniqueKeys(header);
  const written = countWrittenKeys(text);
  if (written !== unique) {
    throw fail('DuplicateKey', `the header writes ${written} keys of which ${unique} are different`);
  }
  return header;
}

/** Keys of all objects in a parsed value. Iterative: the nesting is the file's choice. */
function countUniqueKeys(value: unknown): number {
  let count = 0;
  const stack: unknown[] = [value];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    if (typeof next !== 'object' || next === null) continue;
    const children: unknown[] = Object.values(next);
    if (!Array.isArray(next)) count += children.length;
    for (const child of children) if (typeof child === 'object' && child !== null) stack.push(child);
  }
  return count;
}

/** Keys as written in valid JSON: JSON.parse keeps only the last of equal keys and does not say so. */
function countWrittenKeys(json: string): number {
  let count = 0;
  for (let i = 0; i < json.length; i++) {
    if (json.charCodeAt(i) === 0x3a) count++; // ':' outside strings follows a key
    if (json.charCodeAt(i) !== 0x22) continue;
    i++;
    while (json.charCodeAt(i) !== 0x22) i += json.charCodeAt(i) === 0x5c ? 2 : 1; // '\' escapes one character
  }
  return count;
}

function checkMetadata(value: unknown, fail: Fail): Record<string, string> {
  if (value === undefined) return {};
  const valid = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!valid || Object.values(value).some((entry) => typeof entry !== 'string')) {
    throw fail('InvalidHeaderDeserialization', '__metadata__ is not an object of strings');
  }
  return value as Record<string, string>;
}

function checkTensor(name: string, value: unknown, dataStart: number, fail: Fail): TensorInfo {
  const record = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const { dtype, shape, data_offsets: range } = record;
  if (typeof dtype !== 'string' || !isSizes(shape) || !isSizes(range) || range.length !== 2) {
    throw fail(
      'InvalidHeaderDeserialization',
      `tensor '${name}' needs a dtype, a shape and two data_offsets`,
    );
  }
  const bits = Object.hasOwn(DTYPE_BITS, dtype) ? DTYPE_BITS[dtype] : undefined;
  if (bits === undefined) throw fail('UnknownDtype', `tensor '${name}' has dtype '${dtype}'`);
  const [begin, end] = range;
  if (end < begin)
    throw fail('InvalidOffset', `tensor '${name}' ends at ${end} before it begins at ${begin}`);
  let total = bits;
  for (const size of shape) {
    total *= size;
    if (!Number.isSafeInteger(total))
      throw fail('ValidationOverflow', `tensor '${name}' has too large a shape [${shape}]`);
  }
  if (total !== (end - begin) * 8) {
    throw fail(
      'TensorInvalidInfo',
      `tensor '${name}' (${dtype}, [${shape}]) takes ${total / 8} bytes but has ${end - begin}`,
    );
  }
  return { name, dtype, shape, offset: dataStart + begin, byteLength: end - begin };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && (size as number) >= 0);
}
