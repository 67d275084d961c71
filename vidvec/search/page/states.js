/** What is shown while there is nothing to show: loading, nothing found, something went wrong. */

import { button, fill, h, say } from "./dom.js";
import { has, t } from "./i18n.js";

// Asked again, these are answered the same.
const FINAL = new Set(["unknown-id", "bad-video", "too-large", "unsupported-media"]);

/** Grey strips where results will be. */
export function loading(count = 8) {
  const cards = Array.from({ length: count }, () =>
    h("div", { class: "card ghost" }, h("div", { class: "film" }), h("i"), h("i")),
  );
  return h("div", { class: "cards", "aria-hidden": "true" }, cards);
}

/** A quiet note with what to do next. */
export function note(title, hint, ...more) {
  return h("div", { class: "note-box" }, h("h2", null, title), hint ? h("p", null, hint) : null, more);
}

/**
 * What went wrong, in the reader's language where the page knows it, with the server's own words.
 * @param {Error} error
 * @param {Function} retry Tries again; none: there is nothing to try.
 */
export function failure(error, retry) {
  const code = error.code ?? "broken";
  const title = t(has(`error.${code}`) ? `error.${code}` : "error.other");
  const hint = has(`hint.${code}`) ? t(`hint.${code}`) : "";
  const detail = [error.detail ?? error.message, error.hint].filter(Boolean);
  const box = h(
    "div",
    { class: "note-box failed", role: "alert", data: { code } },
    h("h2", null, title),
    hint ? h("p", null, hint) : null,
    detail.length
      ? h("p", { class: "detail", lang: "en" }, detail.map((line) => h("span", { dir: "auto" }, line)))
      : null,
  );
  if (retry && !FINAL.has(code)) box.append(h("p", null, again(error, retry)));
  return box;
}

function again(error, retry) {
  const wait = Math.min(600, Math.ceil(error.retryAfter ?? 0));
  const made = button(t("retry"), () => retry(), { class: "primary" });
  if (!wait) return made;
  let left = wait;
  made.disabled = true;
  const words = h("span", { class: "soft" }, t("retry.wait", { n: left }));
  const timer = setInterval(() => {
    left -= 1;
    if (left > 0) {
      words.textContent = t("retry.wait", { n: left });
      return;
    }
    clearInterval(timer);
    made.disabled = false;
    words.textContent = t("retry.now");
  }, 1000);
  return [made, " ", words];
}

/** Shows what went wrong in place of what was to come; a request that was given up is no news. */
export function showFailure(place, error, retry) {
  if (error.name === "AbortError") return;
  if (!error.code) console.error(error);
  fill(place, failure(error, retry));
  say("");
}
