/** The frame of the page: navigation, language, theme, keyboard, and which view is shown. */

import { currentKey, getInfo, onKeyNeeded } from "./api.js";
import { askForKey, showHelp } from "./dialogs.js";
import { button, fill, h, icon } from "./dom.js";
import { createDuplicates } from "./duplicates.js";
import { currentLanguage, LANGUAGES, setLanguage, t } from "./i18n.js";
import { createMap } from "./map.js";
import { createPairs } from "./pairs.js";
import { go, link, parse, start } from "./router.js";
import { createSearch } from "./search.js";
import { note, showFailure } from "./states.js";
import { chooseTheme, recallTheme } from "./stored.js";
import { createVideo } from "./video.js";

const VIEWS = {
  search: createSearch,
  duplicates: createDuplicates,
  pairs: createPairs,
  map: createMap,
  video: createVideo,
};
const NEEDS = { duplicates: "groups", pairs: "pairs", map: "map" };
const THEMES = ["auto", "light", "dark"];
const MODEL_MS = 1500;

const main = document.getElementById("view");
const top = document.getElementById("top");
const context = { info: null, reload: () => show({ ...parse(location.hash), back: false }), titled };
let views = {};
let shown = null;
let turns = 0;

function titled() {
  document.title = shown ? `${shown.title()} · vidvec` : "vidvec";
}

function drawTop() {
  const { view } = parse(location.hash);
  document.documentElement.lang = currentLanguage() === "zh" ? "zh-Hans" : "en";
  document.getElementById("skip").textContent = t("skip");
  const links = ["search", ...Object.keys(NEEDS)].map((name) =>
    h("a", { href: link(name), "aria-current": name === view ? "page" : null, data: { key: name } }, t(`view.${name}`)));
  const { info } = context;
  fill(
    top,
    h("a", { class: "brand", href: link("search"), "aria-label": t("brand") }, h("img", { src: "/page/icon.svg", alt: "" }), "vidvec"),
    h("nav", { "aria-label": t("views") }, links),
    h("span", { class: "served soft" }, info ? t("served", { name: info.name, n: info.videos }) : ""),
    h("div", { class: "settings" }, languageChoice(), themeButton(),
      button("?", showHelp, { class: "square", "aria-label": t("help"), title: t("help") })),
  );
}

function languageChoice() {
  const options = LANGUAGES.map(([name, own]) =>
    h("option", { value: name, lang: name, selected: name === currentLanguage() }, own));
  const changed = (event) => {
    setLanguage(event.target.value);
    views = {};
    context.reload();
    top.querySelector("select").focus();
  };
  return h("select", { "aria-label": t("language"), on: { change: changed } }, options);
}

function themeButton() {
  const label = () => t("theme", { name: t(`theme.${recallTheme()}`) });
  const next = () => {
    chooseTheme(THEMES[(THEMES.indexOf(recallTheme()) + 1) % THEMES.length]);
    made.setAttribute("aria-label", label());
    made.title = label();
  };
  const made = button(icon("theme"), next, { class: "square theme", "aria-label": label(), title: label() });
  return made;
}

async function show({ view, values, back }) {
  turns += 1;
  const turn = turns;
  const before = shown;
  before?.hide();
  shown = null;
  drawTop();
  if (!Object.hasOwn(VIEWS, view)) {
    titled();
    fill(main, note(t("nowhere.title"), t("nowhere.hint"), h("a", { href: link("search") }, t("view.search"))));
    return;
  }
  try {
    await learn();
    if (turn !== turns) return;
  } catch (error) {
    if (turn === turns) showFailure(main, error, context.reload);
    return;
  }
  drawTop();
  const need = NEEDS[view];
  if (need && !context.info.can[need]) {
    titled();
    fill(main, h("h1", null, t(`view.${view}`)), note(t(`cannot.${need}`), t(`cannot.${need}.hint`)));
    return;
  }
  views[view] ??= VIEWS[view](context);
  shown = views[view];
  const entered = main.firstChild !== shown.root || main.childNodes.length > 1;
  if (entered) fill(main, shown.root);
  const showing = shown.show(values, back);
  if (entered && before && !back) {
    window.scrollTo(0, 0);
    // Who listens hears where they are; who types goes on from there.
    shown.root.querySelector("h1")?.focus({ preventScroll: true });
  }
  titled();
  await showing;
}

/** What is served; asked again until the model is there, which takes a moment after a start. */
async function learn() {
  if (context.info && (context.info.can.text || context.settled)) {
    refresh();
    return;
  }
  context.info = await getInfo();
  context.settled = context.info.can.text;
  if (!context.settled) awaitModel();
}

async function refresh() {
  try {
    context.info = await getInfo();
  } catch {
    // The view's own requests say what is wrong.
  }
}

async function awaitModel() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, MODEL_MS));
    try {
      const ready = (await fetch("/readyz")).ok;
      const info = await getInfo();
      context.settled = ready;
      if (info.can.text !== context.info.can.text) {
        context.info = info;
        context.reload();
      }
      if (ready) return;
    } catch {
      return;
    }
  }
}

function typing(target) {
  return target.closest?.("input:not([type=checkbox]):not([type=range]), textarea, select, dialog") !== null;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (event.key === "/") {
    event.preventDefault();
    if (!shown?.focusSearch) go(link("search"));
    // The view may be on its way.
    setTimeout(() => shown?.focusSearch?.());
  } else if (event.key === "?") {
    showHelp();
  }
});

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
  main.scrollIntoView();
});

onKeyNeeded((used) => askForKey(used !== "" && used === currentKey()));
chooseTheme(recallTheme());
start(show);
