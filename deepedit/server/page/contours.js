// Outlines of the areas of a slice.

const STEP_X = [1, 0, -1, 0];
const STEP_Y = [0, 1, 0, -1];

/** How often a border is smoothed; one of fewer edges is not, as it would shrink. */
const ROUNDS = 2;
const SMALL = 16;

/**
 * Closed curves around the areas of each value above 0, in pixels of the slice.
 *
 * The border of an area runs along the edges of its voxels. The curve is a quadratic B-spline over the middles of
 * these edges, smoothed a little: it rounds the stairs, stays within a voxel of the border, and goes around single
 * voxels too.
 *
 * @param values one for each pixel of the slice, row by row
 * @returns Map of value to Path2D
 */
export function contours(values, columns, rows) {
  const paths = new Map();
  const seen = new Uint8Array(values.length);
  for (let y = 0, at = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++, at++) {
      const value = values[at];
      // Every closed border has an upper edge, which is where it is found.
      if (value === 0 || seen[at] || (y > 0 && values[at - columns] === value)) continue;
      if (!paths.has(value)) paths.set(value, new Path2D());
      draw(paths.get(value), follow(values, columns, rows, x, y, value, seen));
    }
  }
  return paths;
}

/** Middles of the edges of a border, x and y in turns, clockwise from the upper edge of a pixel. */
function follow(values, columns, rows, startX, startY, value, seen) {
  const points = [];
  // The corner that the edge begins at, and its direction: right, down, left, up; the area is on its right-hand side.
  let [x, y, way] = [startX, startY, 0];
  const holds = (column, row) =>
    column >= 0 && column < columns && row >= 0 && row < rows && values[row * columns + column] === value;
  do {
    if (way === 0) seen[y * columns + x] = 1;
    points.push(x + STEP_X[way] / 2, y + STEP_Y[way] / 2);
    x += STEP_X[way];
    y += STEP_Y[way];
    // The pixels ahead of the corner that was reached, on either side of the way.
    const right = holds(x - (way === 1 || way === 2 ? 1 : 0), y - (way === 2 || way === 3 ? 1 : 0));
    const left = holds(x - (way === 2 || way === 3 ? 1 : 0), y - (way === 0 || way === 3 ? 1 : 0));
    if (!right) way = (way + 1) % 4;
    else if (left) way = (way + 3) % 4;
  } while (x !== startX || y !== startY || way !== 0);
  return points;
}

/** Each point moved to the mean of itself and its neighbours, which count half: stairs become slopes. */
function smoothed(points) {
  const length = points.length;
  return points.map((at, place) => (points[(place + length - 2) % length] + 2 * at + points[(place + 2) % length]) / 4);
}

function draw(path, edges) {
  let points = edges;
  if (edges.length >= 2 * SMALL) for (let round = 0; round < ROUNDS; round++) points = smoothed(points);
  const count = points.length / 2;
  const x = (number) => points[2 * (number % count)];
  const y = (number) => points[2 * (number % count) + 1];
  path.moveTo((x(0) + x(1)) / 2, (y(0) + y(1)) / 2);
  let straight = false;
  for (let number = 1; number <= count; number++) {
    const [midX, midY] = [(x(number) + x(number + 1)) / 2, (y(number) + y(number + 1)) / 2];
    const [beforeX, beforeY] = [(x(number - 1) + x(number)) / 2, (y(number - 1) + y(number)) / 2];
    const turn = (x(number) - beforeX) * (midY - y(number)) - (y(number) - beforeY) * (midX - x(number));
    if (turn === 0) {
      straight = true;
      continue;
    }
    if (straight) path.lineTo(beforeX, beforeY);
    straight = false;
    path.quadraticCurveTo(x(number), y(number), midX, midY);
  }
  path.closePath();
}
