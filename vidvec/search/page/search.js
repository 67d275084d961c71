/** The view that looks for videos. */

import { ApiFailure, getFacets, getVideo, search, searchByFile } from "./api.js";
import { titleText, videoCard } from "./card.js";
import { button, fill, h, keepingFocus, say } from "./dom.js";
import { filmStrip, playsOn } from "./film.js";
import { chip, filterChips, filterPanel } from "./filters.js";
import { number, size, t } from "./i18n.js";
import { missingNote, missingText } from "./missing.js";
import { picturesFrom, picturesOf } from "./pictures.js";
import * as q from "./query.js";
import { go, link, restoreScroll } from "./router.js";
import { searchForm, takeDrops } from "./searchform.js";
import { loading, note, showFailure } from "./states.js";
import { recall, remember } from "./stored.js";
import { whyBlock } from "./why.js";

const KEPT = 16;
const answers = new Map();
let dropsTaken = false;
let current = null;

/** Makes the view. */
export function createSearch(context) {
  const view = new SearchView(context);
  current = view;
  if (!dropsTaken) takeDrops((file) => current.takeFile(file));
  dropsTaken = true;
  return view;
}

class SearchView {
  constructor(context) {
    this.context = context;
    this.query = q.readQuery(new URLSearchParams());
    this.showWhy = recall("why", true);
    this.form = searchForm({
      submit: ({ text, words }) => this.submit(text, words),
      takeFile: (file) => this.takeFile(file),
    });
    const change = (changes) => this.open(q.withFilter(this.query, changes));
    this.change = change;
    this.panel = filterPanel(change);
    this.chips = h("div", { class: "chips" });
    this.results = h("div", { class: "results" });
    const wide = matchMedia("(min-width: 60rem)");
    const fold = h("details", { class: "fold" }, h("summary", null, t("filter.title")), this.panel.root);
    const follow = () => {
      fold.open = wide.matches;
    };
    wide.addEventListener("change", follow);
    follow();
    this.root = h(
      "div",
      { class: "search-view" },
      h("h1", { class: "unseen", tabindex: "-1" }, t("view.search")),
      h("div", { class: "ask" }, this.form.root, this.chips),
      h("div", { class: "columns" },
        h("aside", { "aria-label": t("filter.title") }, fold),
        h("section", { "aria-label": t("results") }, this.results)),
    );
  }

  title() {
    return this.query.text || t("view.search");
  }

  focusSearch() {
    this.form.focus();
  }

  open(query, options) {
    go(link("search", q.writeQuery(query)), options);
  }

  submit(text, words) {
    const changed = { ...this.query, text, words, k: q.FIRST };
    // Titles are searched by words alone.
    this.open(words ? { ...changed, like: [], unlike: [], file: "" } : changed);
  }

  takeFile(file) {
    const most = this.context.info?.limits.upload_bytes ?? Infinity;
    const { text, words, filter } = this.query;
    if (file.size > most) {
      const message = `${file.name}: ${size(file.size)} > ${size(most)}`;
      this.stop();
      showFailure(this.results, new ApiFailure({ code: "too-large", message }));
      return;
    }
    const name = q.keepFile(file);
    this.open({ ...this.query, text: words ? "" : text, words: false, like: [], unlike: [], file: name, k: q.FIRST, filter });
  }

  stop() {
    this.abort?.abort();
    this.abort = new AbortController();
    return this.abort.signal;
  }

  hide() {
    this.stop();
  }

  async show(values, back) {
    const signal = this.stop();
    this.query = q.readQuery(values);
    const info = this.context.info;
    if (!info.can.text && this.query.text && !this.query.file) this.query.words = true;
    this.form.draw(this.query, info);
    this.drawChips(signal);
    this.drawFacets(signal);
    if (q.asks(this.query)) await this.run(signal, back);
    else this.drawStart();
  }

  async drawFacets(signal) {
    const { filter } = this.query;
    this.panel.draw(null, filter);
    try {
      const facets = await getFacets(filter, signal);
      this.panel.draw(facets, filter);
      if (!q.asks(this.query)) this.drawStart(facets);
    } catch (error) {
      // The results say what is wrong; without any, this is the only word of it.
      if (!q.asks(this.query)) showFailure(this.results, error, () => this.context.reload());
    }
  }

  drawStart(facets) {
    const tries = (facets?.tags ?? []).slice(0, 12);
    const tags = tries.map(({ value }) =>
      h("li", null, h("a", { class: "tag", dir: "auto", href: link("search", { ...q.writeQuery(this.query), text: value }) }, value)));
    const info = this.context.info;
    const hint = t(info.can.upload ? "start.hint" : "start.hint.text", { n: info.videos });
    fill(this.results, missingNote(facets?.missing), note(t("start.title"), hint,
      q.filters(this.query) ? h("p", { class: "soft" }, t("start.filter")) : null,
      tags.length ? h("p", { class: "soft" }, t("start.tags")) : null,
      tags.length ? h("ul", { class: "tags" }, tags) : null));
  }

  drawChips(signal) {
    const { query } = this;
    const chips = [];
    if (query.file) {
      this.fileChip = h("span", { class: "picture" });
      const remove = () => this.open({ ...query, file: "" });
      chips.push(chip(t("chip.file", { name: q.plainName(query.file) }), remove, "chip file", { class: "example", before: this.fileChip }));
    }
    for (const name of ["like", "unlike"]) {
      for (const id of query[name]) chips.push(this.exampleChip(name, id, signal));
    }
    chips.push(...filterChips(query.filter, this.change));
    if (chips.length > 1) {
      const clear = () => this.open({ ...q.readQuery(new URLSearchParams()), text: query.text, words: query.words });
      chips.push(button(t("chip.clear"), clear, { class: "quiet", data: { key: "clear" } }));
    }
    keepingFocus(this.chips, () => fill(this.chips, chips));
  }

  exampleChip(name, id, signal) {
    const rest = this.query[name].filter((each) => each !== id);
    const picture = h("span", { class: "picture" });
    const made = chip(t(`chip.${name}`, { name: id }), () => this.open({ ...this.query, [name]: rest }),
      `chip ${name} ${id}`, { class: `example ${name}`, before: picture });
    getVideo(id, signal).then((video) => {
      const words = t(`chip.${name}`, { name: titleText(video) });
      made.querySelector(".name").textContent = words;
      made.querySelector("button").setAttribute("aria-label", t("chip.remove", { name: words }));
      const [first] = picturesOf(video);
      if (first) {
        const img = h("img", { alt: "" });
        first(img);
        picture.append(img);
      }
    }, () => {});
    return made;
  }

  async run(signal, back) {
    const { query } = this;
    const file = query.file ? q.fileOf(query.file) : null;
    if (query.file && !file) {
      fill(this.results, note(t("file-gone.title", { name: q.plainName(query.file) }), t("file-gone.hint")));
      return;
    }
    const kept = answers.get(this.keyOf(query));
    if (kept) {
      this.drawHits(kept, file);
      if (back) restoreScroll();
      this.explain(kept, signal);
      return;
    }
    this.drawLoading(file);
    try {
      const answer = await this.ask(query, file, signal);
      if (signal.aborted) return;
      // What is missing may be back when it is asked for again.
      if (!answer.missing) this.keep(query, answer);
      this.drawHits(answer, file);
      say(`${t("found", { n: answer.hits.length })} ${missingText(answer.missing)}`.trim());
      this.explain(answer, signal);
    } catch (error) {
      // What comes in its place is on its way already.
      if (signal.aborted) return;
      this.results.removeAttribute("aria-busy");
      showFailure(this.results, error, () => this.context.reload());
    }
  }

  keyOf(query) {
    return JSON.stringify([query, this.context.info.generation]);
  }

  keep(query, answer) {
    if (answers.size >= KEPT) answers.delete(answers.keys().next().value);
    answers.set(this.keyOf(query), answer);
  }

  get whyWanted() {
    return this.showWhy && this.context.info.can.why && !this.query.words;
  }

  ask(query, file, signal) {
    const most = this.context.info.limits.k;
    if (!file) return search(q.asBody(query, most, false), signal);
    // A file is read once: why is asked for along with it.
    return searchByFile(file, { ...query, k: Math.min(query.k, most), explain: this.whyWanted }, signal);
  }

  drawLoading(file) {
    this.results.setAttribute("aria-busy", "true");
    if (file) {
      const cancel = () => this.open({ ...this.query, file: "" });
      fill(this.results, note(t("reading.title", { name: file.name }), t("reading.hint"), button(t("cancel"), cancel)), loading(4));
      say(t("reading.title", { name: file.name }));
    } else if (!this.results.querySelector(".card[data-id]")) {
      fill(this.results, loading());
    }
  }

  drawHits(answer, file) {
    const { query } = this;
    this.results.removeAttribute("aria-busy");
    if (answer.query) this.drawFile(answer.query.pictures);
    if (!answer.hits.length) {
      const hint = t(q.filters(query) ? "none.filter" : query.words ? "none.words" : "none.hint");
      const clear = () => this.open({ ...query, filter: q.readQuery(new URLSearchParams()).filter });
      fill(this.results, missingNote(answer.missing), note(t("none.title"), hint, q.filters(query) ? button(t("none.clear"), clear) : null));
      return;
    }
    const options = {
      words: query.words,
      tags: query.filter.tags,
      onTag: (tag) => this.change({ tags: [...query.filter.tags, tag] }),
      onLike: (video) => this.open(q.withExample(query, video.id, "like")),
      // Against a file alone there is nothing to hold a counterexample to.
      onUnlike: file || query.words ? null : (video) => this.open(q.withExample(query, video.id, "unlike")),
    };
    const cards = answer.hits.map((hit) => h("li", null, videoCard(hit, options)));
    keepingFocus(this.results, () =>
      fill(this.results, missingNote(answer.missing), this.headOf(answer), h("ol", { class: "cards" }, cards), this.moreButton(answer)));
  }

  drawFile(pictures) {
    if (!this.fileChip || !pictures.length) return;
    const strip = filmStrip(picturesFrom(pictures), { rest: 1, label: t("film.query") });
    playsOn(this.fileChip, strip);
    fill(this.fileChip, strip.root);
  }

  headOf(answer) {
    const box = h("input", {
      type: "checkbox",
      checked: this.showWhy,
      data: { key: "why" },
      on: {
        change: () => {
          this.showWhy = box.checked;
          remember("why", this.showWhy);
          this.root.classList.toggle("without-why", !this.showWhy);
          if (this.showWhy) this.explain(answer, this.abort.signal);
        },
      },
    });
    this.root.classList.toggle("without-why", !this.showWhy);
    const told = this.context.info.can.why && !this.query.words;
    this.whyNote = h("span", { class: "soft" });
    return h("div", { class: "head" },
      h("h2", null, t("found", { n: answer.hits.length }), h("span", { class: "soft" }, ` · ${number(answer.took_ms, answer.took_ms < 10 ? 1 : 0)}\u00a0ms`)),
      told ? h("label", null, box, h("span", null, t("why.show"))) : null, this.whyNote);
  }

  moreButton(answer) {
    const most = this.context.info.limits.k;
    if (answer.hits.length < Math.min(this.query.k, most) || this.query.k >= most) return null;
    const more = () => {
      const k = Math.min(most, this.query.k + q.FIRST);
      this.open({ ...this.query, k }, { replace: true });
    };
    return h("p", { class: "more" }, button(t("more"), more, { data: { key: "more" } }));
  }

  /** Hits come at once; why they were found, which the model has to be asked, comes after. */
  async explain(answer, signal) {
    const { query } = this;
    if (!this.whyWanted || answer.explained || query.file) return;
    try {
      const again = await search(q.asBody(query, this.context.info.limits.k, true), signal);
      answer.explained = true;
      const why = new Map(again.hits.map((hit) => [hit.id, hit.why]));
      for (const hit of answer.hits) hit.why = why.get(hit.id) ?? null;
      for (const card of this.results.querySelectorAll(".card[data-id]")) {
        const told = why.get(card.dataset.id);
        if (told) fill(card.querySelector(".why-place"), whyBlock(told));
      }
    } catch (error) {
      if (error.name !== "AbortError") this.whyNote.textContent = t("why.failed");
    }
  }
}
