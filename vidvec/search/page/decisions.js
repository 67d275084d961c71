/** Which duplicates are kept and which are dropped: remembered, and as a table to take away. */

import { recall, remember } from "./stored.js";

/**
 * Decisions on the videos of one state of a server's index.
 * @param {{name: string, generation: number}} info
 */
export function decisionsOf(info) {
  const name = `decisions.${info.name}.${info.generation}`;
  const made = new Map(Object.entries(recall(name, {})));
  return {
    /** `keep` or `drop`: what was decided, else a group's representative alone is kept. */
    of: (id, representative) => made.get(id) ?? (id === representative ? "keep" : "drop"),
    /** Whether somebody decided. */
    has: (id) => made.has(id),
    count: () => made.size,
    /** Decides; false where the browser cannot remember it. */
    set(id, decision) {
      made.set(id, decision);
      return remember(name, Object.fromEntries(made));
    },
    clear() {
      made.clear();
      remember(name, null);
    },
  };
}

/**
 * A cell of a CSV file. Spreadsheets run what begins with = + - @, a tab or a line break as a
 * formula: an apostrophe before it makes it text.
 */
export function csvCell(value) {
  const text = String(value);
  const safe = /^[=+\-@\t\r\n]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/**
 * Groups with their decisions as CSV: id, group, decision, representative.
 * @param {Array} groups As the API gives them.
 */
export function asCsv(groups, decisions) {
  const rows = groups.flatMap(({ representative, members }, place) =>
    members.map(({ id }) => [id, place + 1, decisions.of(id, representative.id), representative.id]));
  const lines = [["id", "group", "decision", "representative"], ...rows];
  return `${lines.map((line) => line.map(csvCell).join(",")).join("\r\n")}\r\n`;
}

/** Hands a text to the reader as a file. */
export function download(text, name) {
  // The mark tells spreadsheets that it is UTF-8.
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
