// Keeps what is shown in step with what is wanted.
//
// One request is under way at a time. Each carries everything, the start and all steps, so that nothing depends on what
// the server remembers: clicks that are made meanwhile go with the next one, and after the server was lost the same
// request is sent again.

import * as server from "./server.js";
import { putBox } from "./slices.js";
import { drawNow, extendsWork, say, state, takeBack, update, withdraw } from "./state.js";

const PROGRESS_EVERY = 250;
const PROBE_EVERY = 1000;

let controller = null;
const beforeChange = [];

/** Have a function called just before ranks change. */
export function onBeforeChange(listener) {
  beforeChange.push(listener);
}

/** What a request about the present work says. */
export function question(work = state.work) {
  const { start, steps, tta } = work;
  const { kind, key } = start;
  return { model: state.model.name, ...server.nameOf(state.image), start: { kind, key }, steps, tta };
}

/** Ask for what is wanted, unless it is there, or on its way. */
export function bringUpToDate() {
  const { work, asking, answered, image, model } = state;
  if (asking) {
    // What is under way is of use only as a part of what is wanted now.
    if (asking.image !== image || asking.model !== model || !extendsWork(work, asking.work)) controller.abort();
    return;
  }
  if (!image?.complete || !model || state.lost || state.login || state.paused) return;
  if (answered?.work !== work) request(work);
}

/** Give up what is under way; what was wanted by it is taken back. */
export function cancel() {
  takeBack();
  controller?.abort();
}

async function request(work) {
  const { image, model } = state;
  const id = server.freshName();
  controller = new AbortController();
  update({ asking: { work, image, model, id, since: performance.now(), progress: null } });
  const watching = setInterval(() => watch(id), PROGRESS_EVERY);
  try {
    const known = state.answered?.known ?? null;
    const answer = await server.segment({ ...question(work), known, request: id }, controller.signal);
    if (state.image === image && state.model === model) take(answer, work, state.asking.since);
  } catch (error) {
    if (error.name !== "AbortError" && state.image === image) await failed(error, work);
  } finally {
    clearInterval(watching);
    controller = null;
    update({ asking: null });
    bringUpToDate();
  }
}

/** Draw an answer, and remember what it answers. */
function take(answer, work, since) {
  resent.clear();
  const { facts } = state.image;
  const before = state.answered?.ranks;
  const ranks = before ?? new Uint8Array(facts.shape[0] * facts.shape[1] * facts.shape[2]);
  if (before && (answer.whole || answer.values.length)) for (const listener of beforeChange) listener();
  if (before && answer.whole) ranks.fill(0);
  putBox(ranks, facts.shape, answer.box, answer.values);
  const { state: known, volumes_ml: volumes, changed_ml: changed, notes, seconds } = answer;
  const version = (state.answered?.version ?? 0) + 1;
  update({ answered: { work, known, ranks, volumes, changed, version, since, seconds } });
  tell(notes ?? []);
  if (!document.hidden) drawNow();
}

let told = "";

/** Notes are said once, not again with each answer. */
function tell(notes) {
  const text = notes.join(" ");
  if (text && text !== told) say(text);
  else if (state.message?.stays) state.message.stays = false;
  else if (state.message?.error) say(null);
  told = text;
}

async function failed(error, work) {
  if (error instanceof server.Lost) return waitForServer();
  if (error.status === 401) return update({ login: true });
  if (error.lost && (await sentAgain(error.lost))) return undefined;
  if (error.status >= 500 || !state.answered || state.answered.work === work) update({ paused: true });
  else withdraw(work);
  // If something was wanted after it, the answer to that comes soon.
  say(error.message, true, !state.paused);
  return undefined;
}

/** What was sent again since the last answer: `image`, `start`. */
const resent = new Set();

/** The server forgets files that were sent to it when it ends, and after an hour: send them again. */
async function sentAgain(lost) {
  const { image, model, work } = state;
  const { start } = work;
  if (resent.has(lost)) return false;
  resent.add(lost);
  try {
    if (lost === "image" && image.file) image.key = await server.keep(image.file);
    else if (start.file) start.key = (await server.sendStart(image, model.name, start.file)).key;
    else if (start.session) start.key = (await server.sendSession(image, model.name, start.session)).start.key;
    else return false;
    return true;
  } catch (error) {
    if (!(error instanceof server.Lost)) return false;
    resent.clear();
    await waitForServer();
    return true;
  }
}

async function watch(id) {
  try {
    const progress = await server.progress(id);
    if (state.asking?.id === id) update({ asking: { ...state.asking, progress } });
  } catch {
    // The request itself tells what is wrong.
  }
}

let whenOther = () => {};

/** Have a function called if the server is another one when it is there again, with what it says about itself. */
export function onOtherServer(listener) {
  whenOther = listener;
}

let waiting = null;

/** Resolves when the server is there again. */
function waitForServer() {
  waiting ??= probe().finally(() => (waiting = null));
  return waiting;
}

async function probe() {
  update({ lost: true });
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, PROBE_EVERY));
    try {
      const about = await server.about();
      // Another one may have been started instead.
      if (state.about && JSON.stringify(about) !== JSON.stringify(state.about)) whenOther(about);
      break;
    } catch (error) {
      if (error instanceof server.Lost) continue;
      if (error.status === 401) update({ login: true });
      break;
    }
  }
  update({ lost: false });
}

/** Do something that needs the server: again after it was lost, or had forgotten a file, until it is done or refused. */
export async function patiently(work) {
  for (;;) {
    try {
      const found = await work();
      resent.clear();
      return found;
    } catch (error) {
      if (error instanceof server.Lost) await waitForServer();
      else if (!error.lost || !(await sentAgain(error.lost))) throw error;
    }
  }
}
