/** The filters beside the results: what can be chosen, with counts, and what is chosen. */

import { button, fill, h, keepingFocus } from "./dom.js";
import { duration, languageName, number, t } from "./i18n.js";

const SHOWN = 14;
const LISTS = ["tags", "categories", "languages"];

/**
 * The panel of filters.
 * @param {Function} change Called with what is to change of a filter.
 */
export function filterPanel(change) {
  const opened = new Set();
  const lists = Object.fromEntries(LISTS.map((field) => [field, h("fieldset", { class: "facet" })]));
  const ranges = h("div", { class: "ranges" });
  const count = h("p", { class: "soft" });
  const root = h("div", { class: "filters" }, count, LISTS.map((field) => lists[field]), ranges);

  function drawList(field, facets, filter) {
    const known = new Map(facets[field].map(({ value, count: many }) => [value, many]));
    const chosen = filter[field].filter((value) => !known.has(value)).map((value) => ({ value, count: 0 }));
    const values = [...chosen, ...facets[field]];
    const all = opened.has(field);
    const some = all ? values : values.filter(({ value }, n) => n < SHOWN || filter[field].includes(value));
    const items = some.map(({ value, count: many }) => choice(field, value, many, filter));
    const more = values.length > SHOWN
      ? button(all ? t("filter.fewer") : t("filter.more", { n: values.length - some.length }), () => {
          if (all) opened.delete(field);
          else opened.add(field);
          keepingFocus(lists[field], () => drawList(field, facets, filter));
        }, { class: "quiet", "aria-expanded": String(all), data: { key: `more ${field}` } })
      : null;
    fill(lists[field], h("legend", null, t(`filter.${field}`)), items, more);
    lists[field].hidden = !values.length;
  }

  function choice(field, value, many, filter) {
    const checked = filter[field].includes(value);
    const box = h("input", {
      type: "checkbox",
      checked,
      data: { key: `${field} ${value}` },
      on: {
        change: () => {
          const rest = filter[field].filter((each) => each !== value);
          change({ [field]: checked ? rest : [...rest, value] });
        },
      },
    });
    const name = field === "languages" ? languageName(value) : value;
    return h("label", null, box, h("span", { class: "name", dir: "auto" }, name), h("span", { class: "count" }, number(many)));
  }

  function drawRanges(filter) {
    const field = (name, type, extra) => {
      const id = `filter-${name}`;
      const input = h("input", {
        id,
        type,
        value: filter[name] ?? "",
        data: { key: name },
        ...extra,
        on: {
          change: (event) => {
            const { value, validity } = event.target;
            if (!validity.valid) return;
            if (type === "number") change({ [name]: value === "" ? null : Number(value) });
            else change({ [name]: value });
          },
        },
      });
      return h("div", null, h("label", { for: id }, t(`filter.${name}`)), input);
    };
    const seconds = { min: 0, step: "any", inputmode: "decimal" };
    fill(
      ranges,
      h("fieldset", null, h("legend", null, t("filter.duration")), field("min_seconds", "number", seconds), field("max_seconds", "number", seconds)),
      h("fieldset", null, h("legend", null, t("filter.date")), field("after", "date"), field("before", "date")),
    );
  }

  return {
    root,
    /** Shows facets (none yet: null) and what of them is chosen. */
    draw(facets, filter) {
      keepingFocus(root, () => {
        drawRanges(filter);
        if (!facets) return;
        count.textContent = t("filter.videos", { n: facets.videos });
        for (const field of LISTS) drawList(field, facets, filter);
      });
    },
  };
}

/** One chip for each thing that is chosen, which takes it back. */
export function filterChips(filter, change) {
  const chips = [];
  for (const field of LISTS) {
    for (const value of filter[field]) {
      const name = field === "languages" ? languageName(value) : value;
      const rest = filter[field].filter((each) => each !== value);
      chips.push(chip(name, () => change({ [field]: rest }), `chip ${field} ${value}`));
    }
  }
  const ranges = {
    min_seconds: (value) => t("chip.min", { value: duration(value) }),
    max_seconds: (value) => t("chip.max", { value: duration(value) }),
    after: (value) => t("chip.after", { value }),
    before: (value) => t("chip.before", { value }),
  };
  for (const [name, words] of Object.entries(ranges)) {
    const value = filter[name];
    if (value === null || value === "") continue;
    const empty = name.endsWith("seconds") ? null : "";
    chips.push(chip(words(value), () => change({ [name]: empty }), `chip ${name}`));
  }
  return chips;
}

/** A chip: what it stands for, and a button that takes it away. */
export function chip(name, remove, key, extra = {}) {
  return h(
    "span",
    { class: `chip ${extra.class ?? ""}` },
    extra.before ?? null,
    h("span", { class: "name", dir: "auto" }, name),
    button("×", remove, { "aria-label": t("chip.remove", { name }), data: { key } }),
  );
}
