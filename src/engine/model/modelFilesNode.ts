/** ModelFiles over a directory, for Node. Each file is opened once and stays open until close(). */

import { open, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import {
  checkFileName,
  missingFile,
  ModelFileError,
  type ByteSource,
  type ModelFiles,
} from './modelFiles.ts';

/** @throws ModelFileError when `directory` is not a directory. */
export async function openModelDirectory(directory: string): Promise<ModelFiles> {
  const info = await stat(directory).catch(() => undefined);
  if (!info?.isDirectory()) {
    throw new ModelFileError(`${directory} is ${info ? 'a file' : 'not there'}; expected a model directory`);
  }
  const opened = new Map<string, Promise<FileSource>>();
  return {
    location: directory,
    has: async (name) => {
      checkFileName(name);
      const found = await stat(join(directory, name)).catch(() => undefined);
      return found?.isFile() ?? false;
    },
    open: (name) => {
      checkFileName(name);
      let source = opened.get(name);
      if (!source) {
        source = FileSource.open(directory, name);
        opened.set(name, source);
        source.catch(() => opened.delete(name));
      }
      return source;
    },
    close: async () => {
      const sources = await Promise.allSettled(opened.values());
      opened.clear();
      for (const source of sources) if (source.status === 'fulfilled') await source.value.close();
    },
  };
}

class FileSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly path: string;
  readonly #file: FileHandle;

  private constructor(name: string, size: number, file: FileHandle) {
    this.name = name;
    this.path = name;
    this.size = size;
    this.#file = file;
  }

  static async open(directory: string, name: string): Promise<FileSource> {
    const path = join(directory, name);
    const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') throw missingFile(directory, name);
      throw new ModelFileError(`cannot open ${path} (${error.message}); check its permissions`);
    });
    return new FileSource(path, (await file.stat()).size, file);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    // Not Buffer.alloc: a pooled Buffer may start at an odd address, which typed views of numbers cannot.
    const bytes = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await this.#file.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) {
        throw new ModelFileError(
          `${this.name} ends at byte ${offset + done}; expected ${offset + length}; fetch it again`,
        );
      }
      done += bytesRead;
    }
    return bytes;
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}
