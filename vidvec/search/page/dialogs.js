/** Dialogs: the API key, and the help. */

import { setKey } from "./api.js";
import { button, h } from "./dom.js";
import { t } from "./i18n.js";

let asking = null;

/**
 * Asks for the API key; once for all requests that wait for it.
 * @param {boolean} refused Whether one was given that the server did not take.
 * @returns {Promise<string|null>} The key; null where the reader has none.
 */
export function askForKey(refused) {
  asking ??= new Promise((resolve) => {
    const input = h("input", { id: "api-key", type: "password", autocomplete: "off", required: true, autofocus: true });
    let given = null;
    const form = h(
      "form",
      {
        method: "dialog",
        on: {
          submit: () => {
            given = input.value.trim() || null;
          },
        },
      },
      h("h2", { id: "key-title" }, t("key.title")),
      h("p", null, t(refused ? "key.refused" : "key.hint")),
      h("label", { for: "api-key" }, t("key.label")),
      input,
      h("p", { class: "actions" }, h("button", { type: "submit", class: "primary" }, t("key.go")), button(t("cancel"), () => dialog.close())),
    );
    const dialog = open(form, "key-title", () => {
      asking = null;
      if (given) setKey(given);
      resolve(given);
    });
  });
  return asking;
}

const KEYS = [
  ["/", "keys.search"],
  ["←  →", "keys.film"],
  ["k  d", "keys.decide"],
  ["↑ ↓ ← →", "keys.groups"],
  ["+  −  0", "keys.map"],
  ["?", "keys.help"],
];

/** Shows what the keyboard can do. */
export function showHelp() {
  const rows = KEYS.map(([keys, words]) => h("tr", null, h("th", { scope: "row" }, h("kbd", null, keys)), h("td", null, t(words))));
  const close = button(t("close"), () => dialog.close(), { autofocus: true });
  const dialog = open(
    h("div", null, h("h2", { id: "help-title" }, t("help")), h("table", null, h("tbody", null, rows)),
      h("p", { class: "soft" }, t("help.api"), " ", h("a", { href: "/openapi.json" }, "/openapi.json")), h("p", { class: "actions" }, close)),
    "help-title",
    () => {},
  );
}

function open(content, label, closed) {
  const dialog = h("dialog", { "aria-labelledby": label }, content);
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
