// Fine-tuning the model on what was submitted: begun, followed and ended.

import { $ } from "./elements.js";
import * as server from "./server.js";
import { say, state, update } from "./state.js";

const ASKED_EVERY = 2000;

export function buildTraining() {
  $("train").addEventListener("click", () => attempt(state.training ? server.stopTraining : server.train));
}

/** Follow a training that somebody began before. */
export async function findTraining() {
  if (!state.about.training) return;
  const task = await server.training().catch(() => null);
  if (task?.status === "RUNNING") follow(task);
}

async function attempt(work) {
  try {
    const task = await work();
    if (task && !state.training) follow(task);
  } catch (error) {
    say(error.message, true);
  }
}

/** Tell what a training says until it is over. */
async function follow(task) {
  update({ training: true });
  say(task.details.at(-1));
  for (let now = task; ["SUBMITTED", "RUNNING"].includes(now.status); ) {
    await new Promise((resolve) => setTimeout(resolve, ASKED_EVERY));
    now = await server.training().catch(() => now);
    if (now.details.at(-1) !== task.details.at(-1)) say(now.details.at(-1));
    task = now;
  }
  update({ training: false });
}
