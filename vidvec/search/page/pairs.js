/** The view of scored pairs on which people and vectors disagree most. */

import { getPairs, noteVideo } from "./api.js";
import { factsOf, titleOf } from "./card.js";
import { fill, h, say } from "./dom.js";
import { filmStrip, playsOn } from "./film.js";
import { number, percent, t } from "./i18n.js";
import { picturesOf } from "./pictures.js";
import { go, link, restoreScroll } from "./router.js";
import { loading, note, showFailure } from "./states.js";
import { shareBars } from "./why.js";

const PAGE = 10;
const SPLITS = ["clean", "published", "all"];

/** Makes the view. */
export function createPairs(context) {
  let abort = new AbortController();
  const list = h("div", { class: "pairs" });
  const summary = h("p", { class: "summary" });
  const paging = h("nav", { class: "paging", "aria-label": t("pairs.pages") });
  const options = SPLITS.map((name) => h("option", { value: name }, t(`split.${name}`)));
  const choice = h("select", { id: "split", on: { change: () => go(link("pairs", { split: choice.value })) } }, options);
  const root = h(
    "div",
    { class: "pairs-view" },
    h("h1", { tabindex: "-1" }, t("view.pairs")),
    h("p", { class: "lead" }, t("pairs.lead")),
    h("div", { class: "bar-of-tools" }, h("div", null, h("label", { for: "split" }, t("pairs.split")), choice), summary),
    list,
    paging,
  );

  async function show(values, back) {
    abort.abort();
    abort = new AbortController();
    const { signal } = abort;
    const split = SPLITS.includes(values.get("split")) ? values.get("split") : SPLITS[0];
    const page = Math.max(1, Number.parseInt(values.get("page") ?? "", 10) || 1);
    choice.value = split;
    list.setAttribute("aria-busy", "true");
    if (!list.firstChild) fill(list, loading(4));
    try {
      const asked = { split, offset: (page - 1) * PAGE, limit: PAGE, explain: context.info.can.why };
      const answer = await getPairs(asked, signal);
      if (signal.aborted) return;
      draw(answer, split, page);
      if (back) restoreScroll();
      else if (page > 1) window.scrollTo(0, 0);
    } catch (error) {
      if (signal.aborted) return;
      fill(paging);
      summary.textContent = "";
      showFailure(list, error, () => context.reload());
    }
    list.removeAttribute("aria-busy");
  }

  function draw(answer, split, page) {
    const correlation = answer.spearman === null ? "" : ` · ${t("pairs.spearman", { value: number(answer.spearman, 3) })}`;
    summary.textContent = `${t("pairs.count", { n: answer.total })}${correlation}`;
    say(summary.textContent);
    const from = (page - 1) * PAGE;
    fill(list, answer.pairs.length
      ? answer.pairs.map((pair, place) => article(pair, from + place + 1))
      : note(t("pairs.none"), t("pairs.none.hint")));
    const last = Math.max(1, Math.ceil(answer.total / PAGE));
    const to = (number_, words, there) => there
      ? h("a", { class: "button", href: link("pairs", { split, page: number_ > 1 ? number_ : "" }) }, words)
      : h("span", { class: "button off", "aria-disabled": "true" }, words);
    fill(paging, to(page - 1, t("pairs.before"), page > 1), h("span", null, t("pairs.page", { page, last })), to(page + 1, t("pairs.after"), page < last));
  }

  return { root, show, title: () => t("view.pairs"), hide: () => abort.abort() };
}

function article(pair, place) {
  const sentence = t(pair.score_rank > pair.cosine_rank ? "pairs.people" : "pairs.vectors");
  return h(
    "article",
    { class: "pair box" },
    h("h2", null, h("span", { class: "place" }, number(place)), sentence),
    h("div", { class: "sides" }, side(pair.video_1), judgement(pair), side(pair.video_2)),
  );
}

function side(video) {
  noteVideo(video);
  const strip = filmStrip(picturesOf(video), { rest: 3 });
  const open = h("a", { class: "open", href: link("video", { id: video.id }) }, strip.root, titleOf(video));
  playsOn(open, strip);
  return h("div", { class: "side" }, open, h("p", { class: "soft facts-line" }, [...factsOf(video), video.tags.join(", ")].filter(Boolean).join(" · ")));
}

function judgement(pair) {
  const shares = pair.why && Object.keys(pair.why).length
    ? h("div", { class: "why" }, h("h3", null, t("pairs.shares")), shareBars(pair.why))
    : null;
  return h("div", { class: "judgement" }, rankLine(pair), shares);
}

/** Where the pair stands among all pairs, from the least to the most alike: by score, by cosine. */
function rankLine(pair) {
  const low = Math.min(pair.score_rank, pair.cosine_rank);
  const at = (share) => `${(100 * share).toFixed(2)}%`;
  const line = h(
    "div",
    { class: "ranks", "aria-hidden": "true" },
    h("span", { class: "gap", style: { left: at(low), width: at(pair.gap) } }),
    h("span", { class: "mark people", style: { left: at(pair.score_rank) } }),
    h("span", { class: "mark vectors", style: { left: at(pair.cosine_rank) } }),
  );
  const row = (name, value, rank) => h("div", null,
    h("dt", null, h("span", { class: `dot ${name}` }), t(`pairs.${name}.name`)),
    h("dd", null, h("b", null, number(value, 2)), " ", h("span", { class: "soft" }, t("pairs.rank", { share: percent(rank) }))));
  return h("div", null, line,
    h("dl", { class: "scores-list" }, row("people", pair.score, pair.score_rank), row("vectors", pair.cosine, pair.cosine_rank),
      h("div", null, h("dt", null, t("pairs.gap")), h("dd", null, h("b", null, percent(pair.gap))))));
}
