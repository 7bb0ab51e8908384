// Opening images, starts and sessions; saving results; going from case to case.

import { bringUpToDate, patiently, question } from "./answers.js";
import { $, fill } from "./elements.js";
import { extent } from "./geometry.js";
import * as server from "./server.js";
import { ARRAYS } from "./slices.js";
import { AUTOMATIC, NOTHING_DONE, isSaved, lockedAnew, onChange, say, state, update, want } from "./state.js";

/** Tells this tab from others where the server gives out cases. */
const client = server.freshName();

const ONE_FILE = "Drop one file at a time. Several channels of a case are one 4D file, or a case of the studies.";

/** The status of a refusal to keep what is no longer what the page shows. */
const CHANGED = 409;

const isSession = (file) => /\.(session|npz)$/i.test(file.name);

export function buildFiles() {
  onPress("open", () => $("file").click());
  onPress("start-file", () => $("start-input").click());
  onPress("load-session", () => $("session-input").click());
  onPress("save", () => save("save"));
  onPress("save-session", () => save("session"));
  onPress("next", () => nextCase());
  onPress("submit", submit);
  onPress("show-uncertainty", toggleUncertainty);
  onChosen("file", openFile);
  onChosen("start-input", startFromFile);
  onChosen("session-input", loadSession);
  $("case").addEventListener("change", () => openCase($("case").value));
  $("channel").addEventListener("change", () => openChannel(Number($("channel").value)));
  $("model").addEventListener("change", () => chooseModel($("model").value));
  takeDrops();
  onChange(followUncertainty);
}

/** Do something when a button is pressed, once at a time; the second press of a double click is none. */
function onPress(id, action) {
  let underWay = false;
  $(id).addEventListener("click", async (event) => {
    if (underWay || event.detail > 1) return;
    underWay = true;
    try {
      await action();
    } finally {
      underWay = false;
    }
  });
}

function onChosen(id, action) {
  $(id).addEventListener("change", () => {
    const [file] = $(id).files;
    $(id).value = "";
    if (file) action(file);
  });
}

/** Do something that needs the server; what it refuses is told, in place of what was said before, unless it stays. */
async function attempt(words, work, stays = false) {
  update(stays ? { busy: words } : { busy: words, message: null });
  try {
    return await patiently(work);
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    if (error.status === 401) update({ login: true });
    // What has changed is no error, which would go with the next answer.
    else say(error.message, error.status !== CHANGED);
    return undefined;
  } finally {
    if (state.busy === words) update({ busy: null });
  }
}

// ---- images ----

/** What is forgotten with another image or another model. */
const AFRESH = { past: [], future: [], group: [], answered: null, uncertainty: null, paused: false };

let loading = null;

/** Show an image, and ask for what the network makes of it once it is there; `words` are said first. */
async function show(source, words = "") {
  const image = { channel: 0, complete: false, received: 0, words, ...source };
  update({ image, work: NOTHING_DONE, message: null, ...AFRESH });
  if (words) say(words);
  bringUpToDate(); // gives up what is under way for the image before
  if (await load(image)) bringUpToDate();
}

async function load(image) {
  loading?.abort();
  loading = new AbortController();
  const { signal } = loading;
  try {
    await patiently(async () => {
      const facts = await server.facts(image, state.model.name, signal);
      if (state.image !== image) return;
      const { shown, facts: before } = image;
      const first = String(before?.shape) !== String(facts.shape);
      image.facts = facts;
      if (facts.notes?.length && String(facts.notes) !== String(shown?.facts.notes)) sayOf(image, facts.notes);
      if (first) {
        const centre = extent(facts).map((side) => side / 2);
        update({ cursor: facts.shape.map((side) => Math.floor(side / 2)), centre, zoom: 1 });
      }
      if (shown && sameVoxels(shown, { facts, channel: image.channel })) {
        if (before !== shown.facts) update({ window: facts.window });
        Object.assign(image, { voxels: shown.voxels, complete: true, shown: { ...shown, facts } });
        update();
        return;
      }
      update({ window: facts.window });
      const count = facts.shape[0] * facts.shape[1] * facts.shape[2];
      const arrived = (voxels, received) => {
        Object.assign(image, { voxels, received });
        update();
      };
      await server.voxels(image, state.model.name, ARRAYS[facts.dtype], count, arrived, signal);
      image.complete = true;
      image.shown = { channel: image.channel, facts, voxels: image.voxels };
      update();
    });
  } catch (error) {
    if (error.name === "AbortError" || state.image !== image) return false;
    if (image.shown) {
      if (image.facts !== image.shown.facts) update({ window: image.shown.facts.window });
      Object.assign(image, image.shown, { complete: true });
    } else update({ image: null });
    if (error.status === 401) update({ login: true });
    else sayOf(image, [error.message], true);
    return false;
  }
  return state.image === image && image.complete;
}

function sayOf(image, sentences, error = false) {
  say([image.words, ...sentences].join(" ").trim(), error);
  image.words = "";
}

/** Whether what was read of an image is also what another channel or model reads of it. */
function sameVoxels(one, other) {
  const read = ({ channel, facts: { notes, window, ...facts } }) => JSON.stringify({ channel, facts });
  return read(one) === read(other);
}

export function openCase(id) {
  if (!id || !mayLeave()) return update();
  return show({ id, name: id });
}

async function openFile(file) {
  if (isSession(file)) return loadSession(file);
  if (!mayLeave()) return undefined;
  const left = { ...state };
  const key = await attempt(`Sending ${file.name}`, () => server.keep(file));
  if (key && mayStillLeave(left)) await show({ key, file, name: file.name });
  return undefined;
}

/** Whether what was done on an image may be given up. */
function mayLeave() {
  return isSaved() || confirm("Leave this image? What you did on it has not been saved.");
}

/** The same, after something that took a while: asked again only about what was done meanwhile. */
function mayStillLeave({ image, work, group }) {
  return (state.image === image && state.work === work && state.group === group) || mayLeave();
}

async function openChannel(channel) {
  const { image } = state;
  Object.assign(image, { channel, complete: false, received: 0 });
  update();
  bringUpToDate(); // gives up what is under way for another model
  await load(image);
  bringUpToDate();
}

export function chooseModel(name) {
  const model = state.about.models.find((each) => each.name === name);
  const names = new Set(["background", ...model.labels.map((label) => label.name)]);
  const kept = state.work.steps.filter((step) =>
    step.clicks ? step.clicks.every(([label]) => names.has(label)) : names.has(step.lock ?? step.unlock),
  );
  const left = state.work.steps.length - kept.length;
  const corrects = (model.previous ?? true) || state.work.start.kind === "automatic";
  const work = { ...state.work, start: corrects ? state.work.start : AUTOMATIC, steps: kept };
  const collected = state.group.length;
  update({ model, work, ...AFRESH, hidden: new Set(), label: Math.min(state.label, model.labels.length) });
  const notes = [];
  if (left) notes.push(`${left} of the steps are for labels that ${name} does not have, and were left out.`);
  if (!corrects) notes.push(`${name} does not correct segmentations: the steps are on the automatic result now.`);
  if (collected) notes.push("The clicks that were collected are dropped.");
  if (lockedAnew(kept)) notes.push(lockedAnew(kept));
  if (notes.length) say(notes.join(" "));
  // A model may read images otherwise, such as by the other affine of a file.
  if (state.image) openChannel(state.image.channel);
}

// ---- starts and sessions ----

async function startFromFile(file) {
  const { image, model } = state;
  if (!image?.complete) return say("Open the image first; the segmentation is laid over it.", true);
  const answer = await attempt(`Sending ${file.name}`, () => server.sendStart(image, model.name, file));
  if (!answer || state.image !== image) return undefined;
  const missing = answer.missing.length ? [`${file.name} has no ${answer.missing.join(", ")}.`] : [];
  want({ ...state.work, start: { kind: "sent", key: answer.key, name: file.name, file } });
  say([...answer.notes, ...missing, lockedAnew(state.work.steps)].join(" ").trim());
  return undefined;
}

async function loadSession(file) {
  const { image, model } = state;
  if (!image?.complete) return say("Open the image of the session first.", true);
  const answer = await attempt(`Loading ${file.name}`, () => server.sendSession(image, model.name, file));
  if (!answer || state.image !== image) return undefined;
  const start = answer.start.kind === "automatic" ? AUTOMATIC : { ...answer.start, name: file.name, session: file };
  const augmented = answer.tta ? ["Its answers are those of augmented passes, which take twice the time."] : [];
  want({ start, steps: answer.steps, tta: answer.tta });
  say([...answer.notes, ...augmented].join(" "));
  return undefined;
}

/** Do a request that keeps what is shown. If that is no longer what the server has, it is shown anew first. */
function keepShown(words, request) {
  const { image, work, answered } = state;
  return attempt(words, async () => {
    // It may be done again after a while, in which another image was opened.
    if (state.image !== image) throw new server.Refused(0, `${image.name} was left before it was kept; open it again.`);
    try {
      return await request({ ...question(work), known: answered.known });
    } catch (error) {
      if (error.status === CHANGED && state.image === image && state.answered) {
        // Another object, so that what is wanted counts as not answered.
        update({ answered: { ...state.answered, work: { ...state.answered.work } } });
        bringUpToDate();
      }
      throw error;
    }
  });
}

async function save(kind) {
  const { work } = state;
  const answer = await keepShown("Saving", (asked) => server.download(kind, asked));
  if (!answer) return;
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(answer.content), download: answer.name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  update({ saved: work });
  say(`Saved as ${answer.name}.`);
}

// ---- the studies ----

export async function listCases() {
  const cases = await patiently(server.cases);
  update({ cases });
  const entries = cases.map(({ id, submitted }) => [id, submitted ? `${id} ✓` : id]);
  fill($("case"), [["", "Choose a case"], ...entries], state.image?.id ?? "");
}

async function submit() {
  const { image, work } = state;
  const answer = await keepShown("Submitting", server.submit);
  if (!answer) return undefined;
  if (state.image === image) update({ saved: work });
  await listCases();
  const words = `${image.name} was submitted.`;
  if (state.image !== image) return say(words);
  if (await nextCase(words)) return undefined;
  // It begins with what has just been submitted from now on, on which the same steps would come to something else.
  const begins = work.start.kind === "submitted label" && state.image === image && isSaved();
  if (begins) await show({ id: image.id, name: image.name }, state.message?.text);
  return undefined;
}

/** Open the next case, saying some words first. Resolves to whether there is one. */
async function nextCase(words = "") {
  if (!mayLeave()) return false;
  const left = { ...state };
  const found = await attempt("Looking for the next case", () => server.next($("strategy").value, client));
  const opens = Boolean(found?.id) && mayStillLeave(left);
  if (opens) await show({ id: found.id, name: found.id }, words);
  else if (!found && words) say(`${words} ${state.message?.text ?? ""}`.trim(), Boolean(state.message?.error));
  else if (found) say(`${words} ${found.id ? "" : "All cases have a label."}`.trim());
  return opens;
}

// ---- uncertainty ----

let fetching = null;

function toggleUncertainty() {
  fetching?.abort();
  update({ uncertainty: state.uncertainty ? null : { known: null, values: null } });
}

/** Keep the uncertainty in step with the newest answer while it is shown. */
async function followUncertainty() {
  const { answered, image, uncertainty, work } = state;
  if (!uncertainty || fetching || answered?.work !== work || uncertainty.known === answered.known) return;
  const { signal } = (fetching = new AbortController());
  const ask = () => server.uncertainty(question(work), signal);
  const answer = await attempt("Working out the uncertainty", ask, true);
  fetching = null;
  if (signal.aborted || state.image !== image || !state.uncertainty) return;
  update({ uncertainty: answer ? { known: answered.known, values: answer.values } : null });
}

// ---- dropping ----

function takeDrops() {
  const zone = $("drop");
  const parts = [...zone.children];
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    parts[1].hidden = !state.image?.complete;
    zone.hidden = false;
  });
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    for (const part of parts) part.classList.toggle("over", part.contains(event.target));
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) zone.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    zone.hidden = true;
    const { files } = event.dataTransfer;
    if (files.length !== 1) return say(ONE_FILE, true);
    const part = parts.find((each) => each.contains(event.target)) ?? parts[0];
    if (part.dataset.use === "start") startFromFile(files[0]);
    else openFile(files[0]);
  });
}
