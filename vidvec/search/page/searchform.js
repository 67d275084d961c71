/** Where words are typed and files handed over: by a button, by dropping, by pasting. */

import { button, h, icon } from "./dom.js";
import { size, t } from "./i18n.js";

/**
 * The form.
 * @param {{submit: Function, takeFile: Function}} on `submit({text, words})`, `takeFile(file)`.
 */
export function searchForm(on) {
  const input = h("input", {
    id: "search-text",
    type: "search",
    name: "text",
    dir: "auto",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: t("search.placeholder"),
    "aria-describedby": "search-hint",
  });
  const words = h("input", { type: "checkbox", id: "search-words" });
  const picker = h("input", {
    type: "file",
    accept: "video/*,image/*",
    class: "unseen",
    tabindex: "-1",
    "aria-hidden": "true",
    on: {
      change: () => {
        if (picker.files.length) on.takeFile(picker.files[0]);
        picker.value = "";
      },
    },
  });
  const choose = button([icon("file"), h("span", null, t("search.file"))], () => picker.click(), {
    class: "file-button",
    title: t("search.file.long"),
  });
  const hint = h("p", { id: "search-hint", class: "soft" });
  const send = () => on.submit({ text: input.value.trim(), words: words.checked });
  words.addEventListener("change", () => {
    if (input.value.trim()) send();
  });
  const form = h(
    "form",
    {
      class: "search",
      role: "search",
      on: {
        submit: (event) => {
          event.preventDefault();
          send();
        },
      },
    },
    h("label", { class: "unseen", for: "search-text" }, t("search.label")),
    h("div", { class: "box" }, icon("search"), input, choose, picker, h("button", { type: "submit", class: "primary" }, t("search.go"))),
    h("div", { class: "under" }, h("label", { title: t("search.words.long") }, words, h("span", null, t("search.words"))), hint),
  );

  return {
    root: form,
    /** Puts the keyboard into the box. */
    focus() {
      input.focus();
      input.select();
    },
    /** Shows a query, and what this server can do. */
    draw(query, info) {
      if (document.activeElement !== input || input.value.trim() !== query.text) input.value = query.text;
      const { can, limits } = info;
      words.checked = query.words || !can.text;
      words.disabled = !can.text || Boolean(query.file);
      choose.hidden = !can.upload;
      input.maxLength = limits.text_chars;
      if (!can.text) hint.textContent = t("search.hint.words");
      else if (can.upload) hint.textContent = t("search.hint", { most: size(limits.upload_bytes) });
      else hint.textContent = t("search.hint.text");
    },
  };
}

/**
 * Takes files that are dropped anywhere on the page, or pasted.
 * @param {Function} takeFile
 */
export function takeDrops(takeFile) {
  let depth = 0;
  const root = document.documentElement;
  const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const mark = (by) => {
    depth = by === 0 ? 0 : Math.max(0, depth + by);
    root.classList.toggle("dropping", depth > 0);
    root.dataset.drop = t("search.drop");
  };
  addEventListener("dragenter", (event) => {
    if (carriesFile(event)) mark(1);
  });
  addEventListener("dragleave", (event) => {
    if (carriesFile(event)) mark(-1);
  });
  addEventListener("dragover", (event) => {
    if (carriesFile(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    mark(0);
    const [file] = event.dataTransfer.files;
    if (file) takeFile(file);
  });
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => /^(image|video)\//.test(type));
    if (!file) return;
    event.preventDefault();
    takeFile(file);
  });
}
