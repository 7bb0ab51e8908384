// The one module that speaks to the server. Addresses are relative, so that a proxy may put anything before them.
// docs/server.md tells what the endpoints take and give.

/** An answer that is an error: its message is the server's one sentence, `lost` what has to be sent again. */
export class Refused extends Error {
  constructor(status, sentence, lost = null) {
    super(sentence);
    Object.assign(this, { status, lost });
  }
}

/** There is no answer: the server, or the way to it, is gone. */
export class Lost extends Error {}

async function ask(address, options = {}) {
  let response;
  try {
    response = await fetch(address, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Lost("the server does not answer");
  }
  if (response.ok) return response;
  const { detail, lost } = await response.json().catch(() => ({}));
  // What a proxy says when there is no server behind it.
  if (!detail && [502, 503, 504].includes(response.status)) throw new Lost("the server does not answer");
  throw new Refused(response.status, detail ? String(detail) : `the server answered ${response.status}`, lost);
}

async function body(response, how) {
  try {
    return await response[how]();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Lost("the server went away while it answered");
  }
}

const json = async (...request) => body(await ask(...request), "json");

function post(address, content, signal) {
  const headers = { "Content-Type": "application/json" };
  return ask(address, { method: "POST", headers, body: JSON.stringify(content), signal });
}

/** A file that cannot be read fails as if there was no server: it is looked into before. */
async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Refused(0, `${file.name} cannot be read: it has changed since, or is a folder. Choose the file again.`);
  }
}

async function put(address, field, file) {
  await readable(file);
  const form = new FormData();
  form.append(field, file, file.name);
  return ask(address, { method: "PUT", body: form });
}

const query = (parameters) => new URLSearchParams(parameters).toString();

/** How requests name an image: by its place in the studies, or by the key of one that was sent. */
export function nameOf(image) {
  return image.key ? { session_id: image.key } : { image: image.id };
}

export const about = () => json("api/");

export const cases = () => json("api/cases");

export const login = (token) => post("login", { token });

/** Send an image; returns its key. */
export async function keep(file) {
  return (await body(await put("session/", "file", file), "json")).session_id;
}

function addressOf(image, model, part) {
  return `api/image?${query({ ...nameOf(image), channel: image.channel, model, part })}`;
}

export const facts = (image, model, signal) => json(addressOf(image, model, "facts"), { signal });

/**
 * The voxels of an image, in an array that is filled while they arrive.
 *
 * @param onProgress called with the array and the share of it that is there
 */
export async function voxels(image, model, ArrayType, count, onProgress, signal) {
  const response = await ask(addressOf(image, model, "voxels"), { signal });
  const values = new ArrayType(count);
  const bytes = new Uint8Array(values.buffer);
  const reader = response.body.getReader();
  let at = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      bytes.set(value, at);
      at += value.length;
      onProgress(values, at / bytes.length);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Lost("the server went away while it sent the image");
  }
  if (at !== bytes.length) throw new Lost("the server sent a part of the image only");
  return values;
}

/** Header and bytes of an answer about a volume. */
async function unpacked(response) {
  const buffer = await body(response, "arrayBuffer");
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { ...header, values: new Uint8Array(buffer, 4 + length) };
}

/** What the steps of a request come to; see docs/server.md. */
export const segment = async (question, signal) => unpacked(await post("api/segment", question, signal));

export const uncertainty = async (question, signal) => unpacked(await post("api/uncertainty", question, signal));

export const progress = (request) => json(`api/progress?${query({ request })}`);

/** Files that the answer to a question can be saved as. */
export async function download(kind, question) {
  const response = await post(`api/${kind}`, question);
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
  return { name: name ? name[1] : kind, content: await body(response, "blob") };
}

export const sendStart = async (image, model, file) =>
  body(await put(`api/start?${query({ ...nameOf(image), model })}`, "file", file), "json");

export async function sendSession(image, model, file) {
  await readable(file);
  return json(`api/session?${query({ ...nameOf(image), model })}`, { method: "PUT", body: file });
}

export const submit = async (question) => body(await post("api/submit", question), "json");

/** The next case of the studies. */
export const next = async (strategy, client) =>
  body(await post(`activelearning/${encodeURIComponent(strategy)}`, { client_id: client }), "json");

/** Fine-tune the model on what was submitted; tells how that goes; ends it. */
export const train = async () => body(await post("train/", {}), "json");

export const training = () => json("train/");

export const stopTraining = () => json("train/", { method: "DELETE" });

/** A name that nobody else uses. `crypto.randomUUID` exists on https pages only. */
export function freshName() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
