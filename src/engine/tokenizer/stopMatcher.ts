/**
 * Finds stop strings in text that arrives in pieces, and holds back what may turn out to begin one.
 *
 * One Knuth-Morris-Pratt automaton for each stop string, advanced by UTF-16 units: the answer depends on the text
 * alone, never on where it was cut, and a piece costs time in proportion to its length.
 */

export interface StopResult {
  /** Text that is surely before any stop string. */
  readonly text: string;
  /** The stop string that was completed; `text` ends before it. Of two that end together, the longer. */
  readonly stop?: string;
}

export class StopMatcher {
  readonly #stops: readonly string[];
  readonly #failures: readonly Int32Array[];
  readonly #matched: number[]; // per stop string: how many of its units the text ends with
  #held = '';
  #stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop.length > 0);
    this.#failures = this.#stops.map(failureTable);
    this.#matched = this.#stops.map(() => 0);
  }

  /** After a stop string was found, further text is swallowed. */
  push(piece: string): StopResult {
    if (this.#stopped) return { text: '' };
    const text = this.#held + piece;
    for (let i = this.#held.length; i < text.length; i++) {
      const stop = this.#advance(text.charCodeAt(i));
      if (stop !== undefined) {
        this.#stopped = true;
        this.#held = '';
        return { text: text.slice(0, i + 1 - stop.length), stop };
      }
    }
    const safe = text.length - Math.max(0, ...this.#matched);
    this.#held = text.slice(safe);
    return { text: text.slice(0, safe) };
  }

  /** What was held back, once no more text follows. */
  flush(): string {
    const text = this.#held;
    this.#held = '';
    this.#matched.fill(0);
    return text;
  }

  #advance(unit: number): string | undefined {
    let found: string | undefined;
    for (let s = 0; s < this.#stops.length; s++) {
      const stop = this.#stops[s];
      let length = this.#matched[s];
      while (length > 0 && stop.charCodeAt(length) !== unit) length = this.#failures[s][length - 1];
      if (stop.charCodeAt(length) === unit) length++;
      this.#matched[s] = length;
      if (length === stop.length && stop.length > (found?.length ?? 0)) found = stop;
    }
    return found;
  }
}

/** For each prefix, the length of its longest proper prefix that is also its suffix. */
function failureTable(pattern: string): Int32Array {
  const table = new Int32Array(pattern.length);
  for (let i = 1, length = 0; i < pattern.length; i++) {
    while (length > 0 && pattern[i] !== pattern[length]) length = table[length - 1];
    if (pattern[i] === pattern[length]) length++;
    table[i] = length;
  }
  return table;
}
