/**
 * The archive of prebuilt kernels inside the addon: a length, a JSON index, then the images one after the other.
 * scripts/build-cuda.js writes it.
 */

interface Entry {
  name: string; // moduleName()
  hash: string; // sourceHash()
  /** 90 for machine code of sm_90a only; for the portable family the lowest that it runs on. */
  computeCapability: number;
  exact: boolean;
  offset: number;
  bytes: number;
}

export type PrebuiltImage = Omit<Entry, 'offset' | 'bytes'> & { image: Uint8Array };

export interface Archive {
  readonly modules: number;
  has(name: string): boolean;
  hasHash(name: string, hash: string): boolean;
  /** The image that fits a GPU: machine code of its own before portable code. */
  find(name: string, hash: string, computeCapability: number): Uint8Array | undefined;
}

/** [u32 bytes of the index, index, images]; images start on 16 bytes. */
export function writeArchive(images: readonly PrebuiltImage[]): Uint8Array<ArrayBuffer> {
  let offset = 0;
  const index: Entry[] = images.map(({ image, ...entry }) => {
    const at = offset;
    offset += Math.ceil(image.length / 16) * 16;
    return { ...entry, offset: at, bytes: image.length };
  });
  const json = new TextEncoder().encode(JSON.stringify(index));
  const base = start(json.length);
  const bytes = new Uint8Array(base + offset);
  new DataView(bytes.buffer).setUint32(0, json.length, true);
  bytes.set(json, 4);
  images.forEach(({ image }, at) => bytes.set(image, base + index[at].offset));
  return bytes;
}

/** @throws Error for bytes that are no archive. */
export function readArchive(bytes: Uint8Array): Archive {
  const entries = new Map<string, Entry[]>();
  let base = 0;
  if (bytes.length >= 4) {
    const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
    if (4 + length > bytes.length)
      throw new Error('the archive of prebuilt kernels is cut short; build the addon again');
    base = start(length);
    for (const entry of JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length))) as Entry[]) {
      entries.set(entry.name, [...(entries.get(entry.name) ?? []), entry]);
    }
  }
  return {
    modules: entries.size,
    has: (name) => entries.has(name),
    hasHash: (name, hash) => (entries.get(name) ?? []).some((entry) => entry.hash === hash),
    find(name, hash, computeCapability) {
      const fits = (entries.get(name) ?? []).filter(
        (entry) =>
          entry.hash === hash &&
          (entry.exact
            ? entry.computeCapability === computeCapability
            : entry.computeCapability <= computeCapability),
      );
      const best = fits.find(({ exact }) => exact) ?? fits[0];
      return best && bytes.slice(base + best.offset, base + best.offset + best.bytes);
    },
  };
}

function start(indexBytes: number): number {
  return Math.ceil((4 + indexBytes) / 16) * 16;
}
