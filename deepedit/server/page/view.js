// The three panes: what is drawn when, and what pointers, wheels and arrow keys do on them.

import { PLANES, clamp, extent, fit, inside, middle, toFile, toMm } from "./geometry.js";
import { PlaneView } from "./planes.js";
import { addStep, labelOf, onChange, say, state, update } from "./state.js";
import { onBeforeChange } from "./answers.js";

const MARGIN = 8;
const STILL = 4; // pixels that a pointer may move and still click
const MOST_OF_A_STROKE = 200;
const [LEAST_ZOOM, MOST_ZOOM] = [0.5, 40];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Pixels for an arrow key, where it does what dragging does. */
const ARROW_PIXELS = 16;

const narrow = matchMedia("(max-width: 699px)");
const panes = [];

export function buildPanes(root) {
  for (const [number, plane] of PLANES.entries()) panes.push(new Pane(number, plane, root));
  const observer = new ResizeObserver(() => {
    for (const pane of panes) pane.view.measure();
    update();
  });
  for (const pane of panes) observer.observe(pane.canvas);
  narrow.addEventListener("change", () => update());
  onChange(draw);
  onBeforeChange(() => {
    for (const pane of shown()) pane.view.remember();
  });
}

function shown() {
  return panes.filter((pane) => pane.isShown());
}

/** Pixels per mm, the same in all panes, at which everything would fit. */
function fitted() {
  const measured = shown().map(({ view }) => view);
  return fit(measured, state.image.facts, MARGIN);
}

function draw() {
  const start = performance.now();
  for (const pane of panes) pane.render();
  // Hidden until now, it has no size yet.
  for (const { view } of shown()) if (!view.width) view.measure();
  const scale = state.image?.facts ? fitted() * state.zoom : 1;
  let lit = false;
  for (const { view } of shown()) {
    if (view.before) view.lightUp(start);
    lit = view.isLit(start) || lit;
    view.draw(scale);
  }
  if (lit) update();
  tellTimes(start);
}

let timed = 0;
let pictures = 0;

/** Tell the browser's own tools what a picture took, and how long an answer was under way until it was drawn. */
function tellTimes(start) {
  const { answered } = state;
  if (++pictures % 1000 === 0) performance.clearMeasures();
  performance.measure("picture", { start });
  if (answered && answered.since !== timed) {
    performance.measure("answer", { start: answered.since, detail: answered.seconds });
    timed = answered.since;
  }
}

// ---- where one is ----

/** Go to a voxel, and bring it into sight. */
export function goTo(voxel) {
  const { image } = state;
  if (!image?.facts) return;
  const cursor = voxel.map((at, axis) => clamp(Math.round(at), 0, image.facts.shape[axis] - 1));
  const mm = middle(cursor, image.facts);
  const centre = [...state.centre];
  for (const { view } of shown()) {
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
  const scale = fitted() * zoom;
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

function panBy(view, x, y) {
  const centre = [...state.centre];
  const sides = extent(state.image.facts);
  for (const [axis, pixels] of [[view.plane.across, x], [view.plane.down, y]]) {
    centre[axis] = clamp(centre[axis] + pixels / view.placement.scale, 0, sides[axis]);
  }
  update({ centre });
}

/** To the right more contrast is lost, downwards it gets brighter: the width and centre of the window. */
function windowBy(x, y) {
  const { facts } = state.image;
  const unit = facts.window[1] / 256;
  const width = Math.max(state.window[1] + x * unit, facts.window[1] / 1000);
  update({ window: [state.window[0] - y * unit, width] });
}

// ---- clicks ----

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

/** The voxels of a stroke, no more than a request takes. */
function thinned(stroke) {
  const step = Math.ceil(stroke.length / MOST_OF_A_STROKE);
  return stroke.filter((_, at) => at % step === 0);
}

/** One plane: its canvas, caption and slider. */
class Pane {
  constructor(number, plane, root) {
    Object.assign(this, { number, plane, pointers: new Map(), drag: null });
    const copy = document.getElementById("pane").content.cloneNode(true);
    this.element = copy.querySelector(".pane");
    this.canvas = copy.querySelector("canvas");
    this.slider = copy.querySelector("input");
    this.caption = copy.querySelector(".caption");
    this.place = copy.querySelector(".place");
    this.enlarge = copy.querySelector("button");
    this.view = new PlaneView(plane, this.canvas);
    this.element.id = `plane-${number}`;
    this.caption.textContent = plane.name;
    this.slider.setAttribute("aria-label", `${plane.name} slice`);
    root.append(copy);
    this.listen();
  }

  isShown() {
    if (narrow.matches) return state.plane === this.number;
    return state.enlarged === null || state.enlarged === this.number;
  }

  render() {
    const { image } = state;
    this.element.hidden = !this.isShown();
    this.enlarge.setAttribute("aria-pressed", state.enlarged === this.number);
    this.enlarge.setAttribute("aria-label", `Enlarge the ${this.plane.name.toLowerCase()} plane`);
    this.canvas.dataset.mode = this.drag?.does ?? state.mode;
    const count = image?.facts?.shape[this.plane.normal] ?? 1;
    const index = state.cursor[this.plane.normal];
    this.slider.max = count - 1;
    this.slider.disabled = !image?.facts;
    this.slider.value = index;
    this.place.textContent = image?.facts ? `${index + 1} / ${count}` : "";
    const where = image?.facts ? `slice ${index + 1} of ${count}` : "empty";
    this.canvas.setAttribute("aria-label", `${this.plane.name} plane, ${where}`);
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event, false));
    canvas.addEventListener("pointercancel", (event) => this.release(event, true));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.slider.addEventListener("input", () => this.scrollTo(Number(this.slider.value)));
    this.enlarge.addEventListener("click", () => {
      update({ enlarged: state.enlarged === this.number ? null : this.number });
    });
  }

  at(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  voxelAt(pixel) {
    return this.view.placement.toVoxel(pixel, state.cursor, state.image.facts);
  }

  press(event) {
    if (!state.image?.voxels || !this.view.placement) return;
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.at(event);
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) {
      this.view.stroke = [];
      this.drag = { does: "pinch" };
      return;
    }
    if (this.pointers.size > 2) return;
    this.drag = { does: this.whatFor(event), from: at, last: at, moved: false, touch: event.pointerType === "touch" };
    if (this.drag.does === "scribble") this.extendStroke(at, at);
    if (this.drag.does === "look") goTo(this.voxelAt(at));
    update();
  }

  /** What a press does: the mode, unless a key or another button says otherwise. */
  whatFor(event) {
    if (heldKeys.has("Space") || event.button === 1) return "pan";
    if (event.button === 2) return "window";
    if (event.ctrlKey || event.metaKey) return "zoom";
    if (event.altKey) return "look";
    return state.mode;
  }

  move(event) {
    if (!this.pointers.has(event.pointerId) || !this.drag) return;
    const at = this.at(event);
    if (this.drag.does === "pinch") return this.pinch(event.pointerId, at);
    this.pointers.set(event.pointerId, at);
    const { drag } = this;
    const [x, y] = [at[0] - drag.last[0], at[1] - drag.last[1]];
    if (!drag.moved && Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) < STILL) return undefined;
    drag.moved = true;
    if (drag.does === "click") drag.does = drag.touch ? "scroll" : "window";
    this.dragBy(drag.does, x, y, at, drag.last);
    drag.last = at;
    return undefined;
  }

  dragBy(does, x, y, at, before) {
    if (does === "window") windowBy(x, y);
    else if (does === "pan") panBy(this.view, x, y);
    else if (does === "zoom") zoomBy(this.view, Math.exp(-y / 150), this.drag?.from);
    else if (does === "look") goTo(this.voxelAt(at));
    else if (does === "scribble") this.extendStroke(before, at);
    else if (does === "scroll") this.scrollBy(y / 12);
  }

  pinch(id, at) {
    const points = [...this.pointers.keys()].slice(0, 2);
    const [first, second] = points.map((each) => this.pointers.get(each));
    this.pointers.set(id, at);
    const [firstNow, secondNow] = points.map((each) => this.pointers.get(each));
    const between = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    const [before, now] = [between(first, second), between(firstNow, secondNow)];
    panBy(this.view, now[0] - before[0], now[1] - before[1]);
    const distance = (a, b) => Math.max(Math.hypot(a[0] - b[0], a[1] - b[1]), 1);
    zoomBy(this.view, distance(firstNow, secondNow) / distance(first, second), now);
  }

  release(event, cancelled) {
    if (!this.pointers.delete(event.pointerId) || !this.drag) return;
    const { drag } = this;
    if (drag.does === "pinch") {
      if (!this.pointers.size) this.drag = null;
      return;
    }
    this.drag = null;
    if (drag.does === "click" && !cancelled) click(this.voxelAt(drag.from), event.shiftKey);
    if (drag.does === "scribble") this.endStroke(cancelled);
    update();
  }

  /** The voxels on the way from a pixel to another. */
  extendStroke(from, to) {
    const { facts } = state.image;
    const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])));
    for (let step = 0; step <= steps; step++) {
      const share = step / steps;
      this.addToStroke(this.voxelAt([from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])]), facts);
    }
    update();
  }

  addToStroke(voxel, facts) {
    const { stroke } = this.view;
    const known = stroke.some((each) => each.voxel.every((at, axis) => at === voxel[axis]));
    if (inside(voxel, facts) && !known) stroke.push({ voxel, rank: state.label });
  }

  endStroke(cancelled) {
    const stroke = thinned(this.view.stroke);
    this.view.stroke = [];
    this.drawing = false;
    if (stroke.length && !cancelled) {
      goTo(stroke[stroke.length - 1].voxel);
      send(stroke);
    }
    update();
  }

  wheel(event) {
    event.preventDefault();
    if (!state.image?.voxels || !this.view.placement) return;
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / 100 : event.deltaY / 3;
    // A pinch on a trackpad comes as small steps of a wheel with ctrl held.
    if (event.ctrlKey || event.metaKey) {
      zoomBy(this.view, Math.exp(-clamp(event.deltaY / 100, -0.25, 0.25)), this.at(event));
    } else {
      const whole = Math.sign(lines) * Math.max(1, Math.round(Math.abs(lines)));
      this.scrollBy(Math.abs(lines) >= 0.5 ? whole : 3 * lines);
    }
  }

  scrollTo(slice) {
    scroll(this.plane, slice - state.cursor[this.plane.normal]);
  }

  /** Scroll by parts of slices, which are gathered until they make a whole one; downwards goes to lower slices. */
  scrollBy(slices) {
    this.gathered = (this.gathered ?? 0) - slices;
    const whole = Math.trunc(this.gathered);
    this.gathered -= whole;
    if (whole) scroll(this.plane, whole);
  }

  key(event) {
    const { plane, view } = this;
    if (!state.image?.voxels || !view.placement || event.ctrlKey || event.metaKey || event.altKey) return;
    const pages = { PageUp: 1, PageDown: -1, ".": 1, ",": -1 }[event.key];
    const arrow = ARROWS[event.key];
    if (pages) scroll(plane, pages);
    else if (event.key === "Enter" && state.mode === "scribble") this.toggleStroke();
    else if (event.key === "Enter") click([...state.cursor], event.shiftKey);
    else if (event.key === "Escape" && this.drawing) this.endStroke(true);
    else if (arrow) this.arrow(arrow);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Arrow keys move the crosshair, or do what dragging does in the mode. */
  arrow([x, y]) {
    if (["window", "pan", "zoom"].includes(state.mode)) {
      this.dragBy(state.mode, x * ARROW_PIXELS, y * ARROW_PIXELS);
      return;
    }
    const cursor = [...state.cursor];
    cursor[this.plane.across] -= x;
    cursor[this.plane.down] -= y;
    goTo(cursor);
    if (this.drawing) this.addToStroke([...state.cursor], state.image.facts);
  }

  /** Enter begins a stroke at the crosshair, arrow keys draw it, Enter ends it. */
  toggleStroke() {
    if (this.drawing) {
      this.endStroke(false);
      return;
    }
    this.drawing = true;
    this.addToStroke([...state.cursor], state.image.facts);
    update();
  }
}

/** Keys that are held; see keys.js. */
export const heldKeys = new Set();

/** What is under the crosshair: position, value and label. */
export function underCrosshair() {
  const { image, cursor, answered } = state;
  if (!image?.voxels) return null;
  const { facts } = image;
  const at = cursor[0] + facts.shape[0] * (cursor[1] + facts.shape[1] * cursor[2]);
  const value = image.voxels[at] * facts.slope + facts.intercept;
  const letters = toMm(cursor, facts).map((mm, axis) => [mm >= 0 ? "RAS"[axis] : "LPI"[axis], Math.abs(mm).toFixed(1)]);
  const rank = answered ? answered.ranks[at] : 0;
  return {
    mm: letters.map((each) => each.join(" ")),
    value: Number(value.toPrecision(4)),
    file: toFile(cursor, facts),
    label: rank ? labelOf(rank)?.name : null,
  };
}

