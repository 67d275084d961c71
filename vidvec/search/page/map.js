/** The view of all videos in the plane: what lies together is alike. */

import { getMap, getVideo } from "./api.js";
import { factsOf, titleOf, titleText } from "./card.js";
import { button, fill, h, say } from "./dom.js";
import { filmStrip } from "./film.js";
import { takeGestures } from "./gestures.js";
import { number, t } from "./i18n.js";
import { picturesOf } from "./pictures.js";
import { Plane, themeColour } from "./plane.js";
import { go, link } from "./router.js";
import { note, showFailure } from "./states.js";

const HOVER_MS = 90;

/** Makes the view. */
export function createMap(context) {
  return new MapView(context);
}

class MapView {
  constructor(context) {
    this.context = context;
    const canvas = h("canvas", { "aria-hidden": "true" });
    this.card = h("div", { class: "map-card", hidden: true });
    this.stage = h(
      "div",
      { class: "stage", tabindex: "0", role: "application", "aria-label": t("map.label"), "aria-describedby": "map-hint" },
      canvas,
      this.card,
    );
    this.list = h("ol", { class: "themes" });
    this.state = h("div");
    const tool = (sign, name, run) => button(sign, run, { class: "square", "aria-label": t(`map.${name}`), title: t(`map.${name}`) });
    const tools = h("div", { class: "tools" },
      tool("+", "in", () => this.moved(() => this.plane.zoom(1.5))),
      tool("−", "out", () => this.moved(() => this.plane.zoom(1 / 1.5))),
      tool("⤢", "fit", () => this.moved(() => this.plane.fit())));
    this.body = h("div", { class: "map-columns", hidden: true },
      h("div", { class: "stage-box" }, this.stage, tools, h("p", { id: "map-hint", class: "soft" }, t("map.hint"))),
      h("section", { "aria-labelledby": "themes-title" }, h("h2", { id: "themes-title" }, t("map.themes")), this.list));
    this.root = h("div", { class: "map-view" }, h("h1", { tabindex: "-1" }, t("view.map")), this.state, this.body);
    this.plane = new Plane(canvas);
    takeGestures(this.stage, this.plane, {
      hover: (n) => this.hover(n),
      touch: (n) => this.hover(n, true),
      open: (n) => go(link("video", { id: this.plane.points[n][0] })),
      moved: () => this.placeCard(),
    });
    this.stage.addEventListener("blur", () => this.hover(-1));
    new ResizeObserver(() => {
      if (this.stage.clientWidth) this.plane.resize(this.stage.clientWidth, this.stage.clientHeight);
    }).observe(this.stage);
    const recolour = () => {
      this.plane.recolour();
      if (this.answer) this.drawThemes();
    };
    document.addEventListener("vidvec:theme", recolour);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  }

  title() {
    return t("view.map");
  }

  hide() {
    this.abort?.abort();
    this.hover(-1);
  }

  moved(change) {
    change();
    this.placeCard();
  }

  async show(values) {
    this.abort?.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    const wanted = Number.parseInt(values.get("theme") ?? "", 10);
    this.theme = Number.isInteger(wanted) ? wanted : null;
    if (!this.answer) fill(this.state, h("p", { class: "soft" }, t("loading")));
    try {
      const generation = this.context.info.generation;
      if (this.generation !== generation) {
        this.answer = await getMap(signal);
        this.generation = generation;
        this.plane.set(this.answer.points, this.answer.themes);
        say(t("map.count", { n: this.answer.points.length, themes: this.answer.themes.length }));
      }
    } catch (error) {
      this.body.hidden = true;
      showFailure(this.state, error, () => this.context.reload());
      return;
    }
    this.body.hidden = !this.answer.points.length;
    if (this.body.hidden) {
      fill(this.state, note(t("map.none"), ""));
      return;
    }
    const counts = { n: this.answer.points.length, themes: this.answer.themes.length };
    fill(this.state, h("p", { class: "lead" }, t("map.count", counts), " ", t("map.lead")));
    this.plane.recolour();
    this.plane.show(this.theme);
    this.drawThemes();
  }

  drawThemes() {
    const items = this.answer.themes.map((theme) => {
      const chosen = theme.id === this.theme;
      const pick = button(
        [h("span", { class: "dot", style: { "background-color": themeColour(theme.id, this.plane.dark) } }),
          h("span", { class: "name", dir: "auto" }, theme.name), h("span", { class: "count" }, number(theme.count))],
        () => go(link("map", { theme: chosen ? "" : theme.id }), { replace: true }),
        { "aria-pressed": String(chosen), data: { key: `theme ${theme.id}` } },
      );
      const more = theme.words.length
        ? h("p", { class: "soft words", dir: "auto" }, theme.words.join(", "), " ",
            this.context.info.can.text ? h("a", { href: link("search", { text: theme.words.slice(0, 3).join(" ") }) }, t("map.search", { name: theme.name })) : null)
        : null;
      return h("li", { class: chosen ? "chosen" : null }, pick, more);
    });
    const key = document.activeElement?.dataset?.key;
    const held = this.list.contains(document.activeElement);
    fill(this.list, items);
    if (held) [...this.list.querySelectorAll("button")].find((each) => each.dataset.key === key)?.focus();
  }

  hover(n, touched = false) {
    if (n === this.hovered && !touched) return;
    this.hovered = n;
    this.plane.choose(n);
    this.stage.classList.toggle("pointing", n >= 0);
    clearTimeout(this.timer);
    this.strip?.stop();
    this.card.hidden = true;
    if (n < 0) return;
    this.timer = setTimeout(() => this.tell(n), HOVER_MS);
  }

  async tell(n) {
    try {
      const video = await getVideo(this.plane.points[n][0], this.abort?.signal);
      if (n !== this.hovered) return;
      const theme = this.answer.themes.find(({ id }) => id === this.plane.points[n][3]);
      this.strip = filmStrip(picturesOf(video));
      fill(this.card, h("a", { class: "open", href: link("video", { id: video.id }), tabindex: "-1" }, this.strip.root, titleOf(video)),
        h("p", { class: "soft" }, [theme?.name, ...factsOf(video)].filter(Boolean).join(" · ")));
      this.card.hidden = false;
      this.placeCard();
      this.strip.play();
      if (document.activeElement === this.stage) say(titleText(video));
    } catch {
      // A video that is not told of has no card; the map is still one.
    }
  }

  placeCard() {
    if (this.card.hidden || !(this.hovered >= 0)) return;
    const [px, py] = this.plane.placeOf(this.hovered);
    const { offsetWidth: width, offsetHeight: height } = this.card;
    const right = px + 14 + width < this.plane.width;
    const left = right ? px + 14 : Math.max(4, px - 14 - width);
    const top = Math.max(4, Math.min(py - height / 2, this.plane.height - height - 4));
    this.card.style.setProperty("left", `${left}px`);
    this.card.style.setProperty("top", `${top}px`);
  }
}
