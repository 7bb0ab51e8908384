"""The map between a file's voxels and the network's voxels, with its exact inverse, for points and for arrays."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from deepedit.boxes import Box, three
from deepedit.transforms.decide import class_type, decide_from_labels, decide_from_logits
from deepedit.transforms.orientation import closest_canonical
from deepedit.transforms.resample import Taps, make_taps, resample, row_major, slabs

Shape = tuple[int, int, int]

# A grid whose spacing differs from the target by less than this part is left as it is.
SAME_SPACING = 1e-3


def network_grid(shape: Shape, affine: np.ndarray, spacing: Sequence[float]) -> "GridMap":
    """The map to the closest R, A, S order of axes and a target spacing.

    The field of view is kept: the outer edges of the first and last voxels of both grids coincide. So the resulting
    spacing differs from the target by what rounding to a whole number of voxels requires. An axis that keeps its number
    of voxels is not interpolated at all.

    Args:
        shape: voxels of the file's grid.
        affine: ``[4, 4]``, voxels of the file's grid to RAS mm.
        spacing: mm between voxels of the network's grid along R, A and S.

    Raises:
        FileError: if the affine maps different voxels to one point, or is not finite.
    """
    if min(spacing) <= 0:
        raise ValueError(f"spacing must be above 0 mm; got {tuple(spacing)}")
    permutation, _ = closest_canonical(affine)
    native = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    sizes = []
    for axis, target in zip(permutation, spacing, strict=True):
        ratio = native[axis] / target
        same = abs(ratio - 1) <= SAME_SPACING
        sizes.append(shape[axis] if same else max(1, math.floor(shape[axis] * ratio + 0.5)))
    return fixed_grid(shape, affine, three(sizes))


def fixed_grid(shape: Shape, affine: np.ndarray, network_shape: Shape) -> "GridMap":
    """The map to the closest R, A, S order of axes and a given number of voxels; the spacing follows from it.

    Args:
        shape: voxels of the file's grid.
        affine: ``[4, 4]``, voxels of the file's grid to RAS mm.
        network_shape: voxels of the network's grid along R, A and S; the field of view is kept.

    Raises:
        FileError: if the affine maps different voxels to one point, or is not finite.
    """
    permutation, flips = closest_canonical(affine)
    scale = tuple(shape[axis] / size for axis, size in zip(permutation, network_shape, strict=True))
    offset = tuple((each - 1) / 2 for each in scale)
    return GridMap(three(shape), three(network_shape), permutation, flips, three(scale), three(offset))


@dataclass(frozen=True)
class GridMap:
    """Voxel-to-voxel map between a file's grid ("native") and the network's grid.

    Network voxel ``n`` of axis ``a`` lies at ``scale[a] * n + offset[a]`` native voxels along native axis
    ``permutation[a]``, counted from that axis's far end where ``flips[a]``. Arrays and points follow the same map.

    Attributes:
        native_shape, network_shape: number of voxels along each axis of the two grids.
        permutation: the native axis of each network axis.
        flips: for each network axis, whether its native axis runs the other way.
        scale: native voxels per network voxel.
        offset: native voxels from the first native voxel to the first network voxel.
    """

    native_shape: Shape
    network_shape: Shape
    permutation: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]

    @property
    def matrix(self) -> np.ndarray:
        """``[4, 4]`` float64, network voxels to native voxels."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for axis, (slope, intercept) in enumerate(self._lines()):
            matrix[self.permutation[axis], axis] = slope
            matrix[self.permutation[axis], 3] = intercept
        return matrix

    def network_affine(self, native_affine: np.ndarray) -> np.ndarray:
        """``[4, 4]`` float64, network voxels to RAS mm."""
        return np.asarray(native_affine, dtype=np.float64) @ self.matrix

    def window(self, start: Sequence[int], shape: Shape) -> "GridMap":
        """The map to a window of the network's grid, which may crop the grid, reach beyond it, or both.

        Args:
            start: network voxel of this map that becomes the window's first; may be negative.
            shape: voxels of the window.
        """
        offset = tuple(o + s * i for o, s, i in zip(self.offset, self.scale, start, strict=True))
        return replace(self, network_shape=three(shape), offset=three(offset))

    def points_to_network(self, points: Sequence[float] | np.ndarray) -> np.ndarray:
        """Continuous network voxels ``[N, 3]`` float64 of native ones."""
        points = np.asarray(points, dtype=np.float64)[..., list(self.permutation)]
        slope, intercept = np.array(self._lines()).T
        return (points - intercept) / slope

    def points_to_native(self, points: np.ndarray) -> np.ndarray:
        """Continuous native voxels ``[N, 3]`` float64 of network ones."""
        slope, intercept = np.array(self._lines()).T
        oriented = np.asarray(points, dtype=np.float64) * slope + intercept
        return oriented[..., list(np.argsort(self.permutation))]

    def image_to_network(self, image: Tensor, mode: str = "linear", fill: float = 0.0) -> Tensor:
        """An image on the network's grid.

        Args:
            image: ``[C, *native_shape]``, any real type.
            mode: ``"linear"``: linear interpolation where the grid gets finer, the area-weighted mean where it gets
                coarser. ``"area"``: the mean of all voxels that an output voxel touches (adaptive average pooling).
            fill: value outside of the native grid.

        Returns:
            ``[C, *network_shape]`` float32, contiguous; along axes of scale 1 nothing is interpolated.
        """
        if mode not in ("linear", "area"):
            raise ValueError(f"mode must be linear or area; got {mode!r}")
        self._check(image.shape[1:], self.native_shape)
        widths = [scale if mode == "area" else max(scale, 1.0) for scale in self.scale]
        taps = self._to_network_taps(widths, snap=mode == "area")
        oriented = row_major(image.permute(0, *(1 + axis for axis in self.permutation)))
        result = torch.empty((len(image), *self.network_shape), dtype=torch.float32, device=image.device)
        for rows, part, local in slabs(oriented, taps):
            result[:, rows] = resample(part, local, fill)
        return result

    def labels_to_network(self, labels: Tensor, num_classes: int, mode: str = "linear") -> Tensor:
        """Class indices on the network's grid: the class with the largest interpolated share of each voxel.

        Args:
            labels: ``[*native_shape]`` integer class indices.
            num_classes: background included.
            mode: ``"linear"``, as for images; or ``"nearest"``.

        Returns:
            ``[*network_shape]`` uint8 (int16 past 256 classes); 0 outside of the native grid; of equal shares the
            lowest class counts.
        """
        if mode not in ("linear", "nearest"):
            raise ValueError(f"mode must be linear or nearest; got {mode!r}")
        self._check(labels.shape, self.native_shape)
        taps = self._to_network_taps([0.0 if mode == "nearest" else max(scale, 1.0) for scale in self.scale])
        result = torch.empty(self.network_shape, dtype=class_type(num_classes), device=labels.device)
        decide_from_labels(labels.permute(self.permutation), taps, num_classes, out=result)
        return result

    def to_native(self, tensor: Tensor, fill: float = 0.0) -> Tensor:
        """Linear interpolation back to the file's grid: ``[C, *network_shape]`` to ``[C, *native_shape]`` float32.

        `fill` is the value of native voxels outside of the network's grid.
        """
        result = torch.empty((len(tensor), *self.native_shape), dtype=torch.float32, device=tensor.device)
        oriented = result.permute(0, *(1 + axis for axis in self.permutation))
        for rows, part, local in self.native_slabs(tensor):
            oriented[:, rows] = resample(part, local, fill)
        return result

    def labels_to_native(self, logits: Tensor, box: Box | None = None) -> Tensor:
        """Class indices on the native grid: logits are interpolated first, then the largest decides, slab by slab.

        Args:
            logits: ``[C, *network_shape]``; or probabilities.
            box: the part of the native grid that is wanted, as slices with start and stop; all of it unless given.

        Returns:
            ``[*native_shape]``, or the shape of the box, uint8 (int16 past 256 classes); 0 outside of the network's
            grid; of equal logits the lowest class counts.
        """
        self._check(logits.shape[1:], self.network_shape)
        taps = self._to_native_taps()
        shape = self.native_shape
        if box is not None:
            shape = tuple(span.stop - span.start for span in box)
            rows = [box[axis] for axis in self.permutation]
            cut = [each.rows(span.start, span.stop) for each, span in zip(taps, rows, strict=True)]
            taps = [local for local, _, _ in cut]
            logits = logits[(slice(None), *(slice(first, last) for _, first, last in cut))]
        result = torch.empty(shape, dtype=class_type(len(logits)), device=logits.device)
        decide_from_logits(logits, taps, out=result.permute(self.permutation))
        return result

    def native_box(self, place: Box) -> Box:
        """The smallest box of the native grid that holds all voxels interpolated from a box of the network's grid.

        Args:
            place: box of the network's grid, slices with start and stop, at least one voxel along each axis. If the
                native grid is much coarser, none of its voxels may depend on this box: then a side of the result is 0.
        """
        box = [slice(0, 0)] * 3
        for axis, taps, span in zip(self.permutation, self._to_native_taps(), place, strict=True):
            rows = ((taps.index >= span.start) & (taps.index < span.stop)).any(1).nonzero()[:, 0].tolist()
            box[axis] = slice(rows[0], rows[-1] + 1) if rows else slice(0, 0)
        return tuple(box)

    def native_slabs(self, tensor: Tensor) -> Iterator[tuple[slice, Tensor, tuple[Taps, Taps, Taps]]]:
        """The interpolation back, cut into slabs along the native axis of the first network axis.

        Yields:
            rows of that native axis, the part of `tensor` that they need, and the taps between the two.
        """
        self._check(tensor.shape[1:], self.network_shape)
        return slabs(tensor, self._to_native_taps())

    def _to_network_taps(self, widths: Sequence[float], snap: bool = False) -> list[Taps]:
        return [
            make_taps(self.native_shape[axis], size, slope, intercept, width, snap)
            for axis, size, (slope, intercept), width in zip(
                self.permutation, self.network_shape, self._lines(), widths, strict=True
            )
        ]

    def _to_native_taps(self) -> list[Taps]:
        return [
            make_taps(size, self.native_shape[axis], 1 / slope, -intercept / slope)
            for axis, size, (slope, intercept) in zip(self.permutation, self.network_shape, self._lines(), strict=True)
        ]

    def _lines(self) -> list[tuple[float, float]]:
        """Slope and intercept of each network axis: native voxel = slope * network voxel + intercept."""
        return [
            (-scale, self.native_shape[axis] - 1 - offset) if flip else (scale, offset)
            for axis, flip, scale, offset in zip(self.permutation, self.flips, self.scale, self.offset, strict=True)
        ]

    @staticmethod
    def _check(shape: Sequence[int], expected: Shape) -> None:
        if tuple(shape) != tuple(expected):
            raise ValueError(f"an array of {tuple(expected)} voxels is expected; got {tuple(shape)}")


def to_voxel(position: Sequence[float] | np.ndarray, space: str, affine: np.ndarray) -> np.ndarray:
    """A click's position as a continuous voxel of the file's grid.

    Args:
        position: ``(i, j, k)`` voxels, or mm in RAS or LPS.
        space: ``"voxel"``, ``"ras"`` or ``"lps"``.
        affine: ``[4, 4]``, voxels to RAS mm.

    Returns:
        ``[3]`` float64.
    """
    point = np.asarray(position, dtype=np.float64)
    if space == "voxel":
        return point
    if space not in ("ras", "lps"):
        raise ValueError(f"space must be voxel, ras or lps; got {space!r}")
    if space == "lps":
        point = point * (-1, -1, 1)
    affine = np.asarray(affine, dtype=np.float64)
    return np.linalg.solve(affine[:3, :3], point - affine[:3, 3])


def nearest_voxel(position: Sequence[float] | np.ndarray) -> np.ndarray:
    """``[3]`` int64, the voxel that contains a continuous position; a half is always rounded up."""
    return np.floor(np.asarray(position, dtype=np.float64) + 0.5).astype(np.int64)


def inside(position: Sequence[float] | np.ndarray, shape: Shape) -> bool:
    """Whether the voxel nearest to a continuous position belongs to a grid of this shape."""
    voxel = nearest_voxel(position)
    return bool((voxel >= 0).all() and (voxel < np.asarray(shape)).all())


def voxel_to_network(position: Sequence[float], grid: GridMap, rounding: str = "nearest") -> np.ndarray:
    """The network voxel of a native voxel. This is the only place where clicks are rounded.

    Args:
        position: ``(i, j, k)``, a voxel of the native grid; may be fractional.
        rounding: ``"nearest"``; or ``"truncate"``, which truncates the voxel's index times the ratio of the shapes.
            Models imported from MONAI were trained so.

    Returns:
        ``[3]`` int64; within the network's grid for every position in its field of view.
    """
    if rounding not in ("nearest", "truncate"):
        raise ValueError(f"rounding must be nearest or truncate; got {rounding!r}")
    exact = grid.points_to_network(position)
    if rounding == "truncate":
        # Truncation counts from the voxels' corners without the half voxel that lies between corner and centre.
        voxel = np.floor(exact + 0.5 - 0.5 / np.array(grid.scale) + 1e-6).astype(np.int64)
    else:
        voxel = nearest_voxel(exact)
    size = np.array(grid.network_shape)
    seen = (exact >= -0.5 - 1e-6) & (exact <= size - 0.5 + 1e-6)
    return np.where(seen, voxel.clip(0, size - 1), voxel)
