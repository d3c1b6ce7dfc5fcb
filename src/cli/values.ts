/** Values on the command line, read strictly: a number that is not one is an error, never a default. */
import { InvalidArgumentError } from 'commander';

/** A mistake of the user or the machine that one line explains; no stack is shown. */
export class CliError extends Error {
  override name = 'CliError';
}

/** Reads a whole number from `minimum` to `maximum`. */
export function integer(minimum: number, maximum = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = /^[+-]?\d{1,16}$/.test(text) ? Number(text) : NaN;
    if (Number.isSafeInteger(value) && value >= minimum && value <= maximum) return value;
    const range =
      maximum === Number.MAX_SAFE_INTEGER ? `from ${minimum} up` : `from ${minimum} to ${maximum}`;
    throw new InvalidArgumentError(`Expected a whole number ${range}.`);
  };
}

/** Reads a decimal number from `minimum` to `maximum`. */
export function decimal(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = /^[+-]?(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : NaN;
    if (value >= minimum && value <= maximum) return value;
    throw new InvalidArgumentError(`Expected a number from ${minimum} to ${maximum}.`);
  };
}

/** Reads whole numbers with commas between them. */
export function integers(minimum: number, maximum = Number.MAX_SAFE_INTEGER): (text: string) => number[] {
  const one = integer(minimum, maximum);
  return (text) => text.split(',').map((part) => one(part.trim()));
}

const byteUnits: Record<string, number> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** Reads an amount of memory: 512MiB, 2GB, 1.5 GiB, 1048576. */
export function bytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = match ? byteUnits[match[2].toLowerCase()] : undefined;
  const value = unit === undefined ? NaN : Math.floor(Number(match![1]) * unit);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected an amount of memory such as 512MiB, 2GB or 1048576.');
}

/** Adds a value to the list of an option that may be given several times. */
export function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}
