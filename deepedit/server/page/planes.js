// Draws the planes: the windowed slice, the labels, what changed; and what marks.js draws over them.

import { contours } from "./contours.js";
import { Placement } from "./geometry.js";
import { BACKDROP, drawClicks, drawCrosshair, drawLetters, drawScale } from "./marks.js";
import { HEAT, cut, cutPlain, greyTable, pixel, sizeOf, tint } from "./slices.js";
import { labelOf, labels, state } from "./state.js";

const OUTLINE_ALPHA = 0.95;
const SMOOTH_FROM = 2; // pixels a voxel; where there are fewer, a curve would not be seen, and takes longer
const FLASH_MS = 700;

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/** One plane on a canvas, and what is worth keeping of the picture before. */
export class PlaneView {
  constructor(plane, canvas) {
    Object.assign(this, { plane, canvas, context: canvas.getContext("2d", { alpha: false }) });
    this.grey = new Layer();
    this.heat = new Layer();
    this.still = document.createElement("canvas");
    this.stillContext = this.still.getContext("2d", { alpha: false });
    this.drawn = [];
    this.tints = new Layer();
    this.changed = new Layer();
    this.ranks = { of: null, key: null, values: null };
    this.curves = { of: null, paths: null };
    this.flash = null;
    this.stroke = [];
  }

  /** Take the size that the page gives to the canvas. */
  measure() {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.canvas.getBoundingClientRect();
    Object.assign(this, { width, height, ratio });
    const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== columns || this.canvas.height !== rows) {
      Object.assign(this.canvas, { width: columns, height: rows });
    }
  }

  get index() {
    return state.cursor[this.plane.normal];
  }

  /** Draw all of it, at so many pixels per mm, unless it is there already. */
  draw(scale) {
    const { context, width, height, ratio } = this;
    const { image, work, group, answered } = state;
    this.placement = new Placement(this.plane, width, height, scale, state.centre);
    const marks = [work, group, answered?.work, this.stroke, this.stroke.length];
    const moving = [state.cursor, state.crosshair, this.flash, ...marks];
    const kept = this.drawStill(scale);
    if (kept && !this.flash && isSame(moving, this.drawn)) return;
    this.drawn = moving;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.still, 0, 0);
    if (!image?.voxels) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const frame = this.placement.frame(image.facts);
    if (this.flash) this.drawFlash(frame);
    if (state.crosshair) drawCrosshair(context, this.placement, frame);
    drawClicks(context, this.placement, this.stroke);
    drawLetters(context, this.placement);
    drawScale(context, this.placement);
  }

  /** Draw the slice and its labels on a canvas of their own, unless they are there; returns whether they were. */
  drawStill(scale) {
    const { width, height, ratio, still } = this;
    const { image, answered, window, centre, opacity, hidden, uncertainty } = state;
    const shown = [image?.voxels, image?.received, this.index, window, answered?.version, hidden, opacity, uncertainty];
    const key = [...shown, scale, ...centre, width, height, ratio];
    if (this.stillKey && isSame(key, this.stillKey)) return true;
    this.stillKey = key;
    if (still.width !== this.canvas.width || still.height !== this.canvas.height) {
      Object.assign(still, { width: this.canvas.width, height: this.canvas.height });
    }
    const context = this.stillContext;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = BACKDROP;
    context.fillRect(0, 0, width, height);
    if (!image?.voxels) return false;
    const frame = this.placement.frame(image.facts);
    context.drawImage(this.greySlice(), ...frame);
    if (uncertainty?.values) context.drawImage(this.heatSlice(), ...frame);
    if (answered) this.drawLabels(context, frame);
    return false;
  }

  greySlice() {
    const { voxels, facts, received } = state.image;
    const key = [voxels, received, this.index, state.window];
    return this.grey.of(key, sizeOf(this.plane, facts.shape), (pixels) => {
      const { table, first } = tableFor(facts, state.window);
      cut(voxels, facts.shape, this.plane, this.index, table, first, pixels);
    });
  }

  heatSlice() {
    const { shape } = state.image.facts;
    const { values } = state.uncertainty;
    return this.heat.of([values, this.index], sizeOf(this.plane, shape), (pixels) =>
      cut(values, shape, this.plane, this.index, HEAT, 0, pixels),
    );
  }

  /** Ranks of the slice that is shown. */
  slice() {
    const { answered, image } = state;
    const key = `${answered.version} ${this.index}`;
    if (this.ranks.of !== answered.ranks || this.ranks.key !== key) {
      const [columns, rows] = sizeOf(this.plane, image.facts.shape);
      const values = new Uint8Array(columns * rows);
      cutPlain(answered.ranks, image.facts.shape, this.plane, this.index, values);
      this.ranks = { of: answered.ranks, key, values };
    }
    return this.ranks.values;
  }

  drawLabels(context, frame) {
    const { shape } = state.image.facts;
    const [columns, rows] = sizeOf(this.plane, shape);
    const pixelsAVoxel = this.ratio * Math.min(frame[2] / columns, frame[3] / rows);
    if (pixelsAVoxel < SMOOTH_FROM) context.drawImage(this.tintedSlice(columns, rows), ...frame);
    else this.drawCurves(context, frame, columns, rows);
  }

  tintedSlice(columns, rows) {
    const { hidden, opacity, model } = state;
    const values = this.slice();
    return this.tints.of([values, hidden, opacity, model], [columns, rows], (pixels) => {
      const colours = labels().map(({ colour }, at) => (hidden.has(at + 1) ? null : colour));
      const table = (alpha) => Uint32Array.from([0, ...colours.map((colour) => (colour ? pixel(colour, alpha) : 0))]);
      tint(values, columns, table(OUTLINE_ALPHA), table(opacity), pixels);
    });
  }

  drawCurves(context, frame, columns, rows) {
    const values = this.slice();
    if (this.curves.of !== values) this.curves = { of: values, paths: contours(values, columns, rows) };
    context.lineWidth = 1.5;
    for (const [rank, path] of this.curves.paths) {
      const label = labelOf(rank);
      if (!label || state.hidden.has(rank)) continue;
      const placed = this.place(path, frame);
      context.fillStyle = context.strokeStyle = label.colour;
      context.globalAlpha = state.opacity;
      context.fill(placed, "evenodd");
      context.globalAlpha = OUTLINE_ALPHA;
      context.stroke(placed);
    }
    context.globalAlpha = 1;
  }

  /** A path in pixels of the slice as one in pixels of the pane. */
  place(path, [left, top, width, height]) {
    const [columns, rows] = sizeOf(this.plane, state.image.facts.shape);
    const placed = new Path2D();
    placed.addPath(path, new DOMMatrix([width / columns, 0, 0, height / rows, left, top]));
    return placed;
  }

  /** Remember what is shown, since it is about to change. */
  remember() {
    this.before = state.answered && state.image ? { values: this.slice(), index: this.index } : null;
  }

  /** Let light up once where the slice differs from what was remembered. */
  lightUp(now) {
    const { before } = this;
    this.before = null;
    if (!before || before.index !== this.index || reducedMotion.matches) return;
    const values = this.slice();
    let differs = false;
    const layer = this.changed.of([values], sizeOf(this.plane, state.image.facts.shape), (pixels) => {
      for (let at = 0; at < values.length; at++) {
        pixels[at] = values[at] === before.values[at] ? 0 : 0xffffffff;
        differs ||= pixels[at] !== 0;
      }
    });
    this.flash = differs ? { layer, since: now, index: this.index } : null;
  }

  /** Whether the light is still on. */
  isLit(now) {
    if (this.flash && (now - this.flash.since > FLASH_MS || this.flash.index !== this.index)) this.flash = null;
    return this.flash !== null;
  }

  drawFlash(frame) {
    const { context, flash } = this;
    const gone = Math.min((performance.now() - flash.since) / FLASH_MS, 1);
    context.globalAlpha = 0.8 * (1 - gone) ** 2;
    context.drawImage(flash.layer, ...frame);
    context.globalAlpha = 1;
  }
}

function isSame(key, other) {
  return key.length === other.length && key.every((part, at) => part === other[at]);
}

/** A slice as pixels of a canvas of its own, made anew where what it was made from has changed. */
class Layer {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.key = [];
  }

  of(key, [columns, rows], fill) {
    if (isSame(key, this.key)) return this.canvas;
    if (this.canvas.width !== columns || this.canvas.height !== rows || !this.pixels) {
      Object.assign(this.canvas, { width: columns, height: rows });
      this.context = this.canvas.getContext("2d");
      this.pixels = this.context.createImageData(columns, rows);
    }
    fill(new Uint32Array(this.pixels.data.buffer));
    this.context.putImageData(this.pixels, 0, 0);
    this.key = key;
    return this.canvas;
  }
}

let table = { facts: null };

/** The table of grey values, which all planes share. */
function tableFor(facts, window) {
  if (table.facts !== facts || table.window !== window) table = { facts, window, ...greyTable(facts, window) };
  return table;
}
