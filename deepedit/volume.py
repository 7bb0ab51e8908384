"""A volume in the file's own voxel order, with the way from its voxels to the patient."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

AFFINES, UNITS = ("sform", "qform"), ("header", "mm")


@dataclass(frozen=True)
class Reading:
    """What is believed of a header where it contradicts itself, or the truth.

    Attributes:
        affine: the form that counts where both are set, ``"sform"`` or ``"qform"``; where one is set, that one counts.
        units: ``"header"``: lengths are in the units that the header names; ``"mm"``: in mm, whatever it says.
    """

    affine: str = "sform"
    units: str = "header"

    def __post_init__(self) -> None:
        for name, value, known in (("affine", self.affine, AFFINES), ("units", self.units, UNITS)):
            if value not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}")


DEFAULT_READING = Reading()


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or a label map on its own grid.

    Attributes:
        data: ``[X, Y, Z]``, or ``[C, X, Y, Z]`` for several channels, in the file's voxel order.
        affine: ``[4, 4]`` float64, voxel indices to RAS millimetres. Without one: 1 mm voxels, axes RAS.
        header: the NIfTI header that the data was read with, kept so that results can be written alike.
        other_affines: those that the header states besides, where it contradicts itself.
        names: those that the file gives to the values of a label map, as segmentations of 3D Slicer do.
        notes: what was taken for something else than the file says, or passed over, in a line each.
        slices: the files of a DICOM series, one for each voxel along the last axis, which results then refer to.
    """

    data: np.ndarray
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    header: object | None = None
    other_affines: tuple[np.ndarray, ...] = ()
    notes: tuple[str, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    slices: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.data.ndim not in (3, 4):
            raise ValueError(f"a volume has 3 axes, or 4 with channels first; got shape {self.data.shape}")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise ValueError(f"an affine is a 4 x 4 matrix; got shape {affine.shape}")
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each spatial axis."""
        return tuple(self.data.shape[-3:])

    @property
    def channels(self) -> int:
        return self.data.shape[0] if self.data.ndim == 4 else 1

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxels along each axis."""
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())
