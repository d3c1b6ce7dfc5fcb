/**
 * The WGSL preprocessor: whole files in shaders/, a handful of directives, unknown text passes through (so newest
 * WGSL, subgroup matrices included, needs nothing from us).
 *
 * - `#include "lib/foo.wgsl"`: the file's text, the first time it is named.
 * - `#if NAME`, `#if !NAME`, `#if NAME == literal`, `#if NAME != literal`, `#elif ...`, `#else`, `#endif`: nestable.
 *   A define is off when it is false, 0 or ''.
 * - `#for i COUNT` ... `#endfor`: the lines between, COUNT times (a define or a number), with `{{i}}` = 0, 1, ...;
 *   nestable. Where every value must stay in a register: drivers unroll loops over arrays or not, as they like.
 * - `{{NAME}}`: the define's text or number. Not in // comments.
 *
 * A name without a define is an error, so a misspelt switch cannot pass as "off".
 */

export type Defines = Record<string, string | number | boolean>;

/** All shader files by their path under shaders/, e.g. "rms_norm.wgsl" and "lib/main.wgsl". */
export const SHADER_SOURCES: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(
    import.meta.glob<string>('/shaders/**/*.wgsl', { query: '?raw', import: 'default', eager: true }),
  ).map(([path, text]) => [path.slice('/shaders/'.length), text]),
);

/** State of one open #if: whether the lines around it are live, and whether one of its branches was taken. */
interface Branch {
  outerLive: boolean;
  taken: boolean;
  live: boolean;
  openedAt: string;
}

const DIRECTIVE = /^\s*#(include|if|elif|else|endif)\b(.*)$/;
const FOR = /^\s*#for\s+(\w+)\s+(\w+)\s*$/;
const PLACEHOLDER = /\{\{(\w+)\}\}/g;
const CONDITION = /^(!?)\s*(\w+)$|^(\w+)\s*(==|!=)\s*(\S+)$/;

/**
 * The WGSL text of shaders/<name>.wgsl with includes, conditions and substitutions carried out.
 *
 * @throws Error with file and line for an unknown file, an undefined name or an unbalanced directive.
 */
export function expandShader(
  name: string,
  defines: Defines,
  sources: Readonly<Record<string, string>> = SHADER_SOURCES,
): string {
  const included = new Set<string>();

  const valueOf = (key: string, where: string): string | number | boolean => {
    if (!Object.hasOwn(defines, key)) {
      const known = Object.keys(defines).sort().join(', ') || 'none';
      throw new Error(
        `${where}: "${key}" is not defined (defined: ${known}); add it to the launch's defines`,
      );
    }
    return defines[key];
  };

  const holds = (condition: string, where: string): boolean => {
    const match = CONDITION.exec(condition.trim());
    if (!match) {
      throw new Error(
        `${where}: got condition "${condition.trim()}", expected NAME, !NAME, NAME == literal or NAME != literal`,
      );
    }
    const [, not, flag, left, operator, literal] = match;
    if (flag !== undefined) return Boolean(valueOf(flag, where)) !== (not === '!');
    return (String(valueOf(left, where)) === literal) === (operator === '==');
  };

  /** Comments are left as they are, so they can speak of placeholders. */
  const substitute = (line: string, where: string): string => {
    const code = stripComment(line);
    return (
      code.replace(PLACEHOLDER, (_, key: string) => String(valueOf(key, where))) + line.slice(code.length)
    );
  };

  const expandFile = (file: string, from: string): string[] => {
    const text = sources[file];
    if (text === undefined) throw new Error(`${from}: no shader file "${file}" in shaders/`);
    if (included.has(file)) return [];
    included.add(file);
    const out: string[] = [];
    const branches: Branch[] = [];
    const live = (): boolean => branches.length === 0 || branches[branches.length - 1].live;

    const lines = text
      .split('\n')
      .map((line, index) => ({ text: line, where: `shaders/${file}:${index + 1}` }));
    unroll(lines, valueOf).forEach(({ text: line, where }) => {
      const directive = DIRECTIVE.exec(stripComment(line));
      if (!directive) {
        if (live()) out.push(substitute(line, where));
        return;
      }
      const [, verb, rest] = directive;
      if (verb === 'include') {
        if (!live()) return;
        const path = /^\s*"([^"]+)"\s*$/.exec(rest);
        if (!path) throw new Error(`${where}: got "#include${rest}", expected #include "lib/name.wgsl"`);
        out.push(...expandFile(path[1], where));
        return;
      }
      if (verb === 'if') {
        const outerLive = live();
        const taken = outerLive && holds(rest, where);
        branches.push({ outerLive, taken, live: taken, openedAt: where });
        return;
      }
      const branch = branches[branches.length - 1];
      if (!branch) throw new Error(`${where}: #${verb} without #if`);
      if (verb === 'endif') {
        branches.pop();
      } else if (verb === 'else') {
        branch.live = branch.outerLive && !branch.taken;
        branch.taken = true;
      } else {
        branch.live = branch.outerLive && !branch.taken && holds(rest, where);
        branch.taken ||= branch.live;
      }
    });
    const open = branches.pop();
    if (open) throw new Error(`${open.openedAt}: #if without #endif`);
    return out;
  };

  return expandFile(`${name}.wgsl`, `shader "${name}"`).join('\n');
}

interface Line {
  text: string;
  where: string;
}

/** Carries out #for, from the outside in. Looks at branches of #if whether they are taken or not. */
function unroll(lines: readonly Line[], valueOf: (key: string, where: string) => unknown): Line[] {
  const out: Line[] = [];
  for (let at = 0; at < lines.length; at++) {
    const { text, where } = lines[at];
    const code = stripComment(text);
    if (/^\s*#endfor\b/.test(code)) throw new Error(`${where}: #endfor without #for`);
    if (!/^\s*#for\b/.test(code)) {
      out.push(lines[at]);
      continue;
    }
    const [, name, times] = FOR.exec(code) ?? [];
    const count = /^\d+$/.test(times ?? '') ? Number(times) : times && valueOf(times, where);
    if (typeof count !== 'number')
      throw new Error(`${where}: got "${code.trim()}", expected #for name COUNT`);
    let end = at + 1;
    for (let depth = 1; end < lines.length; end++) {
      const inner = stripComment(lines[end].text);
      if (/^\s*#for\b/.test(inner)) depth++;
      if (/^\s*#endfor\b/.test(inner) && --depth === 0) break;
    }
    if (end === lines.length) throw new Error(`${where}: #for without #endfor`);
    const body = lines.slice(at + 1, end);
    for (let i = 0; i < count; i++) {
      const turn = body.map((line) => ({ ...line, text: line.text.replaceAll(`{{${name}}}`, String(i)) }));
      out.push(...unroll(turn, valueOf));
    }
    at = end;
  }
  return out;
}

function stripComment(line: string): string {
  const at = line.indexOf('//');
  return at < 0 ? line : line.slice(0, at);
}

/** The lines around `line` (1-based) with their numbers, for compiler messages. */
export function numberedLines(source: string, line: number, around = 3): string {
  const lines = source.split('\n');
  const first = Math.max(1, line - around);
  const last = Math.min(lines.length, line + around);
  const width = String(last).length;
  const shown: string[] = [];
  for (let at = first; at <= last; at++) {
    shown.push(`${at === line ? '>' : ' '} ${String(at).padStart(width)} | ${lines[at - 1]}`);
  }
  return shown.join('\n');
}
