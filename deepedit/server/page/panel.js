// What stands around the panes: tools, labels, clicks, fields, messages. All of it is drawn from the state.

import { bringUpToDate, cancel } from "./answers.js";
import { sendGroup, toggleGrouping } from "./clicks.js";
import { $, element, fill, icon, press, text } from "./elements.js";
import { PLANES, toFile, toMm } from "./geometry.js";
import { difference, renderClicks, renderLabels } from "./lists.js";
import { fitAll } from "./moving.js";
import { AUTOMATIC, MODES, labelOf, labels, lockedAnew, onChange, redo, say, state } from "./state.js";
import { undo, update, want } from "./state.js";

const WORDS = { click: "Click", scribble: "Scribble", look: "Look", window: "Window", pan: "Pan", zoom: "Zoom" };
const HINTS = {
  click: "Place clicks (C); dragging changes the window",
  scribble: "Draw a stroke of clicks (S)",
  look: "Move the crosshair (L, or hold Alt)",
  window: "Change brightness and contrast (W, or drag)",
  pan: "Move the image (P, or hold Space)",
  zoom: "Zoom (Z, or Ctrl and the wheel)",
};

/** Windows of CT, in HU: centre and width. */
const CT_WINDOWS = { "Soft tissue": [40, 400], Lung: [-600, 1500], Bone: [500, 2000] };

const STARTS = {
  automatic: "Automatic result",
  empty: "Nothing",
  "submitted label": "Submitted label",
  "original label": "Original label",
};

export function buildPanel() {
  buildModes();
  buildTabs();
  $("undo").addEventListener("click", undo);
  $("redo").addEventListener("click", redo);
  $("fit").addEventListener("click", fitAll);
  $("grouping").addEventListener("click", toggleGrouping);
  $("send").addEventListener("click", sendGroup);
  $("cancel").addEventListener("click", cancel);
  $("dismiss").addEventListener("click", () => say(null));
  $("again").addEventListener("click", tryAgain);
  $("opacity").addEventListener("input", () => update({ opacity: Number($("opacity").value) }));
  $("show-labels").addEventListener("click", toggleLabels);
  $("show-crosshair").addEventListener("click", () => update({ crosshair: !state.crosshair }));
  $("preset").addEventListener("change", () => update({ window: windows()[$("preset").value] ?? state.window }));
  $("start").addEventListener("change", () => startFrom($("start").value));
  onChange(render);
}

function tryAgain() {
  update({ paused: false, message: null });
  bringUpToDate();
}

/** Hide all labels, or show them again. */
export function toggleLabels() {
  update({ hidden: new Set(state.hidden.size ? [] : labels().map((_, at) => at + 1)) });
}

function startFrom(kind) {
  if (kind === state.work.start.kind) return;
  want({ ...state.work, start: kind === "automatic" ? AUTOMATIC : { kind } });
  const words = lockedAnew(state.work.steps);
  if (words) say(words);
}

function buildModes() {
  for (const mode of MODES) {
    const button = element("button", { type: "button", title: HINTS[mode] });
    button.dataset.mode = mode;
    button.append(icon(mode), element("span", { className: "word", textContent: WORDS[mode] }));
    button.setAttribute("aria-label", WORDS[mode]);
    button.addEventListener("click", () => update({ mode }));
    $("modes").append(button);
  }
}

/** On a narrow page the planes are tabs: one is shown. */
function buildTabs() {
  for (const [number, plane] of PLANES.entries()) {
    const tab = element("button", { type: "button", textContent: plane.name, role: "tab" });
    tab.setAttribute("aria-controls", `plane-${number}`);
    tab.addEventListener("click", () => update({ plane: number }));
    $("tabs").append(tab);
  }
  $("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const plane = (state.plane + step + PLANES.length) % PLANES.length;
    update({ plane });
    $("tabs").children[plane].focus();
  });
}

// ---- drawing it ----

function render() {
  for (const button of $("modes").children) press(button, button.dataset.mode === state.mode);
  for (const [number, tab] of [...$("tabs").children].entries()) {
    tab.setAttribute("aria-selected", number === state.plane);
    tab.tabIndex = number === state.plane ? 0 : -1;
  }
  $("undo").disabled = !state.past.length;
  $("redo").disabled = !state.future.length;
  press($("grouping"), state.grouping);
  $("send").hidden = !state.group.length;
  $("send").textContent = `Send ${state.group.length} together`;
  $("opacity").value = state.opacity;
  press($("show-labels"), state.hidden.size < labels().length || !labels().length);
  press($("show-crosshair"), state.crosshair);
  press($("show-uncertainty"), state.uncertainty !== null);
  const ready = Boolean(state.image?.complete && state.model);
  for (const id of ["load-session", "start-file", "fit", "show-uncertainty"]) $(id).disabled = !ready;
  // What is not shown yet, or not sent, is not kept.
  const shown = ready && state.answered?.work === state.work && !state.group.length;
  for (const id of ["save", "submit", "save-session"]) $(id).disabled = !shown;
  $("panes").setAttribute("aria-busy", String(isBusy()));
  renderImage();
  renderPresets();
  renderStarts();
  renderLabels();
  renderClicks();
  renderNews();
  renderReadout();
}

function renderImage() {
  const { about, image } = state;
  const cases = about?.studies ?? false;
  $("case-field").hidden = !cases;
  $("next").hidden = $("submit").hidden = !cases;
  $("submit").hidden ||= !image?.id;
  $("strategy-row").hidden = $("strategy-label").hidden = !cases;
  $("train").hidden = !about?.training;
  text($("train"), state.training ? "Stop training" : "Train");
  $("name").textContent = image && !(cases && image.id) ? image.name : "";
  $("case").value = image?.id ?? "";
  document.title = image ? `${image.name}: DeepEdit` : "DeepEdit";
  $("empty").hidden = Boolean(image || state.busy || state.lost);
  const facts = image?.facts;
  $("facts").textContent = facts ? describeGrid(facts) : "";
  const channels = facts?.channels ?? 1;
  $("channel-field").hidden = channels < 2;
  const entries = Array.from({ length: channels }, (_, at) => [String(at), String(at + 1)]);
  fill($("channel"), entries, String(image?.channel ?? 0));
}

function describeGrid({ shape, spacing, oblique }) {
  const sides = spacing.map((mm) => Number(mm.toPrecision(3)));
  return `${shape.join(" × ")} voxels of ${sides.join(" × ")} mm${oblique ? ", oblique" : ""}`;
}

/** Windows to choose from, by name. */
function windows() {
  const facts = state.image?.facts;
  if (!facts) return {};
  const [low, high] = facts.range;
  const whole = [(low + high) / 2, Math.max(high - low, 1e-6)];
  return { "From the image": facts.window, "Whole range": whole, ...(facts.hounsfield ? CT_WINDOWS : {}) };
}

/** Choose a window by its place in the list. */
export function chooseWindow(at) {
  const found = Object.values(windows())[at];
  if (found) update({ window: found });
}

function renderPresets() {
  const known = windows();
  const [centre, width] = state.window;
  const name = Object.keys(known).find((each) => known[each][0] === centre && known[each][1] === width) ?? "custom";
  const entries = Object.keys(known).map((each) => [each, each]);
  if (name === "custom" && state.image?.facts) {
    entries.push([name, `${Number(centre.toPrecision(3))} ± ${Number((width / 2).toPrecision(3))}`]);
  }
  fill($("preset"), entries, name);
  $("preset").disabled = !state.image?.facts;
}

function renderStarts() {
  const { start } = state.work;
  const kinds = ["automatic", "empty"];
  const of = state.cases.find((each) => each.id === state.image?.id);
  if (of?.submitted) kinds.push("submitted label");
  if (of?.original) kinds.push("original label");
  const entries = kinds.map((kind) => [kind, STARTS[kind]]);
  if (start.kind === "sent") entries.push(["sent", start.name ?? "File"]);
  else if (!kinds.includes(start.kind)) entries.push([start.kind, STARTS[start.kind] ?? start.kind]);
  fill($("start"), entries, start.kind);
  const correcting = state.model?.previous ?? true;
  $("start").disabled = !state.image?.complete || !correcting;
  $("start-file").disabled ||= !correcting;
}

// ---- what is going on ----

function renderNews() {
  const { message } = state;
  const now = activity();
  text($("error"), message?.error ? message.text : "");
  text($("status"), now?.words ?? (message ? (message.error ? "" : message.text) : changes()));
  // Without a share it would move all the time, which is slow over a remote desktop, and takes work from the network.
  $("progress").hidden = now?.share === undefined;
  $("progress").value = now?.share ?? 0;
  $("cancel").hidden = !now?.cancels;
  $("dismiss").hidden = !message || Boolean(now);
  $("again").hidden = !(state.paused && state.answered?.work !== state.work && state.image?.complete);
  if (!$("again").hidden) $("again").textContent = message?.error ? "Try again" : "Segment";
}

/** By how much the newest answer changed the labels, in words. */
function changes() {
  const { answered, work } = state;
  if (!answered || answered.work !== work || !work.steps.length) return "";
  const entries = Object.entries(answered.changed).filter(([, ml]) => difference(ml));
  return entries.map(([name, ml]) => `${name} ${difference(ml)} ml`).join(", ") || "Nothing changed";
}

/** What is under way, in words; null if nothing is. */
function activity() {
  const { asking, busy, image, lost } = state;
  if (lost) return { words: "The server does not answer. What you did is kept, and is sent again when it is back." };
  if (busy) return { words: busy };
  if (image && !image.complete) {
    return { words: `Loading ${image.name}`, share: image.received };
  }
  if (!asking) return null;
  const queued = state.work.steps.length - asking.work.steps.length;
  const more = queued > 0 ? `; ${queued} more ${queued === 1 ? "step waits" : "steps wait"}` : "";
  const first = asking.work.steps.length === 0;
  const { state: how, before, windows: counted } = asking.progress ?? {};
  if (how === "waiting" && before) {
    return { words: `Waiting for ${before} other ${before === 1 ? "request" : "requests"}${more}`, cancels: true };
  }
  const share = counted?.[1] ? counted[0] / counted[1] : undefined;
  return { words: (first ? "Segmenting automatically" : "Working on it") + more, share, cancels: true };
}

/** Whether what is shown is about to change by itself. */
function isBusy() {
  const { asking, busy, image, lost } = state;
  return Boolean(asking || busy || lost || (image && !image.complete));
}

function renderReadout() {
  const found = underCrosshair();
  const unit = state.image?.facts?.hounsfield ? " HU" : "";
  const parts = found ? [`${found.mm.join("  ")} mm`, `voxel ${found.file.join(", ")}`, `${found.value}${unit}`] : [];
  if (found?.label) parts.push(found.label);
  text($("readout"), parts.join("  ·  "));
}

/** What is under the crosshair: position, value and label. */
function underCrosshair() {
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
