/** That an answer is not whole: which shards of the index did not answer, and why. */

import { h } from "./dom.js";
import { has, percent, t } from "./i18n.js";

/** What is missing, in a sentence; empty where nothing is. */
export function missingText(missing) {
  if (!missing) return "";
  const values = { n: missing.shards.length, all: missing.of };
  if (missing.share === null) return t("missing.some", values);
  return t("missing.share", { ...values, share: percent(missing.share) });
}

/** A notice above what was found; none where the answer is whole. */
export function missingNote(missing) {
  if (!missing) return null;
  const each = missing.shards.map((shard) => {
    const key = `missing.${shard.reason}`;
    return h("li", null, h("bdi", { class: "name" }, shard.name), ": ",
      h("span", { title: shard.why }, t(has(key) ? key : "missing.failed")));
  });
  return h("div", { class: "missing" }, h("p", null, h("strong", null, t("missing.title")), " ", missingText(missing)),
    h("ul", null, each));
}
