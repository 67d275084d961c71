/** Mouse, wheel, touch and keyboard on a plane. */

const STEP_PX = 60;
const ZOOM_STEP = 1.4;
const CLICK_PX = 5;

/**
 * Moves a plane.
 * @param {HTMLElement} element What takes the pointer and the keyboard.
 * @param {import("./plane.js").Plane} plane
 * @param {Object} on `hover(n)`, `open(n)`, `touch(n)`, `moved()`; `n` is a video's number or −1.
 */
export function takeGestures(element, plane, on) {
  takePointer(element, plane, on);
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const [px, py] = at(element, event);
      const lines = event.deltaMode === 1 ? 20 : 1;
      plane.zoom(Math.exp(-0.0015 * event.deltaY * lines), px, py);
      on.moved();
    },
    { passive: false },
  );
  element.addEventListener("keydown", (event) => takeKey(event, plane, on));
}

function at(element, event) {
  const box = element.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function takePointer(element, plane, on) {
  const down = new Map();
  let travelled = 0;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("a")) return;
    element.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(element, event));
    if (down.size === 1) travelled = 0;
  });
  element.addEventListener("pointermove", (event) => {
    const here = at(element, event);
    const before = down.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") on.hover(plane.nearest(...here));
      return;
    }
    const others = [...down].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    down.set(event.pointerId, here);
    const [dx, dy] = [here[0] - before[0], here[1] - before[1]];
    travelled += Math.hypot(dx, dy);
    if (travelled < CLICK_PX) return;
    if (others.length) pinch(plane, before, here, others[0]);
    else plane.pan(dx, dy);
    on.moved();
  });
  const up = (event) => {
    const here = down.get(event.pointerId);
    if (!down.delete(event.pointerId) || down.size) return;
    if (event.type === "pointerup" && travelled < CLICK_PX) {
      const touch = event.pointerType === "touch";
      const n = plane.nearest(...here, touch ? 24 : undefined);
      if (touch) on.touch(n);
      else if (n >= 0) on.open(n);
    }
  };
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", up);
  element.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch" && !down.size) on.hover(-1);
  });
}

function pinch(plane, before, here, other) {
  const gap = (a) => Math.max(10, Math.hypot(a[0] - other[0], a[1] - other[1]));
  const middle = (a) => [(a[0] + other[0]) / 2, (a[1] + other[1]) / 2];
  const [from, to] = [middle(before), middle(here)];
  plane.pan(to[0] - from[0], to[1] - from[1]);
  plane.zoom(gap(here) / gap(before), ...to);
}

const PANS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const ZOOMS = { "+": ZOOM_STEP, "=": ZOOM_STEP, "-": 1 / ZOOM_STEP, _: 1 / ZOOM_STEP };

function takeKey(event, plane, on) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key } = event;
  if (PANS[key]) plane.pan(STEP_PX * PANS[key][0], STEP_PX * PANS[key][1]);
  else if (ZOOMS[key]) plane.zoom(ZOOMS[key]);
  else if (key === "0") plane.fit();
  else if (key === "Enter" && plane.chosen >= 0 && event.target === event.currentTarget) on.open(plane.chosen);
  else return;
  event.preventDefault();
  if (key === "Enter") return;
  on.moved();
  // The keyboard points at the middle.
  on.hover(plane.nearest(plane.width / 2, plane.height / 2, Math.hypot(plane.width, plane.height) / 4));
}
