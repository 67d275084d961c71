/** Points in a grid of cells, so that those near a place are found without looking at all. */

const PER_CELL = 4;

/**
 * A grid.
 * @param {Float32Array} xs
 * @param {Float32Array} ys
 */
export function pointGrid(xs, ys) {
  const bounds = boundsOf(xs, ys);
  const { left, top } = bounds;
  const side = Math.max(1, Math.ceil(Math.sqrt(xs.length / PER_CELL)));
  const width = Math.max(1e-6, bounds.right - left) / side;
  const height = Math.max(1e-6, bounds.bottom - top) / side;
  const clamp = (value) => Math.min(side - 1, Math.max(0, Math.floor(value)));
  const cellOf = (n) => clamp((ys[n] - top) / height) * side + clamp((xs[n] - left) / width);

  // Counted first and filled after: one array for all cells, in their order.
  const starts = new Uint32Array(side * side + 1);
  for (let n = 0; n < xs.length; n += 1) starts[cellOf(n) + 1] += 1;
  for (let cell = 0; cell < side * side; cell += 1) starts[cell + 1] += starts[cell];
  const next = starts.slice();
  const members = new Uint32Array(xs.length);
  for (let n = 0; n < xs.length; n += 1) members[next[cellOf(n)]++] = n;

  /** The point nearest to a place, within reach, of those that `wanted` takes; −1: none. */
  function nearest(x, y, reach, wanted = null) {
    let best = -1;
    let least = reach * reach;
    const [fromX, toX] = [clamp((x - reach - left) / width), clamp((x + reach - left) / width)];
    const [fromY, toY] = [clamp((y - reach - top) / height), clamp((y + reach - top) / height)];
    for (let row = fromY; row <= toY; row += 1) {
      for (let at = starts[row * side + fromX]; at < starts[row * side + toX + 1]; at += 1) {
        const n = members[at];
        const away = (xs[n] - x) ** 2 + (ys[n] - y) ** 2;
        if (away <= least && (wanted === null || wanted(n))) [best, least] = [n, away];
      }
    }
    return best;
  }

  return { bounds, nearest };
}

function boundsOf(xs, ys) {
  const bounds = { left: Infinity, right: -Infinity, top: Infinity, bottom: -Infinity };
  for (let n = 0; n < xs.length; n += 1) {
    bounds.left = Math.min(bounds.left, xs[n]);
    bounds.right = Math.max(bounds.right, xs[n]);
    bounds.top = Math.min(bounds.top, ys[n]);
    bounds.bottom = Math.max(bounds.bottom, ys[n]);
  }
  return xs.length ? bounds : { left: -1, right: 1, top: -1, bottom: 1 };
}
