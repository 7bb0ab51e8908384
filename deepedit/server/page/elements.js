// Small helpers for elements of the document.

/** The element of an id. */
export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

/** A drawing of index.html. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  svg.firstChild.setAttribute("href", `#i-${name}`);
  return svg;
}

/** Let a button show another drawing. */
export function use(button, name) {
  const link = button.querySelector("use");
  if (link.getAttribute("href") !== `#i-${name}`) link.setAttribute("href", `#i-${name}`);
}

/** A small square in the colour of a label; that of the background is striped. */
export function swatch(rank, colour) {
  const square = element("span", { className: rank ? "swatch" : "swatch none" });
  if (rank && colour) square.style.backgroundColor = colour;
  return square;
}

/** Show whether a button is pressed. */
export function press(button, is) {
  button.setAttribute("aria-pressed", String(Boolean(is)));
}

/** Set a text only where it differs, so that a screen reader says it once. */
export function text(where, words) {
  if (where.textContent !== words) where.textContent = words;
}

/** Fill a select, given values and texts, only where they differ. */
export function fill(select, entries, chosen) {
  const key = JSON.stringify(entries);
  if (select.dataset.entries !== key) {
    select.replaceChildren(...entries.map(([value, words]) => element("option", { value, textContent: words })));
    select.dataset.entries = key;
  }
  if (select.value !== chosen) select.value = chosen;
}
