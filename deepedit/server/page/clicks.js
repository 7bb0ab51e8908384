// Placing clicks: one by one, several together, along a stroke.

import { inside, toFile } from "./geometry.js";
import { goTo } from "./moving.js";
import { addStep, labelOf, say, state, update } from "./state.js";

const MOST_OF_A_STROKE = 200;

/** Click a voxel: at once, or with the others that are collected. */
export function click(voxel, collect) {
  const { image } = state;
  if (!image?.voxels || !inside(voxel, image.facts)) return;
  if (!labelOf(state.label)) return say("Choose a label first.");
  goTo(voxel);
  if (collect || state.grouping) update({ group: [...state.group, { voxel, rank: state.label }] });
  else send([{ voxel, rank: state.label }]);
}

function send(clicks) {
  addStep({ clicks: clicks.map(({ voxel, rank }) => [labelOf(rank).name, toFile(voxel, state.image.facts)]) });
}

/** Send the clicks that are collected, as one step. */
export function sendGroup() {
  const { group } = state;
  if (!group.length) return;
  update({ group: [] });
  send(group);
}

/** Send the clicks along a stroke as one step, no more than a request takes. */
export function sendStroke(stroke) {
  const every = Math.ceil(stroke.length / MOST_OF_A_STROKE);
  const clicks = stroke.filter((_, at) => at % every === 0);
  if (!clicks.length) return;
  goTo(clicks[clicks.length - 1].voxel);
  send(clicks);
}

/** Collect clicks from now on, or send those that are collected. */
export function toggleGrouping() {
  if (state.grouping) sendGroup();
  update({ grouping: !state.grouping });
}
