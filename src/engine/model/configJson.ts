/** Typed reading of fields of a config.json whose content is untrusted. Knows no field by name. */

export type JsonObject = Readonly<Record<string, unknown>>;

/** A config.json that is malformed or describes a model that is not supported. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

/** Largest size that any field may give: keeps every product of two sizes an exact integer. */
const MAX_SIZE = 2 ** 26;

export function requireSize(json: JsonObject, key: string): number {
  const value = json[key];
  if (value === undefined || value === null) {
    throw new ConfigError(`config.json has no ${key}; expected a whole number from 1 to ${MAX_SIZE}`);
  }
  return checkSize(key, value);
}

export function sizeOr(json: JsonObject, key: string, fallback: number): number {
  const value = json[key];
  return value === undefined || value === null ? fallback : checkSize(key, value);
}

function checkSize(key: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > MAX_SIZE) {
    throw new ConfigError(
      `${key} is ${JSON.stringify(value)}; expected a whole number from 1 to ${MAX_SIZE}`,
    );
  }
  return value;
}

export function requirePositive(key: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
    throw new ConfigError(`${key} is ${JSON.stringify(value) ?? 'missing'}; expected a number above 0`);
  }
  return value;
}

export function optionalNumber(key: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    throw new ConfigError(`${key} is ${JSON.stringify(value)}; expected a number or null`);
  }
  return value;
}

export function booleanOr(json: JsonObject, key: string, fallback: boolean): boolean {
  const value = json[key];
  if (value === undefined || value === null) return fallback;
  if (typeof value !== 'boolean') {
    throw new ConfigError(`${key} is ${JSON.stringify(value)}; expected true or false`);
  }
  return value;
}

/** Token ids given as one number, a list, or null. */
export function tokenIds(key: string, value: unknown): readonly number[] {
  if (value === undefined || value === null) return [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  for (const id of list) {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > MAX_SIZE) {
      throw new ConfigError(
        `${key} is ${JSON.stringify(value)}; expected a token id, a list of them, or null`,
      );
    }
  }
  return list as number[];
}
