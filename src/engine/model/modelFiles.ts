/**
 * Where a model's files come from: the interface that a directory (modelFilesNode.ts) and a URL or picked files
 * (modelFilesWeb.ts) implement. Files are read by range so that weights never lie in memory whole. This file
 * knows no host: it is safe to bundle for the browser.
 */

/** Bytes of one file, readable at any place. */
export interface ByteSource {
  /** What errors call it. */
  readonly name: string;
  readonly size: number; // bytes
  /** Where the file lies, when it is an ordinary file of this machine. */
  readonly path?: string;
  /** Exactly `length` bytes from `offset`; the caller owns them. @throws ModelFileError when they cannot be had. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** The files of one model, by name. */
export interface ModelFiles {
  /** What errors call the place: a directory or a URL. */
  readonly location: string;
  has(name: string): Promise<boolean>;
  /** @throws ModelFileError when the file does not exist. */
  open(name: string): Promise<ByteSource>;
  close(): Promise<void>;
}

/** A file that is missing, unreadable or shorter than it says; the message names it and the remedy. */
export class ModelFileError extends Error {
  override name = 'ModelFileError';
}

/** Largest text file of a model that is read whole: tokenizer.json of a 256k vocabulary is about 35 MB. */
const MAX_TEXT_BYTES = 256 * 2 ** 20;

const CONFIG_REMEDY = 'give a Hugging Face model directory (config.json, tokenizer.json, *.safetensors)';

export function missingFile(location: string, name: string): ModelFileError {
  return new ModelFileError(
    `${location} has no ${name}; ${CONFIG_REMEDY}, or fetch one with: nanoflow pull <repo>`,
  );
}

/** A file name of a model is relative and stays below its directory; sharded indexes are untrusted input. */
export function checkFileName(name: string): void {
  const parts = name.split('/');
  if (/[\\\0:]/.test(name) || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new ModelFileError(
      `'${name}' is not a file name inside the model; expected a relative path without '..'`,
    );
  }
}

export async function readText(files: ModelFiles, name: string): Promise<string> {
  const source = await files.open(name);
  if (source.size > MAX_TEXT_BYTES) {
    throw new ModelFileError(`${source.name} is ${source.size} bytes; expected at most ${MAX_TEXT_BYTES}`);
  }
  return new TextDecoder().decode(await source.read(0, source.size));
}

export async function readJson(files: ModelFiles, name: string): Promise<unknown> {
  const text = await readText(files, name);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ModelFileError(
      `${name} of ${files.location} is not JSON (${(error as Error).message}); fetch it again`,
    );
  }
}

/** The parsed file, or undefined when the model has none. */
export async function readJsonIfPresent(files: ModelFiles, name: string): Promise<unknown> {
  return (await files.has(name)) ? readJson(files, name) : undefined;
}

/**
 * Names of the safetensors files that hold the weights: the one file, or the shards that the index lists.
 * When both exist the single file wins, as in transformers.
 */
export async function weightFileNames(files: ModelFiles): Promise<readonly string[]> {
  if (await files.has('model.safetensors')) return ['model.safetensors'];
  const indexName = 'model.safetensors.index.json';
  if (!(await files.has(indexName))) {
    throw new ModelFileError(
      `${files.location} has neither model.safetensors nor ${indexName}; only safetensors weights are read (no .bin, .pt, .gguf)`,
    );
  }
  const index = (await readJson(files, indexName)) as { weight_map?: unknown } | null;
  const map = index?.weight_map;
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    throw new ModelFileError(
      `${indexName} of ${files.location} has no weight_map; expected tensor name -> file name`,
    );
  }
  const names = [...new Set(Object.values(map))];
  for (const name of names) {
    if (typeof name !== 'string' || !name.endsWith('.safetensors')) {
      throw new ModelFileError(
        `${indexName} lists ${JSON.stringify(name)}; expected the name of a .safetensors file`,
      );
    }
    checkFileName(name);
    if (!(await files.has(name))) throw missingFile(files.location, name);
  }
  return names.toSorted() as string[];
}
