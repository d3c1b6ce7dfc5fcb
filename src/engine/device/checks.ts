/** Checks that every device makes in the same words. */
import type { DeviceBuffer } from '../device.ts';

/** @throws Error unless [offset, offset + bytes) is made of whole words inside the buffer. */
export function checkRange(
  verb: 'read' | 'write',
  buffer: DeviceBuffer,
  offset: number,
  bytes: number,
): void {
  if (offset % 4 !== 0 || bytes % 4 !== 0) {
    throw new Error(
      `${verb} "${buffer.label}": got offset ${offset} and ${bytes} bytes, expected multiples of 4; pad the data`,
    );
  }
  const room = Math.ceil(buffer.bytes / 4) * 4;
  if (!(offset >= 0 && bytes >= 0 && offset + bytes <= room)) {
    throw new Error(
      `${verb} "${buffer.label}": got bytes ${offset}..${offset + bytes}, the buffer has ${room}`,
    );
  }
}
