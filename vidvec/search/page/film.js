/**
 * Film strips. At rest a strip shows a few pictures spread over the video; played, the film runs
 * through the gate, picture by picture. Who prefers less motion steps by the arrow keys, or by
 * pointing.
 */

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { lazy, loadNow } from "./pictures.js";

const PICTURE_MS = 480;
const still = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * A strip.
 * @param {Function[]} pictures See `picturesOf`.
 * @param {{rest?: number, label?: string, all?: boolean}} options `rest`: pictures at rest;
 *   `label`: what a reader who does not see it is told, none where words beside it do; `all`: shows
 *   every picture and never plays.
 */
export function filmStrip(pictures, { rest = 3, label = "", all = false } = {}) {
  const spoken = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  if (!pictures.length) {
    const words = t("film.none");
    return { root: h("div", { class: "film none", ...spoken, "aria-label": label ? words : null }, words), play() {}, stop() {}, step: () => false };
  }
  const chosen = all ? null : spread(pictures.length, rest);
  const cells = pictures.map((give, place) => {
    const cell = h("span", { class: "cell" }, lazy(give));
    if (chosen && !chosen.has(place)) cell.classList.add("spare");
    return cell;
  });
  const reel = h("div", { class: "reel" }, cells);
  const root = h("div", { class: all ? "film whole" : "film", ...spoken }, reel);
  return { root, ...(all ? { play() {}, stop() {}, step: () => false } : player(root, reel, cells)) };
}

function spread(count, most) {
  if (count <= most) return new Set(Array(count).keys());
  return new Set(Array.from({ length: most }, (_, n) => Math.floor(((n + 0.5) * count) / most)));
}

function player(root, reel, cells) {
  let place = 0;
  let timer = 0;
  const center = () => {
    cells.forEach((cell, n) => cell.classList.toggle("lit", n === place));
    const cell = cells[place];
    const shift = root.clientWidth / 2 - cell.offsetLeft - cell.offsetWidth / 2;
    reel.style.setProperty("transform", `translateX(${shift}px)`);
  };
  const open = () => {
    if (root.classList.contains("playing")) return;
    cells.forEach((cell) => loadNow(cell.firstChild));
    root.classList.add("playing");
    center();
  };
  const step = (by) => {
    clearInterval(timer);
    open();
    place = (place + by + cells.length) % cells.length;
    center();
    return true;
  };
  const stop = () => {
    clearInterval(timer);
    root.classList.remove("playing");
    reel.style.removeProperty("transform");
    place = 0;
  };
  const play = () => {
    if (still.matches || cells.length < 2) return;
    clearInterval(timer);
    open();
    timer = setInterval(() => {
      if (!root.isConnected) stop();
      else {
        place = (place + 1) % cells.length;
        center();
      }
    }, PICTURE_MS);
  };
  root.addEventListener("pointermove", (event) => {
    if (!still.matches || event.pointerType === "touch") return;
    const across = (event.clientX - root.getBoundingClientRect().left) / root.clientWidth;
    const wanted = Math.min(cells.length - 1, Math.max(0, Math.floor(across * cells.length)));
    open();
    place = wanted;
    center();
  });
  return { play, stop, step };
}

/**
 * Plays a strip while the pointer or the keyboard is on an element.
 * @param {boolean} arrows Whether the arrow keys step through its pictures.
 */
export function playsOn(element, strip, arrows = true) {
  element.addEventListener("pointerenter", () => strip.play());
  element.addEventListener("pointerleave", () => {
    if (!element.matches(":focus-within")) strip.stop();
  });
  element.addEventListener("focusin", () => {
    if (element.querySelector(":focus-visible") || element.matches(":focus-visible")) strip.play();
  });
  element.addEventListener("focusout", (event) => {
    if (!element.contains(event.relatedTarget) && !element.matches(":hover")) strip.stop();
  });
  if (!arrows) return;
  element.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by && !event.altKey && !event.ctrlKey && !event.metaKey && strip.step(by)) event.preventDefault();
  });
}
