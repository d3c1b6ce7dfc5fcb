/** Weights whose bytes in the file are the bytes on the device go there by Device.loadFile, file by file. */
import type { Device, FilePart } from '../device.ts';
import { elementCount } from '../device.ts';
import { WeightStore } from './weightStore.ts';
import type { DirectLoad, StoredTensor, WeightDtype, WeightMap, WeightSpec } from './weights.ts';

const SAME: Partial<Record<string, WeightDtype>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** The direct way into `weights`; undefined where the device has none. */
export function directLoad(
  device: Device,
  weights: WeightStore,
  storage: WeightDtype,
): DirectLoad | undefined {
  if (!device.loadFile) return undefined;
  return async (specs, map, progress) => {
    const files = new Map<string, FilePart[]>();
    const rest: WeightSpec[] = [];
    let bytes = 0;
    let parameters = 0;
    for (const spec of specs) {
      const dtype = WeightStore.dtypeOf(spec, storage);
      if (!spec.parts.every(({ tensor }) => isDirect(map.get(tensor), dtype))) {
        rest.push(spec);
        continue;
      }
      weights.allocate(spec, dtype);
      parameters += elementCount(spec.shape);
      bytes += collectParts(spec, map, weights, files);
    }
    let before = 0;
    for (const [path, parts] of files) {
      await device.loadFile!(path, parts, (loaded) => {
        progress(Math.floor(((before + loaded) / bytes) * parameters));
      });
      before += parts.reduce((sum, part) => sum + part.bytes, 0);
    }
    if (bytes > 0) progress(parameters);
    return rest;
  };
}

function isDirect(tensor: StoredTensor | undefined, dtype: WeightDtype): boolean {
  return tensor?.source.path !== undefined && SAME[tensor.dtype] === dtype;
}

/** Adds the parts of one weight to their files; returns its bytes. */
function collectParts(
  spec: WeightSpec,
  map: WeightMap,
  weights: WeightStore,
  files: Map<string, FilePart[]>,
): number {
  let at = 0; // bytes of the weight
  for (const { tensor } of spec.parts) {
    const { source, offset, byteLength } = map.get(tensor)!;
    const list = files.get(source.path!) ?? [];
    files.set(source.path!, list);
    let pieceStart = 0;
    for (const { view } of weights.pieces(spec.name)) {
      const pieceEnd = pieceStart + view.buffer.bytes;
      const from = Math.max(at, pieceStart);
      const to = Math.min(at + byteLength, pieceEnd);
      if (from < to) {
        list.push({
          buffer: view.buffer,
          byteOffset: from - pieceStart,
          fileOffset: offset + from - at,
          bytes: to - from,
        });
      }
      pieceStart = pieceEnd;
    }
    at += byteLength;
  }
  return at;
}
