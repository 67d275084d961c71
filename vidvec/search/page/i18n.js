/** The page's words in the reader's language, and numbers as that language writes them. */

import english from "./words-en.js";
import chinese from "./words-zh.js";
import { recall, remember } from "./stored.js";

const WORDS = { en: english, zh: chinese };

/** Languages of the page, each by its own name. */
export const LANGUAGES = [
  ["en", "English"],
  ["zh", "中文"],
];

let language = first();

function first() {
  const kept = recall("language", null);
  if (Object.hasOwn(WORDS, kept ?? "")) return kept;
  const wanted = navigator.languages?.length ? navigator.languages : [navigator.language];
  for (const each of wanted) {
    const found = Object.keys(WORDS).find((name) => each?.toLowerCase().startsWith(name));
    if (found) return found;
  }
  return "en";
}

/** The language that is shown. */
export const currentLanguage = () => language;

/** Shows another one and remembers it. */
export function setLanguage(name) {
  language = name;
  remember("language", name);
}

/**
 * A text of the page.
 * @param {string} key
 * @param {Object} values Put in place of `{name}`; `n` also chooses between singular and plural.
 */
export function t(key, values = {}) {
  let text = WORDS[language][key];
  if (text === undefined) throw new Error(`no words for ${key}`);
  if (typeof text === "object") {
    const form = new Intl.PluralRules(language).select(values.n);
    text = text[form] ?? text.other;
  }
  return text.replaceAll(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : String(value);
  });
}

/** Whether there are words for a key. */
export const has = (key) => Object.hasOwn(WORDS[language], key);

/** A number with so many decimals. */
export function number(value, decimals = 0) {
  const format = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  // A true minus: the hyphen is thinner than the figures, and easily missed.
  return value.toLocaleString(language, format).replace(/^-/, "\u2212");
}

/** A share as per cent. Never rounded up to certainty. */
export function percent(share) {
  if (share > 0.995 && share < 1) return `> ${number(99)}\u00a0%`;
  return `${number(Math.round(100 * share))}\u00a0%`;
}

/** A number with its sign; a true minus, which is as wide as a plus. */
export function signed(value, decimals = 2) {
  const text = number(Math.abs(value), decimals);
  if (Number(Math.abs(value).toFixed(decimals)) === 0) return text;
  return `${value < 0 ? "\u2212" : "+"}${text}`;
}

/** A duration: 8.4 s, or 12:05. */
export function duration(seconds) {
  if (seconds < 60) return t("seconds", { s: number(seconds, seconds < 10 ? 1 : 0) });
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, place) => (place ? String(part).padStart(2, "0") : part)).join(":");
}

/** A size in bytes. */
export function size(bytes) {
  if (bytes < 2 ** 20) return `${number(bytes / 2 ** 10, 0)} KiB`;
  return `${number(bytes / 2 ** 20, bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;
}

/** Name of a language, by its BCP 47 tag; the tag where nobody knows it. */
export function languageName(tag) {
  try {
    return new Intl.DisplayNames([language], { type: "language" }).of(tag) ?? tag;
  } catch {
    return tag;
  }
}

/** Name of a modality. */
export const modalityName = (name) => (has(`modality.${name}`) ? t(`modality.${name}`) : name);
