// Keys that work wherever the focus is. Those of a pane are in view.js.

import { cancel } from "./answers.js";
import { sendGroup, toggleGrouping } from "./clicks.js";
import { $ } from "./elements.js";
import { toggleLock } from "./lists.js";
import { fitAll, zoomAtCrosshair } from "./moving.js";
import { chooseWindow, toggleLabels } from "./panel.js";
import { MODES, labelOf, redo, state, undo, update } from "./state.js";
import { heldKeys } from "./view.js";

const LETTERS = Object.fromEntries(MODES.map((mode) => [mode[0], () => update({ mode })]));

const KEYS = {
  ...LETTERS,
  f: fitAll,
  g: toggleGrouping,
  h: toggleLabels,
  x: () => update({ crosshair: !state.crosshair }),
  u: () => $("show-uncertainty").click(),
  k: () => state.label && labelOf(state.label) && toggleLock(labelOf(state.label).name),
  "?": () => $("keys").showModal(),
  Escape: escape,
};

const HELP = [
  ["1 to 9, 0", "choose a label; the background"],
  ["Click, Enter", "place a click; at the crosshair"],
  ["Shift click, Shift Enter", "collect clicks; they are sent together when Shift is released"],
  ["Ctrl Z, Ctrl Shift Z", "undo, redo"],
  ["Arrow keys", "move the crosshair in a plane that has the focus, or do what dragging does in the tool"],
  ["Wheel, Page Up, Page Down", "scroll through slices; also , and ."],
  ["C S L W P Z", "click, scribble, look, window, pan, zoom"],
  ["Drag", "brightness and contrast; on a touch screen, slices"],
  ["Ctrl wheel, pinch", "zoom; + and - as well"],
  ["Space and drag", "pan"],
  ["Alt and drag", "move the crosshair"],
  ["Enter in Scribble", "begin a stroke, which the arrow keys draw; end it"],
  ["Shift 1 to Shift 5", "windows, in the order of the list"],
  ["F, H, X, U", "fit, labels, crosshair, uncertainty"],
  ["K, G", "lock the chosen label, collect clicks"],
  ["Escape", "drop what is collected, or cancel what is under way"],
];

export function buildKeys() {
  const list = $("key-list");
  for (const [keys, words] of HELP) {
    list.append(Object.assign(document.createElement("dt"), { textContent: keys }));
    list.append(Object.assign(document.createElement("dd"), { textContent: words }));
  }
  $("help").addEventListener("click", KEYS["?"]);
  addEventListener("keydown", pressed);
  addEventListener("keyup", released);
  addEventListener("blur", () => heldKeys.clear());
}

function escape() {
  if (state.group.length) update({ group: [] });
  else if (state.asking) cancel();
}

function pressed(event) {
  const { target, key } = event;
  if (target.matches("input:not([type=range]), select, textarea") || document.querySelector("dialog[open]")) return;
  if (event.ctrlKey || event.metaKey) {
    if (key.toLowerCase() === "z") (event.shiftKey ? redo : undo)();
    else if (key.toLowerCase() === "y") redo();
    else return;
    event.preventDefault();
    return;
  }
  if (event.altKey) return;
  const preset = event.shiftKey && /^Digit([1-5])$/.exec(event.code);
  if (preset) return chooseWindow(Number(preset[1]) - 1);
  if (/^[0-9]$/.test(key)) {
    if (labelOf(Number(key))) update({ label: Number(key) });
    return undefined;
  }
  if (event.code === "Space" && !target.matches("button, summary, a")) {
    heldKeys.add("Space");
    event.preventDefault();
    return undefined;
  }
  if (key === "+" || key === "=" || key === "-") {
    zoomAtCrosshair(key === "-" ? 1 / 1.25 : 1.25);
    return undefined;
  }
  if (!event.repeat) KEYS[key === "Escape" ? key : key.toLowerCase()]?.();
  return undefined;
}

function released(event) {
  heldKeys.delete(event.code);
  if (event.key === "Shift" && !state.grouping) sendGroup();
}
