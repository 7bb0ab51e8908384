// The list of labels, and that of clicks.

import { $, element, icon, press, swatch, text, use } from "./elements.js";
import { toDisplay } from "./geometry.js";
import { goTo } from "./moving.js";
import { BACKGROUND, addStep, labelOf, labels, lockedAfter, rankOf, removeStep, state, update } from "./state.js";

let labelled = null;

export function renderLabels() {
  if (labelled !== state.model) {
    labelled = state.model;
    $("labels").replaceChildren(...(state.model ? [...labels().map((_, at) => at + 1), 0].map(labelRow) : []));
  }
  const locked = lockedAfter(state.work.steps);
  const { volumes, changed } = state.answered ?? {};
  for (const row of $("labels").children) {
    const rank = Number(row.dataset.rank);
    const { name } = labelOf(rank);
    press(row.querySelector(".choose"), rank === state.label);
    if (!rank) continue;
    text(row.querySelector(".number"), volumes ? `${millilitres(volumes[name] ?? 0)} ml` : "");
    text(row.querySelector(".change"), difference(changed?.[name]));
    const shows = !state.hidden.has(rank);
    const [eye, lock] = row.querySelectorAll(".toggle");
    press(eye, shows);
    use(eye, shows ? "eye" : "hidden");
    press(lock, locked.has(name));
    use(lock, locked.has(name) ? "lock" : "open");
  }
}

function labelRow(rank) {
  const { name, colour } = labelOf(rank);
  const row = element("li");
  row.dataset.rank = rank;
  const choose = element("button", { type: "button", className: "choose" });
  const change = element("span", { className: "change" });
  const number = element("span", { className: "number" });
  const title = element("span", { className: "name", textContent: rank ? name : "Background" });
  choose.append(element("kbd", { textContent: rank <= 9 ? rank : "" }), swatch(rank, colour), title, number, change);
  choose.addEventListener("click", () => update({ label: rank }));
  row.append(choose);
  if (rank) {
    row.append(
      toggle("eye", `Show ${name}`, () => toggleHidden(rank)),
      toggle("lock", `Lock ${name}`, () => toggleLock(name)),
    );
  }
  return row;
}

function toggle(kind, words, action) {
  const button = element("button", { type: "button", className: `toggle ${kind}`, title: words });
  button.setAttribute("aria-label", words);
  button.append(icon(kind));
  button.addEventListener("click", action);
  return button;
}

function toggleHidden(rank) {
  const hidden = new Set(state.hidden);
  if (!hidden.delete(rank)) hidden.add(rank);
  update({ hidden });
}

/** Lock a label, or unlock it: a step like clicks, so that undo takes it back. */
export function toggleLock(name) {
  addStep(lockedAfter(state.work.steps).has(name) ? { unlock: name } : { lock: name });
}

let listed = null;

export function renderClicks() {
  const answered = state.answered?.work;
  if (listed && listed.work === state.work && listed.answered === answered && listed.image === state.image) return;
  listed = { work: state.work, answered, image: state.image };
  const { steps } = state.work;
  const focused = reachable().indexOf(document.activeElement);
  const wereOpen = new Set([...$("clicks").querySelectorAll("details[open]")].map((each) => each.dataset.step));
  $("clicks").replaceChildren(...steps.map((step, at) => stepRow(step, at, !answered?.steps.includes(step), wereOpen)));
  $("no-clicks").hidden = steps.length > 0;
  const left = reachable();
  // What had the focus is gone: its neighbour takes it, so that the keyboard stays where it was.
  if (focused >= 0) (left[Math.min(focused, left.length - 1)] ?? $("undo")).focus();
}

/** What in the list of clicks can have the focus. */
function reachable() {
  return [...$("clicks").querySelectorAll(":is(button, summary):not(details:not([open]) > ol *)")];
}

function stepRow(step, at, waits, wereOpen) {
  const row = element("li", { className: waits ? "waits" : "" });
  if (!step.clicks) {
    const words = step.lock ? `${step.lock} locked` : `${step.unlock} unlocked`;
    const rank = rankOf(step.lock ?? step.unlock);
    const what = element("span", { className: "jump" });
    what.append(swatch(rank, labelOf(rank)?.colour), element("span", { className: "name", textContent: words }));
    row.append(what, remove(words, () => removeStep(at)));
    return row;
  }
  if (step.clicks.length === 1) {
    row.append(jump(step.clicks[0]), remove(describe(step.clicks[0]), () => removeStep(at)));
    return row;
  }
  const details = element("details", { open: wereOpen.has(String(at)) });
  details.dataset.step = at;
  const names = [...new Set(step.clicks.map(([name]) => name))];
  details.append(element("summary", { textContent: `${step.clicks.length} clicks together: ${names.join(", ")}` }));
  const list = element("ol");
  for (const [number, each] of step.clicks.entries()) {
    const line = element("li");
    line.append(jump(each), remove(describe(each), () => removeStep(at, number)));
    list.append(line);
  }
  details.append(list);
  row.append(details, remove(`${step.clicks.length} clicks together`, () => removeStep(at)));
  return row;
}

function describe([name, voxel]) {
  return `${name} at ${voxel.join(", ")}`;
}

function jump([name, voxel]) {
  const button = element("button", { type: "button", className: "jump", title: "Go there" });
  const rank = rankOf(name);
  button.append(
    swatch(rank, labelOf(rank)?.colour ?? BACKGROUND.colour),
    element("span", { className: "name", textContent: rank ? name : "Background" }),
    element("span", { className: "number", textContent: voxel.join(", ") }),
  );
  button.addEventListener("click", () => goTo(toDisplay(voxel, state.image.facts)));
  return button;
}

function remove(words, action) {
  const button = element("button", { type: "button", title: "Remove" });
  button.setAttribute("aria-label", `Remove ${words}`);
  button.append(icon("remove"));
  button.addEventListener("click", action);
  return button;
}

function millilitres(ml) {
  return ml >= 100 ? ml.toFixed(0) : ml >= 1 ? ml.toFixed(1) : ml.toFixed(2);
}

/** A change in ml with its sign; nothing for one that would be shown as 0. */
export function difference(ml) {
  if (!ml || Math.abs(ml) < 0.005) return "";
  return `${ml > 0 ? "+" : "−"}${millilitres(Math.abs(ml))}`;
}
