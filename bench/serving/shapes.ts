/** Published shapes by name, as the cost model sees them, and as config.json for random weights. */
import { parseModelConfig } from '../../src/engine/model/config.ts';
import type { GraphModel } from '../../src/engine/model/graph.ts';
import { graphModelOf } from '../../src/engine/model/graph/build.ts';
import { graphModelOfShape, SHAPE_NAMES } from '../../src/engine/model/shapes.ts';
import { SHAPES } from './randomModel.ts';

/** @throws Error that lists the shapes there are */
export function shapeModel(name: string): GraphModel {
  if (SHAPE_NAMES.includes(name)) return graphModelOfShape(name);
  const json = SHAPES[name];
  if (!json)
    throw new Error(`no shape '${name}'; there are ${[...SHAPE_NAMES, ...Object.keys(SHAPES)].join(', ')}`);
  return graphModelOf(parseModelConfig(JSON.parse(JSON.stringify(json))), name);
}
