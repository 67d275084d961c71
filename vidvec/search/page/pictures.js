/** Pictures, asked for when they come near the screen, and again where a busy server refused. */

import { currentKey, pictureAddress, picturePath, send } from "./api.js";

const NEAR = "400px";
const TRIES = 4;
const waiting = new WeakMap();

const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) loadNow(target);
    }
  },
  { rootMargin: NEAR },
);

/**
 * What gives a picture to an `img`: one function for each picture of a video.
 * @param {{id: string, pictures: number}} video
 */
export function picturesOf(video) {
  return Array.from({ length: video.pictures }, (_, n) => (img) => fetchInto(img, video.id, n));
}

/** The same for data URIs. */
export const picturesFrom = (addresses) =>
  addresses.map((address) => (img) => {
    img.src = address;
  });

/** An `img` that gets its picture when it comes near the screen. */
export function lazy(give) {
  const img = document.createElement("img");
  img.alt = "";
  img.decoding = "async";
  img.draggable = false;
  waiting.set(img, give);
  near.observe(img);
  return img;
}

/** Gives an `img` its picture now. */
export function loadNow(img) {
  near.unobserve(img);
  const give = waiting.get(img);
  waiting.delete(img);
  give?.(img);
}

function fetchInto(img, id, n) {
  if (currentKey()) {
    withKey(img, id, n);
    return;
  }
  let tries = 0;
  img.addEventListener("error", () => {
    tries += 1;
    if (tries >= TRIES) {
      img.classList.add("missing");
      return;
    }
    setTimeout(() => {
      img.src = pictureAddress(id, n);
    }, 700 * 2 ** tries);
  });
  img.src = pictureAddress(id, n);
}

// An `img` sends no key of its own.
async function withKey(img, id, n, tries = 0) {
  try {
    const blob = await (await send(picturePath(id, n))).blob();
    const address = URL.createObjectURL(blob);
    img.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
    img.src = address;
  } catch (failure) {
    const again = (failure.status === 429 || failure.status === 503) && tries + 1 < TRIES;
    if (again) setTimeout(() => withKey(img, id, n, tries + 1), 700 * 2 ** (tries + 1));
    else img.classList.add("missing");
  }
}
