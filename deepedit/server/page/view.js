// The three panes: what is drawn when, and what pointers, wheels and arrow keys do on them.

import { onBeforeChange } from "./answers.js";
import { click, sendStroke } from "./clicks.js";
import { PLANES, clamp, inside } from "./geometry.js";
import { goTo, panBy, pixelsPerMm, scroll, seen, setSeen, windowBy, zoomBy } from "./moving.js";
import { PlaneView } from "./planes.js";
import { onChange, state, update } from "./state.js";

const STILL = 4; // pixels that a pointer may move and still click
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Pixels for an arrow key, where it does what dragging does. */
const ARROW_PIXELS = 16;

/** Keys that are held, by their codes; keys.js keeps them. */
export const heldKeys = new Set();

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
    for (const view of seen) view.remember();
  });
}

function draw() {
  const start = performance.now();
  for (const pane of panes) pane.render();
  setSeen(panes.filter((pane) => pane.isShown()).map((pane) => pane.view));
  // Hidden until now, it has no size yet.
  for (const view of seen) if (!view.width) view.measure();
  const scale = state.image?.facts ? pixelsPerMm() : 1;
  let lit = false;
  for (const view of seen) {
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
    const { image, model } = state;
    // A stroke belongs to what it was drawn on.
    if (image !== this.image || model !== this.model || (this.drawing && state.mode !== "scribble")) this.giveUp();
    Object.assign(this, { image, model });
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

  giveUp() {
    this.view.stroke = [];
    this.drawing = false;
    this.drag = null;
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
    const { stroke } = this.view;
    this.view.stroke = [];
    this.drawing = false;
    if (!cancelled) sendStroke(stroke);
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
    else if (event.key === "Enter" && event.repeat) event.preventDefault(); // held too long
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
