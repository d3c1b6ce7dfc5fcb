/**
 * Whether a pipeline computes its graph: every token of every operation once, everything that an operation needs in an
 * earlier stage, shares within the device. A pipeline from a file or a search is checked before a device carries it out.
 */
import type { Operation, OperationGraph, OperationName } from '../model/graph.ts';
import { halvesProblem } from './arrangement.ts';
import { coverageProblems } from './coverage.ts';
import { dependenciesOf, layerOperations } from './dependencies.ts';
import type { NanoOperation, Pipeline } from './pipeline.ts';

/** Layers that dependencies are followed through; the stage list repeats, so any later layer is like the middle one. */
const UNROLLED = 4;

export class PipelineError extends Error {
  readonly problems: readonly string[];

  constructor(name: string, problems: readonly string[]) {
    const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
    super(`pipeline "${name}" is not valid: ${problems[0]}${more}`);
    this.name = 'PipelineError';
    this.problems = problems;
  }
}

/** @throws PipelineError with every problem found. */
export function validatePipeline(pipeline: Pipeline, graph: OperationGraph): void {
  const problems = pipelineProblems(pipeline, graph);
  if (problems.length > 0) throw new PipelineError(pipeline.name, problems);
}

/** What is wrong, one sentence each with what was found, what was expected and what to do; empty when it is valid. */
export function pipelineProblems(pipeline: Pipeline, graph: OperationGraph): string[] {
  const operations = layerOperations(graph);
  // What refers to unknown ids or ranges outside the batch makes every later finding noise.
  for (const check of [headProblems, idProblems, stageListProblems]) {
    const found = check(pipeline, graph, operations);
    if (found.length > 0) return found;
  }
  return [
    ...coverageProblems(pipeline, operations),
    ...dependencyProblems(pipeline, operations),
    ...cycleProblems(pipeline),
    ...orderProblems(pipeline),
    ...shareProblems(pipeline),
  ];
}

type Operations = ReadonlyMap<OperationName, Operation>;

function headProblems(
  { tokens, decodeTokens, halves, workgroups, ranks, greenContexts, stages }: Pipeline,
  graph: OperationGraph,
): string[] {
  const problems: string[] = [];
  if (ranks !== graph.options.ranks) {
    problems.push(
      `it is for ${ranks} ranks, expected the model's ${graph.options.ranks}: make it for this system`,
    );
  }
  const whole = [tokens, decodeTokens, workgroups].every(Number.isInteger);
  if (!whole || tokens < 1 || decodeTokens < 0 || decodeTokens > tokens || workgroups < 1) {
    problems.push(
      `it has ${tokens} tokens, ${decodeTokens} decode tokens and ${workgroups} workgroups, expected whole numbers ` +
        'with 0 <= decodeTokens <= tokens and at least one workgroup: correct them',
    );
  }
  if (greenContexts && stages.some(({ colocated }) => colocated)) {
    problems.push(
      'it has green contexts and a co-located stage, expected one of them: cores are either kept apart or shared',
    );
  }
  const problem = halvesProblem({ tokens, decodeTokens, halves });
  if (problem) problems.push(problem);
  return problems;
}

function idProblems({ nano, tokens }: Pipeline, _: OperationGraph, operations: Operations): string[] {
  const problems: string[] = [];
  const ids = new Set<string>();
  for (const each of nano) {
    const { id, operation, lane, range } = each;
    const known = operations.get(operation);
    if (ids.has(id)) problems.push(`id ${id} occurs twice, expected unique ids: number them in token order`);
    ids.add(id);
    if (!known) {
      problems.push(
        `${id} is of operation ${operation}, expected one of ${[...operations.keys()].join(', ')}: remove it`,
      );
      continue;
    }
    if (lane !== known.lane) {
      problems.push(`${id} is in lane ${lane}, expected ${known.lane}: use the operation's lane`);
    }
    const [start, end] = range;
    if (!range.every(Number.isInteger) || start < 0 || end > tokens || start >= end) {
      problems.push(
        `${id} has rows [${start}, ${end}), expected some of [0, ${tokens}): move it inside the batch`,
      );
    }
  }
  if (problems.length > 0) return problems;
  for (const name of operations.keys()) {
    const ordered = nano
      .filter(({ operation }) => operation === name)
      .sort((a, b) => a.range[0] - b.range[0]);
    ordered.forEach(({ id }, i) => {
      if (id !== `${name}.${i + 1}`) {
        problems.push(
          `${id} is number ${i + 1} of ${name} in token order, expected id ${name}.${i + 1}: rename it`,
        );
      }
    });
  }
  for (const { id, after } of nano) {
    for (const need of after) {
      if (!ids.has(need.id) || (need.layer !== 0 && need.layer !== -1)) {
        problems.push(
          `${id} waits for ${need.id} of layer ${need.layer}, expected a nano-operation of layer 0 or -1: correct after`,
        );
      }
    }
  }
  return problems;
}

function stageListProblems({ nano, stages }: Pipeline): string[] {
  const problems: string[] = [];
  const count = new Map(nano.map(({ id }) => [id, 0]));
  stages.forEach(({ members }, at) => {
    if (members.length === 0)
      problems.push(`stage ${at} has no members, expected at least one: leave the stage out`);
    for (const { id, layer } of members) {
      if (!count.has(id)) {
        problems.push(`stage ${at} runs ${id}, expected an id of a nano-operation: correct or add it`);
      } else if (layer !== 0 && layer !== 1) {
        problems.push(`stage ${at} runs ${id} of layer ${String(layer)}, expected 0 or 1: correct it`);
      } else count.set(id, count.get(id)! + 1);
    }
  });
  for (const [id, times] of count) {
    if (times !== 1)
      problems.push(`${id} is in ${times} stages, expected exactly one: add it to a stage or keep one`);
  }
  return problems;
}

function dependencyProblems({ nano }: Pipeline, operations: Operations): string[] {
  return nano.flatMap((each) =>
    dependenciesOf(operations, nano, each)
      .filter(({ id, layer }) => !each.after.some((has) => has.id === id && has.layer === layer))
      .map(
        ({ id, layer }) =>
          `${each.id} does not wait for ${id} of layer ${layer}, whose rows it needs: add it to after`,
      ),
  );
}

/** Edges to the layer before cannot close a cycle, so only those within a layer are walked. */
function cycleProblems({ nano }: Pipeline): string[] {
  const byId = new Map(nano.map((each) => [each.id, each]));
  const state = new Map<string, 'open' | 'done'>();
  const walk = (each: NanoOperation, path: string[]): string[] => {
    if (state.get(each.id) === 'done') return [];
    const trail = [...path, each.id];
    if (state.get(each.id) === 'open') {
      const cycle = trail.slice(path.indexOf(each.id)).join(' after ');
      return [`${cycle} is a cycle, expected an order: remove one of these dependencies`];
    }
    state.set(each.id, 'open');
    const found = each.after
      .filter(({ layer }) => layer === 0)
      .flatMap(({ id }) => walk(byId.get(id)!, trail));
    state.set(each.id, 'done');
    return found;
  };
  return nano.flatMap((each) => walk(each, []));
}

/** Runs the stage list for some layers and looks whether what a member waits for has ended. */
function orderProblems({ nano, stages }: Pipeline): string[] {
  const byId = new Map(nano.map((each) => [each.id, each]));
  const ended = new Set<string>();
  const problems = new Set<string>();
  for (let cycle = -1; cycle < UNROLLED; cycle++) {
    stages.forEach(({ members }, at) => {
      const now = members
        .map((member) => ({ id: member.id, layer: cycle + member.layer }))
        .filter(({ layer }) => layer >= 0 && layer < UNROLLED);
      for (const { id, layer } of now) {
        for (const need of byId.get(id)!.after) {
          const of = layer + need.layer;
          if (of < 0 || ended.has(`${need.id}@${of}`)) continue;
          const beside = now.some((other) => other.id === need.id && other.layer === of);
          problems.add(
            beside
              ? `${id} and ${need.id} are both in stage ${at}, but ${id} waits for ${need.id}; expected members to be independent: move one`
              : `${id} in stage ${at} waits for ${need.id} of layer ${need.layer}, which comes later; expected it in an earlier stage: reorder`,
          );
        }
      }
      for (const { id, layer } of now) ended.add(`${id}@${layer}`);
    });
  }
  return [...problems];
}

function shareProblems({ nano, stages, workgroups }: Pipeline): string[] {
  const byId = new Map(nano.map((each) => [each.id, each]));
  const each = nano
    .filter(({ share }) => !Number.isInteger(share) || share < 1 || share > workgroups)
    .map(({ id, share }) => `${id} has share ${share}, expected 1 to ${workgroups} workgroups: change it`);
  const together = stages.flatMap(({ members, colocated }, at) => {
    if (colocated) return [];
    const sum = members.reduce((total, { id }) => total + byId.get(id)!.share, 0);
    if (sum <= workgroups) return [];
    const ids = members.map(({ id }) => id).join(', ');
    return [
      `stage ${at} (${ids}) takes ${sum} workgroups, expected at most ${workgroups}: lower shares or split the stage`,
    ];
  });
  return [...each, ...together];
}
