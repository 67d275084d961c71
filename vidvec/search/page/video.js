/** The view of one video: its pictures, what is known of it, and its neighbours. */

import { getNeighbours, getVideo } from "./api.js";
import { factsOf, tagList, titleOf, titleText, videoCard } from "./card.js";
import { button, fill, h, say } from "./dom.js";
import { filmStrip } from "./film.js";
import { duration, languageName, number, t } from "./i18n.js";
import { missingNote, missingText } from "./missing.js";
import { picturesOf } from "./pictures.js";
import { go, link, restoreScroll } from "./router.js";
import { loading, showFailure } from "./states.js";

const NEIGHBOURS = 12;

/** Makes the view. */
export function createVideo(context) {
  const root = h("div", { class: "video-view" });
  let abort = new AbortController();
  let title = t("view.video");

  async function show(values, back) {
    abort.abort();
    abort = new AbortController();
    const { signal } = abort;
    const id = values.get("id") ?? "";
    fill(root, h("h1", { tabindex: "-1", dir: "auto" }, id), loading(4));
    try {
      const video = await getVideo(id, signal);
      if (signal.aborted) return;
      title = titleText(video);
      context.titled();
      const place = h("div", null, loading(4));
      const held = root.contains(document.activeElement);
      fill(root, headOf(video), h("h2", null, t("video.neighbours")), place);
      const heading = root.querySelector("h1");
      heading.tabIndex = -1;
      if (held) heading.focus({ preventScroll: true });
      if (back) restoreScroll();
      await drawNeighbours(place, video, signal);
      if (back) restoreScroll();
    } catch (error) {
      showFailure(root, error, () => context.reload());
    }
  }

  function headOf(video) {
    const pictures = filmStrip(picturesOf(video), { all: true, label: t("film.of", { title: titleText(video) }) });
    const similar = () => go(link("search", { like: [video.id] }));
    return h("div", { class: "video-head" },
      titleOf(video, "h1"),
      h("p", { class: "soft" }, factsOf(video).join(" · ")),
      pictures.root,
      h("div", { class: "about" }, facts(video),
        h("div", null, tagList(video, (tag) => go(link("search", { like: [video.id], tag: [tag] }))),
          h("p", { class: "actions" }, button(t("video.like"), similar, { class: "primary" })))));
  }

  function facts(video) {
    const rows = [
      ["id", video.id],
      ["category", video.category],
      ["language", video.language && `${languageName(video.language)} (${video.language})`],
      ["duration", video.duration_seconds === null ? "" : duration(video.duration_seconds)],
      ["date", video.date],
      ["pictures", number(video.pictures)],
    ];
    const known = rows.filter(([, value]) => value);
    return h("dl", { class: "facts-list" }, known.map(([name, value]) =>
      h("div", null, h("dt", null, t(`fact.${name}`)), h("dd", { dir: "auto" }, value))));
  }

  async function drawNeighbours(place, video, signal) {
    const explain = context.info.can.why;
    try {
      const { hits, missing } = await getNeighbours(video.id, NEIGHBOURS, explain, signal);
      if (signal.aborted) return;
      const options = {
        onTag: (tag) => go(link("search", { like: [video.id], tag: [tag] })),
        onLike: (other) => go(link("search", { like: [video.id, other.id] })),
        onUnlike: (other) => go(link("search", { like: [video.id], unlike: [other.id] })),
      };
      fill(place, missingNote(missing), hits.length
        ? h("ol", { class: "cards" }, hits.map((hit) => h("li", null, videoCard(hit, options))))
        : h("p", { class: "soft" }, t("video.alone")));
      say(`${t("found", { n: hits.length })} ${missingText(missing)}`.trim());
    } catch (error) {
      showFailure(place, error, () => context.reload());
    }
  }

  return { root, show, title: () => title, hide: () => abort.abort() };
}
