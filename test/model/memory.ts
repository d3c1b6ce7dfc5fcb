/** Model files held in memory, and a writer of safetensors, for tests. */

import { missingFile, type ByteSource, type ModelFiles } from '../../src/engine/model/modelFiles.ts';

export interface TestTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** A file made of a header (text or record) and data, with a true length field unless `headerLength` lies. */
export function safetensorsFile(
  header: string | object,
  data: Uint8Array,
  headerLength?: bigint,
): Uint8Array {
  const text = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setBigUint64(0, headerLength ?? BigInt(text.length), true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

/** A valid file of these tensors, one behind the other. */
export function packTensors(tensors: Readonly<Record<string, TestTensor>>): Uint8Array {
  // Without a prototype: a tensor may be called __proto__.
  const header: Record<string, object> = Object.create(null);
  const parts: Uint8Array[] = [];
  let end = 0;
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] };
    parts.push(bytes);
    end += bytes.length;
  }
  const data = new Uint8Array(end);
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return safetensorsFile(header, data);
}

/** A ByteSource over `bytes` that hands out copies and records the longest read. */
export function memorySource(name: string, bytes: Uint8Array): ByteSource & { longestRead: number } {
  return {
    name,
    size: bytes.length,
    longestRead: 0,
    async read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > bytes.length)
        throw new Error('read outside the file');
      this.longestRead = Math.max(this.longestRead, length);
      return bytes.slice(offset, offset + length);
    },
  };
}

export function memoryFiles(contents: Readonly<Record<string, Uint8Array | string | object>>): ModelFiles {
  const files = new Map(
    Object.entries(contents).map(([name, value]) => {
      if (value instanceof Uint8Array) return [name, value];
      return [name, new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value))];
    }),
  );
  return {
    location: 'memory',
    has: async (name) => files.has(name),
    open: async (name) => {
      const bytes = files.get(name);
      if (!bytes) throw missingFile('memory', name);
      return memorySource(name, bytes);
    },
    close: async () => {},
  };
}
