/** Names of models on the hub, and where the cache keeps them. Does no I/O. */

import { homedir } from 'node:os';
import { join } from 'node:path';

/** A name, file list or download that cannot be used; the message says what to do. */
export class HubError extends Error {
  override name = 'HubError';
}

export interface RepoSpec {
  readonly name: string; // owner/name
  readonly revision: string; // branch, tag or commit
}

/** Reads `owner/name` or `owner/name@revision`. @throws HubError */
export function parseRepo(text: string): RepoSpec {
  const [name, revision = 'main', ...rest] = text.split('@');
  const part = '[A-Za-z0-9][A-Za-z0-9._-]{0,95}';
  if (!new RegExp(`^(${part}/)?${part}$`).test(name) || name.includes('..') || rest.length > 0) {
    throw new HubError(
      `'${text}' is neither a directory nor the name of a model; expected owner/name or owner/name@revision`,
    );
  }
  if (!/^[\w./-]{1,200}$/.test(revision) || revision.includes('..')) {
    throw new HubError(`'${revision}' is not a revision; expected a branch, a tag or a commit`);
  }
  return { name, revision };
}

/** $NANOFLOW_CACHE, else ~/.cache/nanoflow. */
export function defaultCache(environment: NodeJS.ProcessEnv = process.env): string {
  return environment.NANOFLOW_CACHE || join(homedir(), '.cache', 'nanoflow');
}

/** <cache>/models/owner--name/: commits/<hash>/ hold files, refs/<revision> the hash that a revision last meant. */
export function repoFolder(cache: string, name: string): string {
  return join(cache, 'models', name.replace('/', '--'));
}

/** @throws HubError unless it is a full commit hash: it becomes the name of a folder. */
export function commitFolder(cache: string, name: string, commit: string): string {
  if (!isCommit(commit))
    throw new HubError(`the hub gave '${commit}' as the commit of ${name}; expected 40 hex digits`);
  return join(repoFolder(cache, name), 'commits', commit);
}

export function isCommit(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}

export function refFile(cache: string, { name, revision }: RepoSpec): string {
  return join(repoFolder(cache, name), 'refs', encodeURIComponent(revision));
}
