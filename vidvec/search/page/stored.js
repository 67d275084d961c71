/** What the browser remembers; where it may not, the page works without. */

/** A remembered value, or what to take instead. */
export function recall(name, otherwise, storage = "localStorage") {
  try {
    const text = window[storage].getItem(`vidvec.${name}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

/** Remembers a value; null forgets it. */
export function remember(name, value, storage = "localStorage") {
  try {
    if (value === null) window[storage].removeItem(`vidvec.${name}`);
    else window[storage].setItem(`vidvec.${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** The theme is kept as a bare word, which `early.js` reads. */
export function recallTheme() {
  try {
    return window.localStorage.getItem("vidvec.theme") ?? "auto";
  } catch {
    return "auto";
  }
}

/** Remembers `light`, `dark` or `auto`, and shows it. */
export function chooseTheme(theme) {
  const root = document.documentElement;
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    window.localStorage.setItem("vidvec.theme", theme);
  } catch {
    // It holds until the page is closed.
  }
  document.dispatchEvent(new Event("vidvec:theme"));
}
