/** Weights on a device: large matrices are cut into pieces of whole rows so that each piece fits one binding. */
import {
  DTYPE_BYTES,
  tensor,
  type Device,
  type DeviceBuffer,
  type DType,
  type TensorView,
} from '../device.ts';
import type { WeightChunk, WeightDtype, WeightSpec } from './weights.ts';

/** Consecutive rows of a weight. For stacked experts a row is a whole expert. */
export interface WeightPiece {
  view: TensorView;
  rowStart: number;
  rows: number;
}

export class WeightStore {
  readonly #device: Device;
  readonly #pieces = new Map<string, WeightPiece[]>();
  bytes = 0;

  constructor(device: Device) {
    this.#device = device;
  }

  /** The type a weight is stored in: vectors (norms, biases) and routers are always f32. */
  static dtypeOf(spec: WeightSpec, storage: WeightDtype): WeightDtype {
    return spec.kind === 'vector' || spec.name.endsWith('.router') ? 'f32' : storage;
  }

  /** Makes the buffers of a weight. Rows are those of the first dimension. */
  allocate(spec: WeightSpec, dtype: DType): void {
    const [rows, ...rest] = spec.shape;
    const rowBytes = rest.reduce((a, b) => a * b, 1) * DTYPE_BYTES[dtype];
    const { maxBindingBytes, maxBufferBytes } = this.#device.target.limits;
    const limit = Math.min(maxBindingBytes, maxBufferBytes);
    let rowsPerPiece = Math.floor(limit / rowBytes);
    if (rowsPerPiece < 1) {
      throw new Error(
        `weight ${spec.name}: one row takes ${rowBytes} bytes and the device binds at most ${limit}; the model is too wide for it`,
      );
    }
    // Pieces start on a multiple of 64 rows where they can, so that tiles stay aligned; else of 2, so that f16 pieces
    // end on whole words.
    if (rowsPerPiece < rows)
      rowsPerPiece -= rowsPerPiece % (rowsPerPiece >= 64 ? 64 : rowsPerPiece > 1 ? 2 : 1);
    const pieces: WeightPiece[] = [];
    for (let rowStart = 0; rowStart < rows; rowStart += rowsPerPiece) {
      const count = Math.min(rowsPerPiece, rows - rowStart);
      const bytes = Math.ceil((count * rowBytes) / 4) * 4;
      const label = pieces.length === 0 && count === rows ? spec.name : `${spec.name}[${rowStart}..]`;
      const buffer = this.#device.createBuffer(label, bytes);
      this.bytes += bytes;
      pieces.push({ view: tensor(buffer, dtype, [count, ...rest]), rowStart, rows: count });
    }
    this.#pieces.set(spec.name, pieces);
  }

  /** Uploads a chunk; it may span pieces. */
  write(spec: WeightSpec, chunk: WeightChunk): void {
    const pieces = this.pieces(spec.name);
    const data = new Uint8Array(chunk.data.buffer, chunk.data.byteOffset, chunk.data.byteLength);
    let pieceStart = 0;
    for (const { view } of pieces) {
      const pieceEnd = pieceStart + view.buffer.bytes;
      const from = Math.max(chunk.byteOffset, pieceStart);
      const to = Math.min(chunk.byteOffset + data.byteLength, pieceEnd);
      if (from < to) {
        const part = data.subarray(from - chunk.byteOffset, to - chunk.byteOffset);
        this.#device.write(view.buffer, from - pieceStart, part);
      }
      pieceStart = pieceEnd;
    }
  }

  *buffers(): Iterable<DeviceBuffer> {
    for (const pieces of this.#pieces.values()) for (const { view } of pieces) yield view.buffer;
  }

  has(name: string): boolean {
    return this.#pieces.has(name);
  }

  pieces(name: string): WeightPiece[] {
    const pieces = this.#pieces.get(name);
    if (!pieces) throw new Error(`weight ${name} was never allocated`);
    return pieces;
  }

  /** A weight that must be whole: vectors. */
  whole(name: string): TensorView {
    const pieces = this.pieces(name);
    if (pieces.length !== 1) throw new Error(`weight ${name} is in ${pieces.length} pieces; expected one`);
    return pieces[0].view;
  }

  optional(name: string): TensorView | undefined {
    return this.has(name) ? this.whole(name) : undefined;
  }
}
