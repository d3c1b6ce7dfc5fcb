/** Wrong use of a bench: one line for the user, no stack (src/cli/benchSource.ts). */
export class BenchError extends Error {
  override name = 'BenchError';
}

/** Runs `read`; what it says about a name or a number is wrong use. */
export function usage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new BenchError((error as Error).message, { cause: error });
  }
}
