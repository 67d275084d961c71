/** A video as a card: film strip, title, figures, tags, why it was found, what to do with it. */

import { noteVideo } from "./api.js";
import { button, h } from "./dom.js";
import { filmStrip, playsOn } from "./film.js";
import { duration, languageName, number, percent, t } from "./i18n.js";
import { picturesOf } from "./pictures.js";
import { link } from "./router.js";
import { whyBlock } from "./why.js";

const CARD_TAGS = 10;

/** A video's title, each in its own direction; a word for it where it has none. */
export function titleOf(video, tag = "span") {
  if (!video.title.trim()) return h(tag, { class: "title soft" }, t("no-title", { id: video.id }));
  return h(tag, { class: "title", dir: "auto", lang: video.language || null }, video.title);
}

/** A video's title as plain text. */
export const titleText = (video) => video.title.trim() || t("no-title", { id: video.id });

/** Category, language, duration and date, as far as they are known. */
export function factsOf(video) {
  return [
    video.category,
    video.language && languageName(video.language),
    video.duration_seconds !== null && duration(video.duration_seconds),
    video.date.slice(0, 10),
  ].filter(Boolean);
}

/**
 * How well a video fits.
 * @param {Object} hit
 * @param {boolean} words Whether it was found by the words of its title, which gives no cosine.
 */
export function scoreOf(hit, words = false) {
  const value = number(hit.cosine, words ? 1 : 2);
  const parts = [
    h("span", { class: "score", title: t(words ? "score.words" : "score.cosine") },
      h("span", { class: "unseen" }, t(words ? "score.words" : "score.cosine"), " "), value),
  ];
  if (hit.probability !== null && hit.probability !== undefined) {
    const share = percent(hit.probability);
    parts.push(h("span", { class: "chance", title: t("score.probability.long") }, t("score.probability", { share })));
  }
  return h("span", { class: "scores" }, parts);
}

/**
 * A card.
 * @param {Object} video A hit, or a video without a cosine.
 * @param {Object} options `onTag(tag)`, `tags` that are chosen already, `onLike`, `onUnlike`
 *   (`onUnlike` alone may be missing), `words`: found by words.
 */
export function videoCard(video, { onTag, tags = [], onLike, onUnlike, words = false } = {}) {
  noteVideo(video);
  const strip = filmStrip(picturesOf(video));
  const open = h(
    "a",
    { class: "open", href: link("video", { id: video.id }), data: { key: `open ${video.id}` } },
    strip.root,
    titleOf(video),
  );
  playsOn(open, strip);
  const facts = factsOf(video).map((fact) => h("span", { dir: "auto" }, fact));
  const actions = [];
  if (onLike) actions.push(action("like", onLike, video));
  if (onUnlike) actions.push(action("unlike", onUnlike, video));
  const card = h(
    "article",
    { class: "card", data: { id: video.id } },
    open,
    h("div", { class: "line" }, video.cosine === undefined ? null : scoreOf(video, words), h("span", { class: "facts" }, facts)),
    tagList(video, onTag, tags, CARD_TAGS),
    h("div", { class: "why-place" }, video.why ? whyBlock(video.why) : null),
    actions.length ? h("div", { class: "actions" }, actions) : null,
  );
  return card;
}

function action(name, run, video) {
  const label = t(`action.${name}`);
  return button(label, () => run(video), {
    class: "quiet",
    "aria-label": t("action.on", { action: label, title: titleText(video) }),
    data: { key: `${name} ${video.id}` },
  });
}

/** A video's tags, so many at most; those that can be chosen are buttons. */
export function tagList(video, onTag, chosen = [], most = Infinity) {
  if (!video.tags.length) return null;
  const rest = video.tags.slice(most);
  const items = video.tags.slice(0, most).map((tag) => {
    const made = onTag && !chosen.includes(tag)
      ? button(tag, () => onTag(tag), { class: "tag", dir: "auto", title: t("filter.by", { value: tag }), data: { key: `tag ${video.id} ${tag}` } })
      : h("span", { class: chosen.includes(tag) ? "tag chosen" : "tag", dir: "auto" }, tag);
    return h("li", null, made);
  });
  const more = rest.length ? h("li", { class: "soft", title: rest.join(", ") }, `+${number(rest.length)}`) : null;
  return h("ul", { class: "tags", "aria-label": t("tags") }, items, more);
}
