/**
 * The import rules of the source tree as data, and a check of a set of files against them: one direction
 * (ui, server, cli -> protocol and worker/client -> worker -> engine), and no cycles. Type-only imports count as
 * arrows, since they tie files together as values do; they close no cycle, since they are gone when the code runs.
 * Imports are read with Vite's parser (oxc).
 */
import { posix } from 'node:path';
import { parseSync } from 'vite';

/**
 * @typedef {object} Arrow
 * @property {string} target - what the specifier names: a path in the repository, or the specifier of a package
 * @property {boolean} typeOnly
 * @property {number} line
 */

/**
 * First rule whose `from` matches a file decides about it: it may import files that match `to`, and Node's
 * modules when `node` says so. Files that match no rule are free (tests, benches, scripts).
 * @type {{ from: RegExp, to: RegExp, node: boolean, say: string }[]}
 */
export const rules = [
  {
    from: /^src\/protocol\.ts$/,
    to: /^src\/engine\//,
    node: false,
    say: 'protocol.ts imports types of the engine only',
  },
  {
    from: /^src\/ui\//,
    to: /^src\/(ui\/|protocol\.ts$|worker\/((web\/)?client|types)\.ts$)/,
    node: false,
    say: 'ui imports only ui, protocol and worker/client (with its types)',
  },
  {
    from: /^src\/server\//,
    to: /^src\/(server\/|protocol\.ts$|worker\/((node\/)?client|types)\.ts$)/,
    node: true,
    say: 'server imports only server, protocol and worker/client (with its types)',
  },
  {
    from: /^src\/cli\//,
    to: /^src\/(cli\/|server\/|hub\/|protocol\.ts$|worker\/((node\/)?client|types)\.ts$)|^bench\//,
    node: true,
    say: 'cli imports only cli, server, hub, bench, protocol and worker/client (with its types)',
  },
  { from: /^src\/hub\//, to: /^src\/hub\//, node: true, say: 'hub imports only hub' },
  {
    from: /^src\/worker\/(.*\/)?(node\/.*|\w*Node|[\w.]*\.node)/,
    to: /^src\/(worker\/|protocol\.ts$|engine\/)/,
    node: true,
    say: 'worker imports only worker, protocol and engine',
  },
  {
    from: /^src\/worker\//,
    to: /^src\/(worker\/|protocol\.ts$|engine\/)/,
    node: false,
    say: 'worker imports only worker, protocol and engine',
  },
  {
    // The cuda device is an addon: there is nothing of it in a browser.
    from: /^src\/engine\/(device\/cuda\/.*|(.*\/)?(\w*Node|[\w.]*\.node)\.ts$)/,
    to: /^src\/(engine\/|protocol\.ts$)/,
    node: true,
    say: 'engine imports only engine and types of protocol',
  },
  {
    from: /^src\/engine\//,
    to: /^src\/(engine\/|protocol\.ts$)/,
    node: false,
    say: 'engine imports only engine and types of protocol',
  },
  { from: /^src\//, to: /^src\//, node: false, say: 'src imports nothing outside of src' },
];

/** Data files that any source file may import. */
const dataFile = /\.(json|css|svg|wgsl)(\?.*)?$|^package\.json$/;

/** All specifiers that a source names: static and dynamic imports, re-exports, and `new URL('…', import.meta.url)`. */
export function readImports(/** @type {string} */ path, /** @type {string} */ source) {
  const { module, errors } = parseSync(path, source);
  if (errors.length) throw new Error(`${path} does not parse: ${errors[0].message}`);
  const lineAt = (/** @type {number} */ offset) => source.slice(0, offset).split('\n').length;
  /** @type {{ specifier: string, typeOnly: boolean, line: number }[]} */
  const found = [];
  for (const { moduleRequest, entries, start } of module.staticImports) {
    const typeOnly = entries.length > 0 && entries.every((entry) => entry.isType);
    found.push({ specifier: moduleRequest.value, typeOnly, line: lineAt(start) });
  }
  for (const { entries, start } of module.staticExports) {
    const reexports = entries.filter((entry) => entry.moduleRequest);
    if (!reexports.length) continue;
    const typeOnly = reexports.every((entry) => entry.isType);
    found.push({ specifier: String(reexports[0].moduleRequest?.value), typeOnly, line: lineAt(start) });
  }
  for (const { moduleRequest, start } of module.dynamicImports) {
    const literal = /^['"`](.*)['"`]$/.exec(source.slice(moduleRequest.start, moduleRequest.end));
    if (literal) found.push({ specifier: literal[1], typeOnly: false, line: lineAt(start) });
  }
  // A worker is reached by URL; that is an arrow like any other. (Types written as import('…') as well.)
  for (const match of source.matchAll(/new URL\(\s*['"](\.[^'"]+\.ts)['"],\s*import\.meta\.url/g)) {
    found.push({ specifier: match[1], typeOnly: false, line: lineAt(match.index) });
  }
  for (const match of source.matchAll(/(?<!await )\bimport\(['"](\.[^'"]+)['"]\)\./g)) {
    if (!found.some((other) => other.specifier === match[1])) {
      found.push({ specifier: match[1], typeOnly: true, line: lineAt(match.index) });
    }
  }
  return found;
}

/**
 * @param {Map<string, string>} files - path in the repository -> source
 * @returns {Map<string, Arrow[]>} what each file imports
 */
export function importGraph(files) {
  /** @type {Map<string, Arrow[]>} */
  const graph = new Map();
  for (const [path, source] of files) {
    const arrows = readImports(path, source).map(({ specifier, typeOnly, line }) => ({
      target: specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : specifier,
      typeOnly,
      line,
    }));
    graph.set(path, arrows);
  }
  return graph;
}

/** @returns {string[]} one sentence for each import that no rule allows */
export function wrongArrows(/** @type {Map<string, Arrow[]>} */ graph) {
  const wrong = [];
  for (const [path, arrows] of graph) {
    const rule = rules.find(({ from }) => from.test(path));
    if (!rule) continue;
    for (const { target, typeOnly, line } of arrows) {
      const where = `${path}:${line}: imports ${target}`;
      const isNode = target.startsWith('node:');
      const isPackage =
        !/^(src|test|bench|scripts|bin|shaders|models|docs)\//.test(target) &&
        !/^[\w.]+\.(ts|js|json)$/.test(target);
      if (isNode && !rule.node)
        wrong.push(`${where}, but only files named *Node.ts or *.node.ts here may use Node's modules`);
      if (isNode || isPackage || dataFile.test(target)) {
        if (path === 'src/protocol.ts') wrong.push(`${where}, but ${rule.say}`);
        continue;
      }
      if (!rule.to.test(target)) wrong.push(`${where}, but ${rule.say}`);
      else if (!typeOnly && mustBeTypes(path, target))
        wrong.push(`${where} as a value, but protocol.ts holds types only`);
    }
  }
  return wrong;
}

/** protocol.ts has no values: it imports types, and the engine takes types from it. */
function mustBeTypes(/** @type {string} */ path, /** @type {string} */ target) {
  return path === 'src/protocol.ts' || target === 'src/protocol.ts';
}

/**
 * Finds the import cycles: strongly connected components of more than one file (Tarjan 1972), or a file that
 * imports itself.
 * @returns {string[]} one line for each cycle, its files in import order
 */
export function cycles(/** @type {Map<string, Arrow[]>} */ graph) {
  /** @type {Map<string, { index: number, low: number, open: boolean }>} */
  const seen = new Map();
  /** @type {string[]} */
  const stack = [];
  /** @type {string[]} */
  const found = [];
  const targets = (/** @type {string} */ path) =>
    (graph.get(path) ?? [])
      .filter((arrow) => !arrow.typeOnly && graph.has(arrow.target))
      .map(({ target }) => target);

  const visit = (/** @type {string} */ path) => {
    const state = { index: seen.size, low: seen.size, open: true };
    seen.set(path, state);
    stack.push(path);
    for (const target of targets(path)) {
      const other = seen.get(target) ?? visit(target);
      if (other.open) state.low = Math.min(state.low, other.low);
    }
    if (state.low === state.index) {
      const component = stack.splice(stack.indexOf(path));
      for (const member of component) Object.assign(seen.get(member) ?? {}, { open: false });
      if (component.length > 1 || targets(path).includes(path)) found.push(ring(component, targets));
    }
    return state;
  };
  for (const path of graph.keys()) if (!seen.has(path)) visit(path);
  return found;
}

/** A shortest way round through a component, from its first file. */
function ring(/** @type {string[]} */ component, /** @type {(path: string) => string[]} */ targets) {
  const start = component[0];
  /** @type {string[][]} */
  const ways = [[start]];
  for (const way of ways) {
    for (const target of targets(way[way.length - 1])) {
      if (target === start) return `import cycle: ${[...way, start].join(' -> ')}`;
      if (component.includes(target) && !ways.some((other) => other.includes(target)))
        ways.push([...way, target]);
    }
  }
  return `import cycle among ${component.join(', ')}`;
}

/** @returns {string[]} everything wrong with the imports of these files */
export function checkImports(/** @type {Map<string, string>} */ files) {
  const graph = importGraph(files);
  return [...wrongArrows(graph), ...cycles(graph)];
}
