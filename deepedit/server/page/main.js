// The page begins here: what it is made of, and what it does first.

import { bringUpToDate, patiently } from "./answers.js";
import { $, fill } from "./elements.js";
import { buildFiles, chooseModel, listCases, openCase } from "./files.js";
import { buildKeys } from "./keys.js";
import { buildPanel } from "./panel.js";
import * as server from "./server.js";
import { onChange, onWanted, say, state, update } from "./state.js";
import { buildTraining, findTraining } from "./training.js";
import { buildPanes } from "./view.js";

/** Which case comes next, in words. */
const STRATEGIES = { first: "First without a label", random: "Any without a label", uncertainty: "Least certain" };

async function begin() {
  update({ busy: "Connecting" });
  try {
    await meet(await patiently(server.about));
  } catch (error) {
    if (error.status === 401) update({ login: true });
    else say(error.message, true);
  } finally {
    update({ busy: null });
  }
}

/** Take what the server says about itself, and open the first image. */
async function meet(about) {
  update({ about });
  fill($("model"), about.models.map(({ name }) => [name, name]), about.models[0].name);
  const strategies = about.strategies.map((name) => [name, STRATEGIES[name] ?? name]);
  fill($("strategy"), strategies, strategies[0]?.[0] ?? "");
  $("model-field").hidden = about.models.length < 2;
  if (!state.model) chooseModel(about.models[0].name);
  await listCases();
  findTraining();
  const first = about.image ?? state.cases[0]?.id;
  if (!state.image && first) openCase(first);
  else bringUpToDate();
}

function askForToken() {
  const dialog = $("login");
  if (state.login && !dialog.open) dialog.showModal();
  if (!state.login && dialog.open) dialog.close();
}

function buildLogin() {
  $("login").addEventListener("cancel", (event) => event.preventDefault());
  $("login").querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("login-error").textContent = "";
    try {
      await patiently(() => server.login($("token").value));
    } catch (error) {
      $("login-error").textContent = error.message;
      return;
    }
    $("token").value = "";
    update({ login: false });
    begin();
  });
}

buildPanes($("panes"));
buildPanel();
buildFiles();
buildKeys();
buildLogin();
buildTraining();
onChange(askForToken);
onWanted(bringUpToDate);
addEventListener("beforeunload", (event) => {
  if (state.work.steps.length && state.saved !== state.work) event.preventDefault();
});
update();
begin();
