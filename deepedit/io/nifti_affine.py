"""The affine of a NIfTI header, which has two forms that may contradict each other, and units that may be wrong."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.volume import Reading

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

MIN_SPACING_MM, MAX_SPACING_MM = 1e-3, 1e2
MAX_OFFSET_MM = 1e6
MAX_SQUARED_LENGTH = 1.01
"""Greatest squared length of a quaternion's vector part. One that rounding made longer than 1 is shortened to 1, as ITK
and niftilib do."""

SAME_PLACE_VOXELS = 0.01
SPATIAL_UNITS = 7  # the bits of xyzt_units that are not of time
MM_PER_UNIT = {1: ("metres", 1000.0), 3: ("microns", 0.001)}


@dataclass(frozen=True, eq=False)
class Placement:
    """The affines that a header states, each ``[4, 4]`` float64 from voxel indices to RAS mm.

    Attributes:
        affine: the affine that is used.
        others: other affines that the header states, if they place a voxel differently.
        notes: one line about each contradiction.
    """

    affine: np.ndarray
    others: tuple[np.ndarray, ...] = ()
    notes: tuple[str, ...] = ()


def placement(header: "Nifti1Header", shape: tuple[int, int, int], name: str, reading: Reading) -> Placement:
    """The affines of an image with this header and shape.

    Args:
        name: the name of the file, for messages.
        reading: which form and which units to use.

    Raises:
        FileError: if the affine to use is not usable.
    """
    # What nibabel's own check mends: qfac is 1 or -1 (0 means 1), and a negative spacing means its size.
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1
    header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    unit, scale = unit_of(header)
    notes = []
    if scale != 1 and reading.units == "mm":
        scale = 1.0
        notes.append(f"its header gives lengths in {unit}; they are taken as mm")
    elif scale != 1:
        notes.append(f"its header gives lengths in {unit}, which are brought to mm; `units` mm takes them as mm")
    if not is_placed(header):
        notes.append(
            "its header says neither by a qform nor by an sform how its voxels lie; its axes are taken to run to the "
            "left, to the front and upwards"
        )
    chosen, *rest = _forms(header, reading)
    affine = _stated(header, chosen, shape, scale, name, unit if scale != 1 else None)
    others = []
    for form in rest:
        try:
            other = _stated(header, form, shape, scale, name)
        except FileError:
            continue
        moved = farthest(affine, other, shape)
        if moved > SAME_PLACE_VOXELS:
            others.append(other)
            if form in ("sform", "qform"):
                itk = f"; ITK and 3D Slicer take the {form}" if _form_of_itk(header) == form else ""
                notes.append(
                    f"its qform and its sform lie up to {moved:.3g} voxels apart; the {chosen} is used{itk}; "
                    f"`affine` {form} takes that one"
                )
    return Placement(affine, tuple(others), tuple(notes))


def check_affine(affine: np.ndarray, name: str, unit: str | None = None) -> None:
    """Refuse an affine that cannot be right.

    Args:
        affine: ``[4, 4]``, voxel indices to RAS mm.
        name: that of the file, for messages.
        unit: the unit of a NIfTI header that is not in mm.

    Raises:
        FileError: if it is not finite or singular, or if the voxels are too small, too large or too far away.
    """
    if not np.isfinite(affine).all():
        raise FileError(f"{name}: its affine holds values that are not finite; set it anew")
    with np.errstate(all="ignore"):
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not spacing.all() or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise FileError(f"{name}: its affine is singular, voxels have no volume; set it anew")
    if spacing.min() < MIN_SPACING_MM or spacing.max() > MAX_SPACING_MM:
        sizes = " x ".join(f"{mm:g}" for mm in spacing)
        expected = f"({MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm expected)"
        mend = f"if its lengths are no {unit}, give `units` mm" if unit else "set the affine anew, in millimetres"
        raise FileError(f"{name}: voxels of {sizes} mm cannot be right {expected}; {mend}")
    # So far away, neighbouring voxels lie at one point within the precision of numbers.
    if np.abs(affine[:3, 3]).max() > MAX_OFFSET_MM:
        raise FileError(f"{name}: its affine puts it {np.abs(affine[:3, 3]).max():.1g} mm away; set it anew")


def is_placed(header: object) -> bool:
    """Whether the position of the voxels is known: not by a NIfTI header with neither a qform nor an sform code set."""
    import nibabel as nib

    return not isinstance(header, nib.Nifti1Header) or bool(header["qform_code"] or header["sform_code"])


def unit_of(header: "Nifti1Header") -> tuple[str, float]:
    """The unit of length that a header names, and its length in mm; an unknown unit counts as mm."""
    return MM_PER_UNIT.get(int(header["xyzt_units"]) & SPATIAL_UNITS, ("mm", 1.0))


def farthest(one: np.ndarray, other: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Greatest distance between the places of a voxel by two affines, in voxels along the axes of the first affine."""
    # The difference of two affine maps is largest at a corner of the volume.
    corners = np.array(np.meshgrid(*[(0, side - 1) for side in shape], [1.0])).reshape(4, -1)
    moved = np.linalg.solve(one, other @ corners)
    return float(np.abs(moved - corners)[:3].max())


def _forms(header: "Nifti1Header", reading: Reading) -> list[str]:
    """The forms that a header states, beginning with the one that is used."""
    stated = [form for form in ("sform", "qform") if header[f"{form}_code"]]
    # Without any, only the sizes of the voxels are known: nibabel then puts the middle at 0, ITK the first voxel.
    return sorted(stated, key=lambda form: form != reading.affine) or ["centred", "cornered"]


def _form_of_itk(header: "Nifti1Header") -> str:
    """The form that ITK, and so 3D Slicer and SimpleITK, use of a header with both."""
    return "sform" if header["sform_code"] == 1 or not header["qform_code"] else "qform"


def _stated(
    header: "Nifti1Header", form: str, shape: tuple[int, int, int], scale: float, name: str, unit: str | None = None
) -> np.ndarray:
    """The affine of one form in mm; raises an error if it is not usable. `unit` is the unit of a header not in mm."""
    from nibabel.spatialimages import HeaderDataError

    try:
        with np.errstate(all="ignore"):
            affine = np.array(_matrix(header, form, shape), dtype=np.float64)
            affine[:3] *= scale
    except (HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        raise FileError(f"{name}: its header holds no usable affine ({one_line(error, 80)}); set it anew") from error
    check_affine(affine, name, unit)
    return affine


def _matrix(header: "Nifti1Header", form: str, shape: tuple[int, int, int]) -> np.ndarray:
    """The affine of a form in the header's own units."""
    if form == "sform":
        return header.get_sform()
    if form == "qform":
        return _shortened(header).get_qform()
    sizes = header["pixdim"][1:4]
    if form == "centred":
        return header.get_base_affine()
    return np.diag([-sizes[0], -sizes[1], sizes[2], 1])


def _shortened(header: "Nifti1Header") -> "Nifti1Header":
    """The header, with its quaternion shortened to length 1 if rounding has made it slightly longer."""
    keys = ("quatern_b", "quatern_c", "quatern_d")
    # By numpy, which ends in infinity where numbers of a damaged header are too large.
    squared = float(np.sum(np.square([header[key] for key in keys], dtype=np.float64)))
    if not 1 < squared <= MAX_SQUARED_LENGTH:
        return header
    header = header.copy()
    for key in keys:
        header[key] = float(header[key]) / squared**0.5
    return header
