// What is drawn over a slice: the crosshair, clicks, letters, a scale.

import { middle, toDisplay } from "./geometry.js";
import { labelOf, rankOf, state } from "./state.js";

export const BACKDROP = "#0b0c0e";
const LETTER = "rgb(228 232 238 / 0.85)";
const CROSSHAIR = "rgb(255 255 255 / 0.42)";
const NEAR = 2; // slices within which a click is drawn as a ring
const MANY = 5; // clicks of a step that are drawn small

/** Lines through the cursor, with a gap around it, within the frame of the slice. */
export function drawCrosshair(context, placement, [left, top, width, height]) {
  const [x, y] = placement.toPixel(middle(state.cursor, state.image.facts)).map(sharp);
  const gap = 9;
  context.strokeStyle = CROSSHAIR;
  context.lineWidth = 1;
  context.beginPath();
  for (const [fromX, fromY, toX, toY] of [
    [left, y, x - gap, y],
    [x + gap, y, left + width, y],
    [x, top, x, y - gap],
    [x, y + gap, x, top + height],
  ]) {
    if (toX < fromX || toY < fromY) continue;
    context.moveTo(fromX, fromY);
    context.lineTo(toX, toY);
  }
  context.stroke();
}

/** All clicks that lie in a plane or close to it, and those of a stroke that is being drawn. */
export function drawClicks(context, placement, stroke) {
  const { facts } = state.image;
  const answered = state.answered?.work.steps ?? [];
  for (const step of state.work.steps) {
    const waits = !answered.includes(step);
    for (const [label, file] of step.clicks ?? []) {
      drawClick(context, placement, toDisplay(file, facts), rankOf(label), waits, step.clicks.length > MANY);
    }
  }
  for (const { voxel, rank } of state.group) drawClick(context, placement, voxel, rank, true, false);
  for (const { voxel, rank } of stroke) drawClick(context, placement, voxel, rank, true, true);
}

/** A click: a dot where it lies in the plane, hollow while it waits for its answer; a ring in planes close by. */
function drawClick(context, placement, voxel, rank, waits, small) {
  const { normal } = placement.plane;
  const away = Math.abs(voxel[normal] - state.cursor[normal]);
  if (away > NEAR || (away && small)) return;
  const [x, y] = placement.toPixel(middle(voxel, state.image.facts));
  const colour = rank ? labelOf(rank)?.colour : "#2a2c30";
  if (away) drawRing(context, x, y, rank ? colour : "#fff");
  else if (small) drawDisc(context, x, y, 2.5, 1, colour);
  else if (waits) {
    drawDisc(context, x, y, 5.5, 1.75, BACKDROP);
    fillCircle(context, x, y, 2.2, rank ? colour : "#fff");
  } else {
    drawDisc(context, x, y, 5.5, 1.75, colour);
    if (!rank) drawCross(context, x, y, 2.5);
  }
}

function drawRing(context, x, y, colour) {
  for (const [line, stroke] of [[3, "#000"], [1.5, colour]]) {
    context.beginPath();
    context.arc(x, y, 4, 0, 2 * Math.PI);
    context.lineWidth = line;
    context.strokeStyle = stroke;
    context.stroke();
  }
}

/** A disc with a white rim, and a black one around that, so that it is seen on any image. */
function drawDisc(context, x, y, radius, rim, colour) {
  fillCircle(context, x, y, radius + rim + 1, "#000");
  fillCircle(context, x, y, radius + rim, "#fff");
  fillCircle(context, x, y, radius, colour);
}

function fillCircle(context, x, y, radius, colour) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
}

function drawCross(context, x, y, arm) {
  context.beginPath();
  for (const sign of [1, -1]) {
    context.moveTo(x - arm, y - sign * arm);
    context.lineTo(x + arm, y + sign * arm);
  }
  context.lineWidth = 1.75;
  context.strokeStyle = "#fff";
  context.stroke();
}

/** The letters of the patient's sides, at the ends of the axes. */
export function drawLetters(context, { plane, width, height }) {
  const { letters } = state.image.facts;
  const [across, down] = [letters[plane.across], letters[plane.down]];
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  write(context, across[1], 12, height / 2);
  write(context, across[0], width - 12, height / 2);
  write(context, down[1], width / 2, 14);
  write(context, down[0], width / 2, height - 14);
}

/** A line of a round length. */
export function drawScale(context, { scale, height }) {
  const most = 90 / scale;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((factor) => factor * power).find((mm) => mm <= most);
  const [x, y] = [12.5, sharp(height - 12)];
  context.beginPath();
  context.moveTo(x, y - 4);
  context.lineTo(x, y);
  context.lineTo(x + length * scale, y);
  context.lineTo(x + length * scale, y - 4);
  for (const [line, stroke] of [[3, BACKDROP], [1, LETTER]]) {
    context.lineWidth = line;
    context.strokeStyle = stroke;
    context.stroke();
  }
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  write(context, length >= 10 ? `${length / 10} cm` : `${length} mm`, x + 2, y - 7);
}

/** A text that is read on any image. */
function write(context, words, x, y) {
  context.lineJoin = "round";
  context.lineWidth = 3;
  context.strokeStyle = BACKDROP;
  context.fillStyle = LETTER;
  context.strokeText(words, x, y);
  context.fillText(words, x, y);
}

/** The nearest position at which a line of one pixel is sharp. */
function sharp(at) {
  return Math.round(at - 0.5) + 0.5;
}
