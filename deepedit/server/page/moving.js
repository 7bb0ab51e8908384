// Where one is in the volume, and how it is seen: the crosshair, what lies in the middle, zoom and window.

import { clamp, extent, fit, middle } from "./geometry.js";
import { state, update } from "./state.js";

const MARGIN = 8;
const [LEAST_ZOOM, MOST_ZOOM] = [0.5, 40];

/** The planes that are seen now, each a PlaneView; view.js keeps them. */
export let seen = [];

export function setSeen(views) {
  seen = views;
}

/** Pixels per mm, the same in all planes: all of the volume fits at a zoom of 1. */
export function pixelsPerMm(zoom = state.zoom) {
  return fit(seen, state.image.facts, MARGIN) * zoom;
}

/** Go to a voxel, and bring it into sight. */
export function goTo(voxel) {
  const { image } = state;
  if (!image?.facts) return;
  const cursor = voxel.map((at, axis) => clamp(Math.round(at), 0, image.facts.shape[axis] - 1));
  const mm = middle(cursor, image.facts);
  const centre = [...state.centre];
  for (const view of seen) {
    if (!view.placement) continue;
    const [x, y] = view.placement.toPixel(mm);
    if (x < 0 || x > view.width) centre[view.plane.across] = mm[view.plane.across];
    if (y < 0 || y > view.height) centre[view.plane.down] = mm[view.plane.down];
  }
  update({ cursor, centre });
}

/** Scroll a plane by so many slices. */
export function scroll(plane, slices) {
  const cursor = [...state.cursor];
  cursor[plane.normal] += slices;
  goTo(cursor);
}

/** Show all of the volume. */
export function fitAll() {
  const { image } = state;
  if (image?.facts) update({ zoom: 1, centre: extent(image.facts).map((side) => side / 2) });
}

/** Zoom all planes; what is at a pixel of this one stays there. */
export function zoomBy(view, factor, pixel = [view.width / 2, view.height / 2]) {
  const zoom = clamp(state.zoom * factor, LEAST_ZOOM, MOST_ZOOM);
  const mm = view.placement.toMm(pixel, state.centre);
  const scale = pixelsPerMm(zoom);
  const centre = [...state.centre];
  centre[view.plane.across] = mm[view.plane.across] + (pixel[0] - view.width / 2) / scale;
  centre[view.plane.down] = mm[view.plane.down] + (pixel[1] - view.height / 2) / scale;
  update({ zoom, centre });
}

/** Zoom all planes; what is under the crosshair stays where it is. */
export function zoomAtCrosshair(factor) {
  if (!state.image?.facts) return;
  const zoom = clamp(state.zoom * factor, LEAST_ZOOM, MOST_ZOOM);
  const mm = middle(state.cursor, state.image.facts);
  const centre = mm.map((at, axis) => at + ((state.centre[axis] - at) * state.zoom) / zoom);
  update({ zoom, centre });
}

export function panBy(view, x, y) {
  const centre = [...state.centre];
  const sides = extent(state.image.facts);
  for (const [axis, pixels] of [[view.plane.across, x], [view.plane.down, y]]) {
    centre[axis] = clamp(centre[axis] + pixels / view.placement.scale, 0, sides[axis]);
  }
  update({ centre });
}

/** To the right more contrast is lost, downwards it gets brighter: the width and centre of the window. */
export function windowBy(x, y) {
  const { facts } = state.image;
  const unit = facts.window[1] / 256;
  const width = Math.max(state.window[1] + x * unit, facts.window[1] / 1000);
  update({ window: [state.window[0] - y * unit, width] });
}
