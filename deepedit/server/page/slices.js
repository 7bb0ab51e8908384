// Slices of volumes: arrays in, arrays out. A slice has the rows and columns that the page shows.

/** Columns and rows of a slice. */
export function sizeOf(plane, shape) {
  return [shape[plane.across], shape[plane.down]];
}

/**
 * Go through a slice row by row, each value looked up in a table.
 *
 * @param volume typed array, x fastest
 * @param table what to write for a value
 * @param first the value that the table begins with
 * @param out as many elements as the slice has
 */
export function cut(volume, shape, plane, index, table, first, out) {
  const strides = [1, shape[0], shape[0] * shape[1]];
  const [columns, rows] = sizeOf(plane, shape);
  const [along, below] = [strides[plane.across], strides[plane.down]];
  const base = index * strides[plane.normal];
  let to = 0;
  for (let row = rows - 1; row >= 0; row--) {
    let at = base + row * below + (columns - 1) * along;
    for (let column = 0; column < columns; column++) {
      out[to++] = table[volume[at] - first];
      at -= along;
    }
  }
  return out;
}

/**
 * The same without a table. With a table that changes nothing, `cut` would see arrays of more types, for which engines
 * compile a loop that takes twice as long.
 */
export function cutPlain(volume, shape, plane, index, out) {
  const strides = [1, shape[0], shape[0] * shape[1]];
  const [columns, rows] = sizeOf(plane, shape);
  const [along, below] = [strides[plane.across], strides[plane.down]];
  const base = index * strides[plane.normal];
  let to = 0;
  for (let row = rows - 1; row >= 0; row--) {
    let at = base + row * below + (columns - 1) * along;
    for (let column = 0; column < columns; column++) {
      out[to++] = volume[at];
      at -= along;
    }
  }
  return out;
}

const RANGES = { uint8: [0, 255], int16: [-32768, 32767], uint16: [0, 65535] };

/** The array type of a volume's voxels. */
export const ARRAYS = { uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array };

/** What `cut` needs to draw a volume in grey: a table of pixels, and the value that it begins with. */
export function greyTable(facts, [centre, width]) {
  const [first, last] = RANGES[facts.dtype];
  const table = new Uint32Array(last - first + 1);
  const low = (centre - width / 2 - facts.intercept) / facts.slope;
  const step = (255 * facts.slope) / Math.max(width, 1e-9);
  for (let raw = first; raw <= last; raw++) {
    const grey = Math.min(Math.max((raw - low) * step, 0), 255) | 0;
    table[raw - first] = 0xff000000 | (grey * 0x010101);
  }
  return { table, first };
}

/** The same for shares of 255: from clear to a bright magenta. */
export const HEAT = Uint32Array.from({ length: 256 }, (_, share) => {
  const alpha = Math.round((210 * share) / 255);
  return ((alpha << 24) | (200 << 16) | (90 << 8) | 255) >>> 0;
});

/**
 * Tint the areas of a slice: pixels at the border of an area get one colour, those within another.
 *
 * @param values ranks, row by row
 * @param rims, tints pixels by rank; rank 0 is clear
 */
export function tint(values, columns, rims, tints, out) {
  const last = values.length - columns;
  for (let at = 0; at < values.length; at++) {
    const rank = values[at];
    if (rank === 0) {
      out[at] = 0;
      continue;
    }
    // Never beyond the array: a single read there makes all reads slow.
    const inner = at >= columns && at < last;
    const beside = inner && values[at - 1] === rank && values[at + 1] === rank;
    out[at] = beside && values[at - columns] === rank && values[at + columns] === rank ? tints[rank] : rims[rank];
  }
}

/** The pixel of a colour such as #56b4e9, with a share of opacity. */
export function pixel(colour, opacity) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return ((Math.round(255 * opacity) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/**
 * Put a box of ranks, x fastest, into a volume.
 *
 * @param box [[x0, x1], [y0, y1], [z0, z1]]
 */
export function putBox(volume, shape, box, values) {
  const [[x0, x1], [y0, y1], [z0, z1]] = box;
  const width = x1 - x0;
  let from = 0;
  for (let z = z0; z < z1; z++) {
    for (let y = y0; y < y1; y++) {
      volume.set(values.subarray(from, from + width), x0 + shape[0] * (y + shape[1] * z));
      from += width;
    }
  }
}
