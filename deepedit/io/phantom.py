"""A small synthetic dataset, so that everything can be tried on a machine without data.

Each case is a CT-like abdomen with a randomly deformed liver, spleen and aorta. Around them are a stomach, kidneys, a
vena cava and loops of bowel, which have no label and the same brightness: only position, shape and texture differ.
"""

import json
import math
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepedit.errors import FileError
from deepedit.files import one_line
from deepedit.io.nifti import write_label, write_volume
from deepedit.io.phantom_anatomy import FIELD_OF_VIEW_MM, LABELS, SmoothField, random_structures
from deepedit.volume import Volume

# Voxel axes as they come from scanners and tools; the last is tilted besides.
ORIENTATIONS = ("RAS", "LPS", "LAS", "PIR", "RAS tilted")
AIR, NOISE_HU, BIAS_HU = -1000, 12, 10
# How far organs are pushed about, beyond the differences of their radii and places.
BEND_MM = 2.5
DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def write_phantom(
    folder: str | os.PathLike[str],
    num_cases: int = 24,
    seed: int = 0,
    shape: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
) -> Path:
    """Write a synthetic dataset in the Decathlon's layout: ``imagesTr``, ``labelsTr``, ``dataset.json``.

    Spacing, size, orientation and anatomy differ from case to case. A case depends on the seed and its number only. The
    folder appears when all of it is written, or not at all.

    Args:
        folder: a folder that does not exist yet, or an empty one.
        shape: voxels along the file's axes; by default about 36 to 52, depending on the spacing.
        spacing: mm along the file's axes; by default 2.6 to 3.6 mm or, if a shape is given, such that the anatomy fills
            the grid.

    Returns:
        The folder.

    Raises:
        FileError: if the folder is not empty, or cannot be written.
    """
    folder = Path(folder)
    name = one_line(folder)
    temporary = folder.parent / f".{folder.name[:100]}-{secrets.token_hex(8)}.tmp"
    try:
        if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
            raise FileError(f"{name}: is there already; choose another folder or remove it")
        folder.parent.mkdir(parents=True, exist_ok=True)
        for room in ("imagesTr", "labelsTr"):
            (temporary / room).mkdir(parents=True)
        cases = [f"phantom_{number:02d}" for number in range(num_cases)]
        for number, case in enumerate(cases):
            rng = np.random.default_rng([seed, number])
            image, label = make_case(rng, ORIENTATIONS[number % len(ORIENTATIONS)], shape, spacing)
            write_volume(temporary / "imagesTr" / f"{case}.nii.gz", image.data, like=image, dtype=np.int16)
            write_label(temporary / "labelsTr" / f"{case}.nii.gz", label.data, like=image)
        (temporary / "dataset.json").write_text(json.dumps(_description(cases), indent=1) + "\n")
        os.replace(temporary, folder)
    except FileError as error:
        raise FileError(str(error).replace(one_line(temporary), name)) from error
    except OSError as error:
        raise FileError(f"{name}: cannot be written: {error.strerror or error}; nothing was left behind") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def make_case(
    rng: np.random.Generator,
    orientation: str = "RAS",
    shape: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
) -> tuple[Volume, Volume]:
    """One synthetic image in HU (int16) and its label map (uint8), on the same grid.

    It is made slice by slice: besides the two results, no array of the volume's size is held.

    Args:
        orientation: one of `ORIENTATIONS`.
        shape, spacing: as in `write_phantom`.
    """
    axes = [DIRECTIONS[letter][0] for letter in orientation[:3]]
    view = np.array(FIELD_OF_VIEW_MM)[axes]
    if spacing is None:
        in_plane, between = rng.uniform(2.6, 3.2), rng.uniform(2.8, 3.6)
        spacing = [between if axis == 2 else in_plane for axis in axes] if shape is None else view / np.array(shape)
    voxel = np.array(spacing, dtype=np.float64)
    if shape is None:
        shape = np.maximum(np.rint(view * rng.uniform(0.95, 1.1, 3) / voxel), 8).tolist()
    shape = tuple(int(side) for side in shape)
    affine = _affine(rng, orientation, shape, voxel)
    image, labels = np.empty(shape, np.int16), np.empty(shape, np.uint8)
    scale = float(np.min(np.array(shape) * spacing / view))
    _paint(rng, affine, scale, image, labels)
    return Volume(image, affine), Volume(labels, affine)


def _affine(rng: np.random.Generator, orientation: str, shape: tuple[int, ...], spacing: np.ndarray) -> np.ndarray:
    """Affine from voxels to RAS mm, with the axes of `orientation` and a random position in the scanner."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(orientation[:3]):
        direction, sign = DIRECTIONS[letter]
        affine[direction, axis] = sign * spacing[axis]
    if orientation.endswith("tilted"):
        affine[:3, :3] = _rotation(math.radians(7), math.radians(3), math.radians(-5)) @ affine[:3, :3]
    affine[:3, 3] = rng.normal(0, 40, 3) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return np.round(affine, 4)  # float32 in the header holds it


def _rotation(about_x: float, about_y: float, about_z: float) -> np.ndarray:
    result = np.eye(3)
    for axis, angle in enumerate((about_x, about_y, about_z)):
        turn = np.eye(3)
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn[one, one] = turn[other, other] = math.cos(angle)
        turn[other, one], turn[one, other] = math.sin(angle), -math.sin(angle)
        result = turn @ result
    return result


def _paint(rng: np.random.Generator, affine: np.ndarray, scale: float, image: np.ndarray, labels: np.ndarray) -> None:
    """Fill `image` and `labels`, both ``[X, Y, Z]``, with a patient in the middle of the grid.

    Args:
        scale: size of the body, 1 where it is about 110 mm wide.
    """
    from scipy.ndimage import gaussian_filter  # here, so that importing the package stays cheap

    structures = random_structures(rng)
    voxel = np.linalg.norm(affine[:3, :3], axis=0) / scale  # in mm of the body's frame
    to_body = _rotation(*rng.normal(0, math.radians(4), 3)) @ affine[:3, :3] / scale
    centre = (np.array(image.shape) - 1) / 2 + rng.normal(0, 2.5, 3) / voxel
    bend = SmoothField(rng, image.shape, 26 / voxel, count=3)
    patches, grain, bias = (SmoothField(rng, image.shape, mm / voxel) for mm in (9, 3.2, 60))
    blur = 0.6 * float(voxel.mean())  # half the width of an edge, in mm
    rows, columns = np.indices(image.shape[:2], dtype=np.float32) - centre[:2, None, None].astype(np.float32)
    for index in range(image.shape[2]):
        offset = np.stack((rows, columns, np.full_like(rows, index - centre[2])))
        point = np.tensordot(to_body.astype(np.float32), offset, axes=1) + BEND_MM * bend.plane(index)
        grainy, patchy = grain.plane(index)[0], patches.plane(index)[0]
        values = np.full(image.shape[:2], AIR, np.float32)
        plane = np.zeros(image.shape[:2], np.uint8)
        for structure in structures:
            depth = structure.depth(point)
            touched = depth > -4 * blur
            share = 1 / (1 + np.exp(np.clip(depth[touched] * np.float32(-2 / blur), -30, 30)))
            own = structure.hounsfield + structure.grain * (patchy if structure.coarse else grainy)[touched]
            values[touched] += share * (own - values[touched])
            plane[depth > 0] = structure.label
        values += BIAS_HU * bias.plane(index)[0]
        values += NOISE_HU * gaussian_filter(rng.standard_normal(values.shape, dtype=np.float32), 0.5) / 0.6
        image[..., index] = np.clip(np.rint(values), -1024, 3071)
        labels[..., index] = plane


def _description(cases: Sequence[str]) -> dict[str, Any]:
    files = [f"{case}.nii.gz" for case in cases]
    return {
        "name": "Phantom",
        "description": "Synthetic CT-like volumes, made by DeepEdit",
        "modality": {"0": "CT"},
        "labels": {"0": "background"} | {str(value): name for name, value in LABELS.items()},
        "numTraining": len(cases),
        "training": [{"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"} for file in files],
    }
