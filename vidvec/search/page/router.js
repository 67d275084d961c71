/** Which view is shown, and of what: all of it is in the address, behind the `#`. */

let shown = null;
let entries = 0;
const scrolls = new Map();

/** The address of a view; values that are empty are left out, lists become repeated names. */
export function link(view, values = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== "" && each !== null && each !== undefined && each !== false) {
        query.append(name, String(each));
      }
    }
  }
  const text = query.toString();
  return `#/${view}${text ? `?${text}` : ""}`;
}

/** The view and its values that an address names. */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { view: path || "search", values: new URLSearchParams(query) };
}

/** Goes to an address; `replace` leaves no step to go back to. */
export function go(address, { replace = false } = {}) {
  keepScroll();
  if (replace || address === location.hash) history.replaceState(history.state, "", address);
  else history.pushState({ entry: ++entries }, "", address);
  shown({ ...parse(location.hash), back: false });
}

function keepScroll() {
  scrolls.set(history.state?.entry ?? 0, window.scrollY);
}

/** Scrolls to where the reader was when this entry of the history was left. */
export function restoreScroll() {
  window.scrollTo(0, scrolls.get(history.state?.entry ?? 0) ?? 0);
}

/** Begins to show views; `show` is called with `{view, values, back}`. */
export function start(show) {
  shown = show;
  history.scrollRestoration = "manual";
  entries = history.state?.entry ?? 0;
  // While the reader scrolls: once the history has moved, the place is another entry's.
  addEventListener("scrollend", keepScroll);
  addEventListener("popstate", () => show({ ...parse(location.hash), back: true }));
  document.addEventListener("click", (event) => {
    const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    const address = event.target.closest?.("a[href^='#/']")?.getAttribute("href");
    if (!plain || !address || event.defaultPrevented) return;
    event.preventDefault();
    go(address);
  });
  show({ ...parse(location.hash), back: false });
}
