/**
 * Renaming of a module's own names, so that several whole modules fit into one. A small scanner, not a parser: WGSL
 * declares module-scope names with a keyword in front, and uses them as plain identifiers.
 */

const TOKEN = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|[A-Za-z_]\w*|\d\w*(?:\.\w*)?|[\s\S]/g;
const IDENTIFIER = /^[A-Za-z_]\w*$/;
const DECLARES = new Set(['fn', 'var', 'const', 'override', 'alias', 'struct']);

/** Names that a module declares at its top level, in order. */
export function moduleNames(code: string): string[] {
  const names: string[] = [];
  let depth = 0;
  let declaring = false;
  let template = 0; // of var<storage, read>
  for (const token of code.match(TOKEN) ?? []) {
    if (isSpace(token)) continue;
    if ('{(['.includes(token)) depth++;
    if ('})]'.includes(token)) depth--;
    if (depth > 0 || token === ')' || token === '}' || token === ']') continue;
    if (DECLARES.has(token)) declaring = true;
    else if (declaring && token === '<') template++;
    else if (declaring && token === '>') template--;
    else if (declaring && template === 0 && IDENTIFIER.test(token)) {
      names.push(token);
      declaring = false;
    }
  }
  return names;
}

/**
 * The module with `rename` applied to the names of its top level. Members of structs keep theirs: they come after a
 * point, or before a colon inside a struct.
 */
export function renameModule(code: string, rename: (name: string) => string): string {
  const names = new Set(moduleNames(code));
  const tokens = code.match(TOKEN) ?? [];
  let inStruct = false;
  let depth = 0;
  let before = '';
  return tokens
    .map((token, at) => {
      if (isSpace(token)) return token;
      const previous = before;
      before = token;
      if (token === 'struct' && depth === 0) inStruct = true;
      if (token === '{') depth++;
      if (token === '}' && --depth === 0) inStruct = false;
      if (!names.has(token) || previous === '.' || previous === '@') return token;
      const member = inStruct && depth === 1 && next(tokens, at) === ':';
      return member ? token : rename(token);
    })
    .join('');
}

function isSpace(token: string): boolean {
  return /^\s/.test(token) || token.startsWith('//') || token.startsWith('/*');
}

function next(tokens: readonly string[], at: number): string | undefined {
  for (let i = at + 1; i < tokens.length; i++) if (!isSpace(tokens[i])) return tokens[i];
  return undefined;
}
