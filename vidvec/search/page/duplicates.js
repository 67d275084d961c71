/** The view of near duplicates: groups at a threshold, and which of their videos to keep. */

import { getGroups, noteVideo } from "./api.js";
import { factsOf, scoreOf, titleOf, titleText } from "./card.js";
import { asCsv, decisionsOf, download } from "./decisions.js";
import { button, fill, h, say } from "./dom.js";
import { filmStrip, playsOn } from "./film.js";
import { number, t } from "./i18n.js";
import { picturesOf } from "./pictures.js";
import { go, link, restoreScroll } from "./router.js";
import { loading, note, showFailure } from "./states.js";

const PAGE = 20;
const MOST = 200;
const STEP = 0.005;
const LEAST = 0.5;
const WAIT_MS = 350;

/** Makes the view. */
export function createDuplicates(context) {
  return new DuplicatesView(context);
}

class DuplicatesView {
  constructor(context) {
    this.context = context;
    this.list = h("div", { class: "groups" });
    this.summary = h("p", { class: "summary", "aria-live": "polite" });
    this.shownThreshold = h("output", { for: "threshold" });
    this.slider = h("input", {
      id: "threshold", type: "range", min: LEAST, max: 1, step: STEP,
      on: { input: () => this.slide() },
    });
    this.export = button(t("duplicates.export"), () => this.exportAll(), { class: "primary" });
    this.reset = button(t("duplicates.reset"), () => this.clear());
    this.root = h(
      "div",
      { class: "duplicates-view" },
      h("h1", { tabindex: "-1" }, t("view.duplicates")),
      h("p", { class: "lead" }, t("duplicates.lead")),
      h("div", { class: "bar-of-tools" },
        h("div", { class: "threshold" }, h("label", { for: "threshold" }, t("duplicates.threshold")), this.slider, this.shownThreshold),
        this.summary, h("div", { class: "actions" }, this.export, this.reset)),
      this.list,
    );
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    this.groups = [];
  }

  title() {
    return t("view.duplicates");
  }

  hide() {
    this.abort?.abort();
  }

  slide() {
    const value = Number(this.slider.value);
    this.shownThreshold.textContent = number(value, 3);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => go(link("duplicates", { threshold: value }), { replace: true }), WAIT_MS);
  }

  async show(values, back) {
    this.abort?.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.decisions = decisionsOf(this.context.info);
    const wanted = Number.parseFloat(values.get("threshold") ?? "");
    this.threshold = wanted > 0 && wanted <= 1 ? wanted : null;
    this.list.setAttribute("aria-busy", "true");
    if (!this.list.firstChild) fill(this.list, loading(4));
    try {
      const answer = await getGroups({ threshold: this.threshold, limit: PAGE }, signal);
      if (signal.aborted) return;
      this.draw(answer);
      if (back) restoreScroll();
      say(this.summary.textContent);
    } catch (error) {
      if (signal.aborted) return;
      this.list.removeAttribute("aria-busy");
      showFailure(this.list, error, () => this.context.reload());
    }
  }

  draw(answer) {
    this.groups = answer.groups;
    this.total = answer.total;
    this.threshold = answer.threshold;
    this.slider.min = Math.min(LEAST, answer.threshold);
    this.slider.value = answer.threshold;
    this.shownThreshold.textContent = number(answer.threshold, 3);
    this.list.removeAttribute("aria-busy");
    this.export.disabled = !answer.total;
    if (!answer.total) {
      fill(this.list, note(t("duplicates.none"), t("duplicates.none.hint")));
    } else {
      fill(this.list, this.groups.map((group, place) => this.section(group, place)), this.moreButton());
    }
    this.count();
  }

  moreButton() {
    if (this.groups.length >= this.total) return null;
    const made = button(t("duplicates.more", { n: this.total - this.groups.length }), () => this.loadMore(made));
    return h("p", { class: "more" }, made);
  }

  async loadMore(pressed) {
    pressed.disabled = true;
    const { signal } = this.abort;
    const values = { threshold: this.threshold, offset: this.groups.length, limit: PAGE };
    try {
      const { groups } = await getGroups(values, signal);
      const from = this.groups.length;
      this.groups = [...this.groups, ...groups];
      const place = pressed.parentElement;
      place.before(...groups.map((group, n) => this.section(group, from + n)));
      place.remove();
      const more = this.moreButton();
      if (more) this.list.append(more);
      this.list.querySelectorAll(".group")[from]?.querySelector("a")?.focus();
      this.count();
    } catch (error) {
      const place = h("div");
      pressed.parentElement.replaceWith(place);
      showFailure(place, error, () => place.replaceWith(this.moreButton()));
    }
  }

  section(group, place) {
    const heading = t("duplicates.group", { place: place + 1, n: group.members.length });
    const items = group.members.map((hit) => h("li", null, this.member(hit, group)));
    return h("section", { class: "group", "aria-label": heading }, h("h2", null, heading), h("ol", { class: "members" }, items));
  }

  member(hit, group) {
    noteVideo(hit);
    const first = hit.id === group.representative.id;
    const strip = filmStrip(picturesOf(hit));
    const open = h("a", { class: "open", href: link("video", { id: hit.id }) }, strip.root, titleOf(hit));
    playsOn(open, strip, false);
    const card = h(
      "article",
      { class: "card member", data: { id: hit.id, representative: group.representative.id } },
      open,
      h("div", { class: "line" }, first ? h("span", { class: "badge" }, t("duplicates.representative")) : scoreOf(hit),
        h("span", { class: "facts" }, factsOf(hit).map((fact) => h("span", { dir: "auto" }, fact)))),
      h("div", { class: "decide", role: "group", "aria-label": t("duplicates.decide", { title: titleText(hit) }) },
        ["keep", "drop"].map((decision) =>
          button(t(`decision.${decision}`), () => this.decide(card, decision), { class: decision, data: { decision, key: `${decision} ${hit.id}` } }))),
    );
    this.mark(card);
    return card;
  }

  mark(card) {
    const decision = this.decisions.of(card.dataset.id, card.dataset.representative);
    card.classList.toggle("dropped", decision === "drop");
    for (const made of card.querySelectorAll("[data-decision]")) {
      made.setAttribute("aria-pressed", String(made.dataset.decision === decision));
    }
  }

  decide(card, decision) {
    const kept = this.decisions.set(card.dataset.id, decision);
    this.mark(card);
    this.count();
    say(kept ? t(`decided.${decision}`) : t("duplicates.forgotten"));
  }

  clear() {
    this.decisions.clear();
    for (const card of this.root.querySelectorAll(".member")) this.mark(card);
    this.count();
  }

  count() {
    const members = this.groups.flatMap(({ members: some, representative }) => some.map(({ id }) => this.decisions.of(id, representative.id)));
    const dropped = members.filter((decision) => decision === "drop").length;
    const groups = t("duplicates.groups", { n: this.total ?? 0 });
    const shown = this.groups.length < this.total ? t("duplicates.shown", { n: this.groups.length }) : "";
    this.summary.textContent = `${groups}${shown} · ${t("duplicates.videos", { n: members.length, dropped })}`;
    this.reset.disabled = !this.decisions.count();
  }

  async exportAll() {
    this.export.disabled = true;
    try {
      const groups = [];
      let total = Infinity;
      while (groups.length < total) {
        const answer = await getGroups({ threshold: this.threshold, offset: groups.length, limit: MOST });
        total = answer.total;
        groups.push(...answer.groups);
        if (!answer.groups.length) break;
      }
      download(asCsv(groups, this.decisions), `duplicates-${this.context.info.name}.csv`);
      say(t("duplicates.exported"));
    } catch (error) {
      const place = h("div");
      this.list.prepend(place);
      showFailure(place, error, () => {
        place.remove();
        this.exportAll();
      });
    }
    this.export.disabled = false;
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const card = event.target.closest(".member");
    if (!card) return;
    const decision = { k: "keep", d: "drop" }[event.key.toLowerCase()];
    if (decision) {
      event.preventDefault();
      this.decide(card, decision);
      return;
    }
    const next = this.neighbour(card, event.key);
    if (!next) return;
    event.preventDefault();
    next.querySelector("a").focus();
    next.scrollIntoView({ block: "nearest" });
  }

  /** The card that an arrow key leads to: along a group, or to the one before or after. */
  neighbour(card, key) {
    const along = { ArrowRight: 1, ArrowLeft: -1 }[key];
    const across = { ArrowDown: 1, ArrowUp: -1 }[key];
    const group = card.closest(".group");
    if (along) {
      const cards = [...group.querySelectorAll(".member")];
      return cards[cards.indexOf(card) + along];
    }
    if (!across) return null;
    const groups = [...this.root.querySelectorAll(".group")];
    return groups[groups.indexOf(group) + across]?.querySelector(".member");
  }
}
