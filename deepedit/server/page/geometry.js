// Where a voxel is: in the file, in the display order, and on a pane of the page.
//
// Display order: the axes of the file, permuted and flipped so that they run closest to the patient's right, anterior
// and superior. Positions in mm are measured from the corner of the volume along these axes.

/** The planes. Columns and rows run against their axes: the patient's right is on the left of the page. */
export const PLANES = [
  { name: "Axial", normal: 2, across: 0, down: 1 },
  { name: "Coronal", normal: 1, across: 0, down: 2 },
  { name: "Sagittal", normal: 0, across: 1, down: 2 },
];

/** Voxel (i, j, k) of the file for a voxel of the display. */
export function toFile(voxel, facts) {
  const file = [0, 0, 0];
  facts.axes.forEach(({ axis, flipped }, display) => {
    file[axis] = flipped ? facts.shape[display] - 1 - voxel[display] : voxel[display];
  });
  return file;
}

/** Voxel of the display for a voxel of the file. */
export function toDisplay(file, facts) {
  return facts.axes.map(({ axis, flipped }, display) => (flipped ? facts.shape[display] - 1 - file[axis] : file[axis]));
}

/** RAS mm of a display voxel's centre. */
export function toMm(voxel, facts) {
  return facts.affine.slice(0, 3).map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
}

/** Sides of a volume in mm. */
export function extent(facts) {
  return facts.shape.map((side, axis) => side * facts.spacing[axis]);
}

export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

export function inside(voxel, facts) {
  return voxel.every((at, axis) => at >= 0 && at < facts.shape[axis]);
}

/** The middle of a voxel, in mm from the corner of the volume. */
export function middle(voxel, facts) {
  return voxel.map((at, axis) => (at + 0.5) * facts.spacing[axis]);
}

/** Pixels per mm at which the whole volume fits into all of some panes, each given as {plane, width, height}. */
export function fit(panes, facts, margin) {
  const sides = extent(facts);
  const scales = panes.map(({ plane, width, height }) =>
    Math.min((width - 2 * margin) / sides[plane.across], (height - 2 * margin) / sides[plane.down]),
  );
  return Math.max(Math.min(...scales), 1e-3);
}

/** How a plane lies on a pane: a function from mm to pixels, and one back. */
export class Placement {
  constructor(plane, width, height, scale, centre) {
    Object.assign(this, { plane, width, height, scale, centre });
  }

  /** Pixel [x, y] of a position in mm. */
  toPixel(mm) {
    const { across, down } = this.plane;
    return [
      this.width / 2 - (mm[across] - this.centre[across]) * this.scale,
      this.height / 2 - (mm[down] - this.centre[down]) * this.scale,
    ];
  }

  /** Position in mm of a pixel; along the axis that the plane cuts, that of `mm`. */
  toMm([x, y], mm) {
    const { across, down } = this.plane;
    const found = [...mm];
    found[across] = this.centre[across] - (x - this.width / 2) / this.scale;
    found[down] = this.centre[down] - (y - this.height / 2) / this.scale;
    return found;
  }

  /** The voxel that is drawn at a pixel; its third coordinate is that of the cursor. It may lie outside. */
  toVoxel(pixel, cursor, facts) {
    const mm = this.toMm(pixel, middle(cursor, facts));
    return mm.map((at, axis) => (axis === this.plane.normal ? cursor[axis] : Math.floor(at / facts.spacing[axis])));
  }

  /** Left, top, width and height in pixels of the slice. */
  frame(facts) {
    const sides = extent(facts);
    const [left, top] = this.toPixel(sides);
    return [left, top, sides[this.plane.across] * this.scale, sides[this.plane.down] * this.scale];
  }
}
