/** Many points on a canvas: drawing, zooming, panning, and which point is near. */

import { pointGrid } from "./grid.js";

const NEAR_PX = 14;
const MARGIN = 0.06;
const MOST_ZOOM = 60;
const LABEL_FONT = '600 12.5px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", sans-serif';
const GOLDEN_ANGLE = 137.508;

/** The colour of a theme's points; neighbours in number are far apart in hue. */
export function themeColour(theme, dark) {
  const hue = (255 + theme * GOLDEN_ANGLE) % 360;
  // Every second round of hues is a little duller, so that more themes can be told apart.
  const chroma = theme % 2 ? 0.1 : 0.15;
  return `oklch(${dark ? 0.74 : 0.58} ${chroma} ${hue.toFixed(1)})`;
}

/** A plane of points. */
export class Plane {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.chosen = -1;
    this.theme = null;
    this.width = 0;
    this.height = 0;
    this.set([], []);
  }

  /** Takes points `[id, x, y, theme]` and themes. */
  set(points, themes) {
    this.points = points;
    this.themes = [...themes].sort((a, b) => b.count - a.count);
    this.xs = Float32Array.from(points, (point) => point[1]);
    // The plane's y grows upwards.
    this.ys = Float32Array.from(points, (point) => -point[2]);
    this.byTheme = new Map();
    points.forEach((point, n) => {
      if (!this.byTheme.has(point[3])) this.byTheme.set(point[3], []);
      this.byTheme.get(point[3]).push(n);
    });
    this.grid = pointGrid(this.xs, this.ys);
    this.fit();
  }

  /** Takes on the size of its element, in CSS pixels. */
  resize(width, height) {
    const dense = window.devicePixelRatio || 1;
    const before = Math.min(this.width, this.height);
    Object.assign(this, { width, height, dense });
    this.canvas.width = Math.round(width * dense);
    this.canvas.height = Math.round(height * dense);
    if (!before) this.show(this.theme);
    this.draw();
  }

  get whole() {
    const { left, right, top, bottom } = this.grid.bounds;
    const room = 1 - 2 * MARGIN;
    const across = (this.width * room) / Math.max(1e-6, right - left);
    return Math.min(across, (this.height * room) / Math.max(1e-6, bottom - top));
  }

  /** Shows everything. */
  fit() {
    if (!this.width) return;
    const { left, right, top, bottom } = this.grid.bounds;
    Object.assign(this, { scale: this.whole, x: (left + right) / 2, y: (top + bottom) / 2 });
    this.draw();
  }

  /** Shows one theme's points, the others fainter; null: all alike. */
  show(theme) {
    this.theme = theme;
    if (!this.width) return;
    const mine = theme === null ? [] : (this.byTheme.get(theme) ?? []);
    if (!mine.length) {
      this.fit();
      return;
    }
    // Without the outermost points, which would make the picture of the others small.
    const middle = (values) => [...values].sort((a, b) => a - b);
    const [xs, ys] = [middle(mine.map((n) => this.xs[n])), middle(mine.map((n) => this.ys[n]))];
    const [low, high] = [Math.floor(0.05 * mine.length), Math.ceil(0.95 * mine.length) - 1];
    const wide = Math.max(xs[high] - xs[low], ys[high] - ys[low], 1e-6);
    this.x = (xs[low] + xs[high]) / 2;
    this.y = (ys[low] + ys[high]) / 2;
    this.scale = this.limited((0.5 * Math.min(this.width, this.height)) / wide);
    this.draw();
  }

  limited(scale) {
    return Math.min(MOST_ZOOM * this.whole, Math.max(0.5 * this.whole, scale));
  }

  /** Zooms so that what is at a place of the element stays there. */
  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const scale = this.limited(this.scale * factor);
    this.x += (px - this.width / 2) * (1 / this.scale - 1 / scale);
    this.y += (py - this.height / 2) * (1 / this.scale - 1 / scale);
    this.scale = scale;
    this.draw();
  }

  /** Moves what is shown by so many pixels. */
  pan(dx, dy) {
    const { left, right, top, bottom } = this.grid.bounds;
    this.x = Math.min(right, Math.max(left, this.x - dx / this.scale));
    this.y = Math.min(bottom, Math.max(top, this.y - dy / this.scale));
    this.draw();
  }

  /** Where a point of the plane is in the element. */
  place(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, (y - this.y) * this.scale + this.height / 2];
  }

  /** Where a video is in the element. */
  placeOf(n) {
    return this.place(this.xs[n], this.ys[n]);
  }

  /** The video nearest to a place of the element; −1: none is within reach. */
  nearest(px, py, reach = NEAR_PX) {
    const x = (px - this.width / 2) / this.scale + this.x;
    const y = (py - this.height / 2) / this.scale + this.y;
    const wanted = this.theme === null ? null : (n) => this.points[n][3] === this.theme;
    return this.grid.nearest(x, y, reach / this.scale, wanted);
  }

  /** Marks a video; −1: none. */
  choose(n) {
    if (n === this.chosen) return;
    this.chosen = n;
    this.draw();
  }

  /** Reads the page's colours again. */
  recolour() {
    const style = getComputedStyle(this.canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    // What the theme comes out as is asked of the page itself.
    this.dark = style.colorScheme === "dark" || (style.colorScheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
    this.colours = { page: this.dark ? "#1c1e22" : "#ffffff", ink: this.dark ? "#e7e8ea" : "#1c1e21", accent: colour("--film-lit") || "#ffb020" };
    this.draw();
  }

  /** Draws with the next picture of the screen. */
  draw() {
    if (this.pending || !this.width) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.paint();
    });
  }

  paint() {
    if (!this.colours) this.recolour();
    const { context, dense } = this;
    context.setTransform(dense, 0, 0, dense, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const zoomed = this.scale / this.whole;
    const crowded = Math.sqrt(2000 / Math.max(200, this.points.length));
    const radius = Math.min(7, Math.max(1.3, 3.2 * crowded * zoomed ** 0.4));
    for (const [theme, members] of this.byTheme) this.paintTheme(theme, members, radius);
    context.globalAlpha = 1;
    this.paintLabels();
    if (this.chosen >= 0) this.paintChosen(radius);
  }

  paintTheme(theme, members, radius) {
    const { context } = this;
    context.globalAlpha = this.theme === null || this.theme === theme ? 0.85 : 0.18;
    context.fillStyle = themeColour(theme, this.dark);
    // One path for all points of a colour is what keeps ten thousands of them smooth.
    context.beginPath();
    const round = radius > 1.8;
    for (const n of members) {
      const [px, py] = this.placeOf(n);
      if (px < -radius || py < -radius || px > this.width + radius || py > this.height + radius) continue;
      if (round) {
        context.moveTo(px + radius, py);
        context.arc(px, py, radius, 0, 2 * Math.PI);
      } else {
        context.rect(px - radius, py - radius, 2 * radius, 2 * radius);
      }
    }
    context.fill();
  }

  paintLabels() {
    const { context, colours } = this;
    context.font = LABEL_FONT;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    const taken = [];
    const wanted = this.themes.filter(({ id }) => this.theme === null || this.theme === id);
    for (const theme of wanted) {
      const text = theme.name.length > 28 ? `${theme.name.slice(0, 27)}…` : theme.name;
      const [px, py] = this.place(theme.x, -theme.y);
      const half = context.measureText(text).width / 2 + 6;
      const box = [px - half, py - 11, px + half, py + 11];
      const outside = box[2] < 0 || box[0] > this.width || box[3] < 0 || box[1] > this.height;
      const meets = taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]);
      if (outside || meets) continue;
      taken.push(box);
      context.strokeStyle = colours.page;
      context.lineWidth = 4;
      context.strokeText(text, px, py);
      context.fillStyle = colours.ink;
      context.fillText(text, px, py);
    }
  }

  paintChosen(radius) {
    const { context, colours } = this;
    const [px, py] = this.placeOf(this.chosen);
    context.beginPath();
    context.arc(px, py, radius + 4, 0, 2 * Math.PI);
    context.lineWidth = 2.5;
    context.strokeStyle = colours.ink;
    context.stroke();
  }
}
