/** Why a video was found, in words and as bars. */

import { h } from "./dom.js";
import { modalityName, number, signed, t } from "./i18n.js";

// A cosine that falls by less than this says nothing either way.
const LITTLE = 0.03;
// One modality outweighs the others where it accounts for so many times as much.
const MOST = 3;

/**
 * The sentence that sums up what each modality had to do with a cosine.
 * @param {Object<string, number>} lost By how much the cosine falls without each.
 * @param {string[]} names Modalities that could be compared.
 */
export function inWords(lost, names) {
  if (!names.length) return "";
  const words = summed(lost, names);
  return t("why.sentence", { words: words.charAt(0).toLocaleUpperCase() + words.slice(1) });
}

function summed(lost, names) {
  if (names.length === 1) return t("why.only", { name: modalityName(names[0]) });
  const ranked = names.filter((name) => name in lost).sort((a, b) => lost[b] - lost[a]);
  const list = (some) => some.map(modalityName).join(t("why.and"));
  const against = ranked.filter((name) => lost[name] < -LITTLE);
  const carrying = ranked.filter((name) => lost[name] > LITTLE);
  if (!carrying.length && !against.length) return t("why.either", { names: list(ranked) });
  if (!carrying.length) return t("why.against", { names: list(against) });
  const [first, second] = carrying;
  const one = second === undefined || lost[first] > MOST * lost[second];
  const told = one ? t("why.mostly", { name: modalityName(first) }) : t("why.agree", { names: list(carrying) });
  return against.length ? told + t("why.but", { names: list(against) }) : told;
}

/**
 * A block of bars: each modality's cosine alone, and what is lost without it.
 * @param {{alone: Object<string, number>, lost: Object<string, number>}} why
 */
export function whyBlock(why) {
  const names = Object.keys(why.alone).sort((a, b) => a.localeCompare(b));
  if (!names.length) return null;
  const rows = names.map((name) => {
    const lost = why.lost[name];
    return h(
      "div",
      { class: "bar" },
      h("span", { class: "name" }, modalityName(name)),
      h("span", { class: "track", "aria-hidden": "true" }, filled(why.alone[name])),
      h("span", { class: "value" }, number(why.alone[name], 2)),
      h("span", { class: "note" }, lost === undefined ? "" : signed(-lost)),
    );
  });
  const heads = h(
    "div",
    { class: "bar heads" },
    h("span"),
    h("span"),
    h("span", { class: "value" }, t("why.alone")),
    h("span", { class: "note", title: t("why.without.long") }, names.length > 1 ? t("why.without") : ""),
  );
  return h("div", { class: "why" }, h("p", { class: "words" }, inWords(why.lost, names)), heads, rows);
}

function filled(value) {
  const width = `${(100 * Math.min(1, Math.max(0, value))).toFixed(1)}%`;
  return h("span", { class: "filled", style: { width } });
}

/**
 * Bars left and right of a middle: by how much a cosine falls without each modality.
 * @param {Object<string, number>} shares
 */
export function shareBars(shares) {
  const names = Object.keys(shares).sort((a, b) => a.localeCompare(b));
  const most = Math.max(0.5, ...names.map((name) => Math.abs(shares[name])));
  return names.map((name) => {
    const value = shares[name];
    const width = `${((50 * Math.abs(value)) / most).toFixed(1)}%`;
    const style = value < 0 ? { width, right: "50%" } : { width, left: "50%" };
    return h(
      "div",
      { class: "bar" },
      h("span", { class: "name" }, modalityName(name)),
      h(
        "span",
        { class: "track middle", "aria-hidden": "true" },
        h("span", { class: value < 0 ? "filled less" : "filled", style }),
      ),
      h("span", { class: "value" }, signed(value)),
    );
  });
}
