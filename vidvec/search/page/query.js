/** What is looked for: from the address and back, and as the API takes it. */

/** Hits that a search asks for at first, and by how many more. */
export const FIRST = 20;
// Values of one kind that the API takes.
const MOST = 100;

// The address cannot carry a file: it says its name, and the file waits here until the page closes.
const files = new Map();

/** Keeps a file for searches by it; returns the name that the address carries. */
export function keepFile(file) {
  const name = `${file.name || "file"} (${files.size + 1})`;
  files.set(name, file);
  return name;
}

/** The file of a name; none after the page was loaded again. */
export const fileOf = (name) => files.get(name);

/** The name that the reader's own machine has for a file. */
export const plainName = (name) => name.replace(/ \(\d+\)$/, "");

const LISTS = { tags: "tag", categories: "category", languages: "language" };

/** A query from the values of an address; what makes no sense there is left out. */
export function readQuery(values) {
  const seconds = (name) => {
    const value = Number.parseFloat(values.get(name) ?? "");
    return Number.isFinite(value) && value >= 0 ? value : null;
  };
  const day = (name) => (/^\d{4}-\d{2}-\d{2}$/.test(values.get(name) ?? "") ? values.get(name) : "");
  const all = (name) => [...new Set(values.getAll(name).filter(Boolean))].slice(0, MOST);
  const lists = Object.entries(LISTS).map(([field, name]) => [field, all(name)]);
  return {
    text: (values.get("text") ?? "").trim(),
    words: values.get("words") === "1",
    like: all("like"),
    unlike: all("unlike"),
    file: values.get("file") ?? "",
    k: Math.max(FIRST, Number.parseInt(values.get("k") ?? "", 10) || FIRST),
    filter: {
      ...Object.fromEntries(lists),
      min_seconds: seconds("min"),
      max_seconds: seconds("max"),
      after: day("after"),
      before: day("before"),
    },
  };
}

/** The values of an address from a query. */
export function writeQuery(query) {
  const { filter } = query;
  return {
    text: query.text,
    words: query.words ? "1" : "",
    like: query.like,
    unlike: query.unlike,
    file: query.file,
    tag: filter.tags,
    category: filter.categories,
    language: filter.languages,
    min: filter.min_seconds,
    max: filter.max_seconds,
    after: filter.after,
    before: filter.before,
    k: query.k === FIRST ? "" : query.k,
  };
}

/** Whether anything is looked for, beyond a filter. */
export const asks = (query) => Boolean(query.text || query.like.length || query.file);

/** Whether anything is filtered. */
export const filters = ({ filter }) =>
  Object.values(filter).some((value) => (Array.isArray(value) ? value.length : value !== null && value !== ""));

/** A query as the API takes it. */
export function asBody(query, most, explain) {
  const k = Math.min(query.k, most);
  const body = { k, filter: query.filter };
  if (query.text) body.text = query.text;
  if (query.words) return { ...body, words: true };
  return { ...body, ids: query.like, unlike_ids: query.unlike, explain };
}

/** A query with another filter, from its first hits on. */
export function withFilter(query, changes) {
  return { ...query, k: FIRST, filter: { ...query.filter, ...changes } };
}

/** A query that also takes a video as an example, or a counterexample. */
export function withExample(query, id, name) {
  const other = name === "like" ? "unlike" : "like";
  return {
    ...query,
    k: FIRST,
    // Words of titles know no examples, and a file cannot be combined with them.
    text: query.words ? "" : query.text,
    words: false,
    file: "",
    [name]: [...query[name].filter((each) => each !== id), id],
    [other]: query[other].filter((each) => each !== id),
  };
}
