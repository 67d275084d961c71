/** Elements made of plain values. Text stays text: nothing here takes markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element.
 * @param {string} tag
 * @param {Object} props `class`; `on` with listeners by event; `data` for dataset; `style` with
 *   properties set one by one; others are attributes: null and false are left out.
 * @param {...(Node|string|number|Array|null|false)} children
 */
export function h(tag, props, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (name === "data") {
      Object.assign(made.dataset, value);
    } else if (name === "style") {
      for (const [key, each] of Object.entries(value)) made.style.setProperty(key, each);
    } else {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  made.append(...flat(children));
  return made;
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/** Replaces what is in an element. */
export function fill(parent, ...children) {
  parent.replaceChildren(...flat(children));
  return parent;
}

/** Draws again without losing the place of the keyboard: it goes to the same `data-key`. */
export function keepingFocus(parent, draw) {
  const held = document.activeElement;
  const key = parent.contains(held) ? held.dataset.key : undefined;
  draw();
  if (key === undefined || parent.contains(document.activeElement)) return;
  const again = [...parent.querySelectorAll("[data-key]")].find((each) => each.dataset.key === key);
  again?.focus({ preventScroll: true });
}

const ICONS = {
  search: "M10.5 4a6.5 6.5 0 1 0 4 11.6l4.7 4.7 1.4-1.4-4.7-4.7A6.5 6.5 0 0 0 10.5 4zm0 2a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9z",
  close: "M6.4 5 5 6.4 10.6 12 5 17.6 6.4 19 12 13.4 17.6 19 19 17.6 13.4 12 19 6.4 17.6 5 12 10.6z",
  file: "M11 4 6.5 8.5l1.4 1.4L10 7.8V15h2V7.8l2.1 2.1 1.4-1.4zM5 17v3h14v-3h-2v1H7v-1z",
  theme: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 2v14a7 7 0 1 1 0-14z",
};

/** A small picture that says nothing a reader who does not see it would miss. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button. */
export function button(label, onclick, props) {
  return h("button", { type: "button", ...props, on: { click: onclick, ...props?.on } }, label);
}

/** Says something to readers who do not see the page. */
export function say(text) {
  const region = document.getElementById("said");
  // The same words again are only read out if they are news to the region.
  region.textContent = region.textContent === text ? `${text}\u00a0` : text;
}
