// All that the page knows, in one place. Nothing here touches the document or the network.
//
// What the user wants, the start and the steps on it, is `state.work`: it is never changed in place, so that undo and
// redo are lists of works, and comparing two of them is comparing two references.

export const AUTOMATIC = Object.freeze({ kind: "automatic" });
export const NOTHING_DONE = Object.freeze({ start: AUTOMATIC, steps: Object.freeze([]), tta: false });

export const MODES = ["click", "scribble", "look", "window", "pan", "zoom"];

export const state = {
  about: null, // what the server is: its models, whether there are studies, ... (see docs/server.md)
  cases: [], // of the studies
  model: null, // one of about.models
  image: null, // {id | key, name, file, channel, facts, voxels, received}; voxels in display order
  work: NOTHING_DONE,
  past: [], // works, the newest last
  future: [], // works that were undone, the next to redo last
  group: [], // clicks that wait to be sent as one step
  answered: null, // {work, known, ranks, volumes, changed}: the newest answer, whatever is wanted meanwhile
  asking: null, // {work, image, model, id, since, progress}: the request that is under way
  saved: null, // the work that was saved or submitted last
  paused: false, // the user cancelled, and has not asked for anything since
  lost: false, // the server does not answer
  login: false, // the server asks for its token
  busy: null, // what else is under way, in words: {words, share}
  message: null, // {text, error}
  training: false, // the model is being fine-tuned
  label: 1, // rank of the chosen label, 0 the background
  mode: "click",
  grouping: false, // clicks are collected until they are sent together
  cursor: [0, 0, 0], // display voxel that the crosshair is on
  centre: [0, 0, 0], // mm from the volume's corner, in the middle of every plane
  zoom: 1,
  window: [0, 1], // centre and width
  plane: 0, // that which a narrow page shows
  enlarged: null, // the only plane that a wide page shows, if any
  opacity: 0.25,
  hidden: new Set(), // ranks of labels that are not drawn
  crosshair: true,
  uncertainty: null, // {known, values}: shares of 255 in display order; null: not shown
};

const listeners = [];
let frame = null;

/** Have a function called, once a frame at most, after something changed. */
export function onChange(listener) {
  listeners.push(listener);
}

/** Change what the page knows; it is drawn with the next frame. */
export function update(changes = {}) {
  Object.assign(state, changes);
  frame ??= requestAnimationFrame(drawNow);
}

/** Draw what has changed at once, so that the next frame shows it already. */
export function drawNow() {
  if (frame !== null) cancelAnimationFrame(frame);
  frame = null;
  for (const listener of listeners) listener();
}

/** Say something to the user; an error goes with the next answer, or with the one after it if it `stays`. */
export function say(text, error = false, stays = false) {
  update({ message: text ? { text, error, stays } : null });
}

// ---- works ----

let whenWanted = () => {};

/** Have a function called at once when something else is wanted. */
export function onWanted(listener) {
  whenWanted = listener;
}

function setWork(work, changes) {
  update({ paused: false, ...changes, work });
  whenWanted();
}

/** Want something else from now on; the work before can be had again by undo. */
export function want(work) {
  setWork(work, { past: [...state.past, state.work], future: [] });
}

export function addStep(step) {
  want({ ...state.work, steps: [...state.work.steps, step] });
}

/** Leave out a step, or one click of a step of several. */
export function removeStep(at, click = null) {
  const steps = [...state.work.steps];
  const clicks = steps[at].clicks;
  if (click === null || clicks.length === 1) steps.splice(at, 1);
  else steps[at] = { clicks: clicks.filter((_, number) => number !== click) };
  want({ ...state.work, steps });
  const words = lockedAnew(steps.slice(at));
  if (words) say(words);
}

/** What to say if steps that are answered again, after something else than before, lock labels. */
export function lockedAnew(steps) {
  const words = "The steps are answered anew; locked labels become what they are by them.";
  return steps.some((step) => step.lock) ? words : "";
}

export function undo() {
  if (!state.past.length) return;
  const past = [...state.past];
  setWork(past.pop(), { past, future: [...state.future, state.work] });
}

export function redo() {
  if (!state.future.length) return;
  const future = [...state.future];
  setWork(future.pop(), { future, past: [...state.past, state.work] });
}

/** Go back to what was answered last: what was asked since is taken back. */
export function takeBack() {
  const { past, future } = state;
  const work = state.answered?.work ?? state.work;
  const at = past.lastIndexOf(work);
  const undone = future.lastIndexOf(work);
  if (at < 0 && undone >= 0) {
    const between = future.slice(undone + 1).reverse();
    setWork(work, { past: [...past, state.work, ...between], future: future.slice(0, undone), paused: true });
  } else {
    setWork(work, { past: at < 0 ? past : past.slice(0, at), future: [], paused: true });
  }
}

/** Take back what was refused beyond the last answer, and keep the steps that were made after it. */
export function withdraw(refused) {
  const { answered, past, work } = state;
  const separate = extendsWork(work, refused) && extendsWork(refused, answered.work);
  const later = separate ? work.steps.slice(refused.steps.length) : [];
  if (!later.length) return takeBack();
  const at = past.lastIndexOf(answered.work);
  const works = [answered.work];
  for (const step of later) works.push({ ...works.at(-1), steps: [...works.at(-1).steps, step] });
  return setWork(works.pop(), { past: [...(at < 0 ? past : past.slice(0, at)), ...works], future: [] });
}

/** Whether all that was done is saved or submitted; clicks that are collected are not. */
export function isSaved() {
  return !state.group.length && (!state.work.steps.length || state.saved === state.work);
}

/** Whether a work has all that another has, in its order, and maybe more. */
export function extendsWork(work, shorter) {
  const same = work.start === shorter.start && work.tta === shorter.tta;
  return same && shorter.steps.every((step, at) => step === work.steps[at]);
}

/** Names of the labels that are locked after some steps. */
export function lockedAfter(steps) {
  const locked = new Set();
  for (const step of steps) {
    if (step.lock) locked.add(step.lock);
    if (step.unlock) locked.delete(step.unlock);
  }
  return locked;
}

// ---- labels ----

/** Labels of the model; the one at place n - 1 has rank n. */
export function labels() {
  return state.model?.labels ?? [];
}

export const BACKGROUND = { name: "background", colour: "#ffffff" };

export function labelOf(rank) {
  return rank === 0 ? BACKGROUND : labels()[rank - 1];
}

export function rankOf(name) {
  return labels().findIndex((label) => label.name === name) + 1;
}
