// The page begins here: what it is made of, and what it does first.

import { bringUpToDate, onOtherServer, patiently } from "./answers.js";
import { $, fill } from "./elements.js";
import { buildFiles, chooseModel, listCases, openCase } from "./files.js";
import { buildKeys } from "./keys.js";
import { buildPanel } from "./panel.js";
import * as server from "./server.js";
import { isSaved, onChange, onWanted, say, state, update } from "./state.js";
import { buildTraining, findTraining } from "./training.js";
import { buildPanes } from "./view.js";

/** Which case comes next, in words. */
const STRATEGIES = { first: "First without a label", random: "Any without a label", uncertainty: "Least certain" };

async function begin() {
  update({ busy: "Connecting" });
  try {
    await meet(await patiently(server.about));
  } catch (error) {
    refused(error);
  } finally {
    update({ busy: null });
  }
}

function refused(error) {
  if (error.status === 401) update({ login: true });
  else say(error.message, true);
}

/** Take what the server says about itself, and open the first image. */
async function meet(about) {
  update({ about });
  const model = about.models.find(({ name }) => name === state.model?.name) ?? about.models[0];
  fill($("model"), about.models.map(({ name }) => [name, name]), model.name);
  const strategies = about.strategies.map((name) => [name, STRATEGIES[name] ?? name]);
  fill($("strategy"), strategies, strategies[0]?.[0] ?? "");
  $("model-field").hidden = about.models.length < 2;
  if (JSON.stringify(model) !== JSON.stringify(state.model)) chooseModel(model.name);
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
onOtherServer((about) => meet(about).catch(refused));
addEventListener("beforeunload", (event) => {
  if (!isSaved()) event.preventDefault();
});
update();
begin();
