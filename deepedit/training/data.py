"""Prepared cases on disk, and patches cut from them."""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepedit.boxes import overlap
from deepedit.errors import FileError, TrainingError
from deepedit.files import available_memory, make_folder, one_line
from deepedit.io.grids import misfit
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.io.suffixes import parts
from deepedit.io.volumes import read_label_on
from deepedit.plan import Plan
from deepedit.transforms.geometry import GridMap
from deepedit.transforms.preprocess import Preprocessor
from deepedit.volume import Volume

VOXELS_REMEMBERED = 1000
"""Most foreground voxels of each label that are stored with a case, for patches that contain them."""

MARGIN = 1.2
"""Sides of a cut piece relative to the patch, which leaves room to rotate and shift the patch."""


@dataclass(frozen=True)
class PreparedCase:
    """A case on the network's grid, memory-mapped, so that only what is cut is read from disk.

    Attributes:
        name: name of the case.
        image: ``[C, X, Y, Z]`` float16.
        label: ``[X, Y, Z]`` uint8 class indices; voxels to ignore have the number of classes as their index.
        voxels: ``[K, 4]``, class, i, j, k of foreground voxels: for each class all of them, or a random choice.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    voxels: np.ndarray


def prepare_case(
    case: Case, plan: Plan, folder: Path, seed: int = 0, on_note: Callable[[str], None] = lambda note: None
) -> PreparedCase:
    """The case on the network's grid, computed at the first call and read from `folder` afterwards.

    An entry is identified by the paths, sizes and times of its files, the plan and the seed. It is written under a
    temporary name and then renamed, so that several processes may prepare the same case at once. Its folder's time of
    change is that of its last use.

    Args:
        on_note: called with a line about each thing that is ignored in the image's file, when the file is read.

    Raises:
        FileError: if a file cannot be read or does not fit.
        TrainingError: if `folder` cannot be written to.
    """
    entry = folder / _key(case, plan, seed)
    if not entry.is_dir():
        _write_entry(case, plan, entry, seed, on_note)
    else:
        with suppress(OSError):  # perhaps of somebody else
            os.utime(entry)
    arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in ("image", "label", "voxels")}
    return PreparedCase(case.name, **arrays)


def held_case(name: str, image: Volume, label: Volume, plan: Plan, seed: int = 0) -> PreparedCase:
    """A case from volumes in memory instead of files, on the network's grid.

    Args:
        name: of the case, unique among those of a run.
        image, label: on the same grid; the label map has file values.
        seed: of the choice of foreground voxels.

    Raises:
        FileError: if the volumes do not fit each other or the plan.
    """
    if difference := misfit(image, label):
        raise FileError(f"{name}: the label map does not fit its image: {difference}")
    return PreparedCase(name, **_on_network_grid(image, label, Preprocessor(plan), seed))


def _on_network_grid(image: Volume, label: Volume, preprocess: Preprocessor, seed: int) -> dict[str, np.ndarray]:
    on_network, grid = preprocess(image)
    classes = preprocess.label(label, grid).numpy()
    voxels = _foreground_voxels(classes, preprocess.plan.labels.num_classes, np.random.default_rng(seed))
    return {"image": on_network.numpy().astype(np.float16), "label": classes, "voxels": voxels}


def _key(case: Case, plan: Plan, seed: int) -> str:
    files = [
        (str(path.resolve()), (stat := path.stat()).st_size, stat.st_mtime_ns)
        for each in (*case.image, case.label_file)
        for path in parts(each)
    ]
    other = ("patch_size", "sigma", "guidance", "previous")
    grid = {key: value for key, value in plan.to_dict().items() if key not in other and value is not None}
    digest = hashlib.sha256(json.dumps([files, grid, seed], sort_keys=True).encode()).hexdigest()
    return f"{case.name}-{digest[:16]}"


def _write_entry(case: Case, plan: Plan, entry: Path, seed: int, on_note: Callable[[str], None]) -> None:
    preprocess = Preprocessor(plan)
    volume = read_case(case, plan.reading)
    for note in volume.notes:
        on_note(note)
    _refuse_too_large(case, preprocess.grid(volume.shape, volume.affine), volume.channels)
    arrays = _on_network_grid(volume, read_label_on(volume, case.label_file, plan.reading), preprocess, seed)
    try:
        make_folder(entry.parent)
        temporary = Path(tempfile.mkdtemp(prefix=".preparing-", dir=entry.parent))
        try:
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            os.rename(temporary, entry)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        # Another process may have been faster; a folder that holds files cannot be renamed over.
        if not entry.is_dir():
            reason = error.strerror or "the disk is full"  # of a short write numpy gives no reason
            raise TrainingError(
                f"{one_line(entry.parent)}: prepared cases cannot be written there: {reason}; "
                "make room, or name another folder with `cache`"
            ) from error


def _refuse_too_large(case: Case, grid: GridMap, channels: int) -> None:
    # float32 as it is read and as it is resampled, with as much again on the way; float16 and a byte to be stored.
    needed = (8 * channels * math.prod(grid.native_shape)) + (10 * channels + 2) * math.prod(grid.network_shape)
    free = available_memory()
    if free is not None and needed > free:
        raise FileError(
            f"{one_line(case.image[0])}: {' x '.join(map(str, grid.network_shape))} voxels on the network's grid take "
            f"about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free; train with a coarser "
            "`spacing`, or crop it"
        )


def _foreground_voxels(label: np.ndarray, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    rows = [np.zeros((0, 4), np.int32)]
    for index in np.unique(label[(label > 0) & (label < num_classes)]):
        voxels = np.argwhere(label == index)
        chosen = voxels[rng.permutation(len(voxels))[:VOXELS_REMEMBERED]]
        rows.append(np.column_stack((np.full(len(chosen), index), chosen)).astype(np.int32))
    return np.concatenate(rows)


def cut_patch(case: PreparedCase, patch_size: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random piece of a case, a little larger than the patch.

    In two of three cuts, a foreground voxel lies in the middle half of the patch, if the case allows; its class is
    drawn with equal probabilities. Other cuts are anywhere. If the case is too short along an axis, both sides are
    filled with 0.

    Args:
        patch_size: sides of the patch, voxels.
        generator: on the CPU.

    Returns:
        Image ``[C, ...]`` float32 and label ``[...]`` uint8, whose sides are about `MARGIN` times those of the patch.
    """
    sides = [cut_side(side) for side in patch_size]
    focus = _focus(case, generator)
    start = []
    for axis, (side, patch, size) in enumerate(zip(sides, patch_size, case.label.shape, strict=True)):
        # Only the patch, which is the middle of the piece, must lie within the case.
        slack = size - patch
        border = (side - patch) // 2
        if slack <= 0:
            start.append(slack // 2 - border)
            continue
        if focus is None:
            low, high = 0, slack
        else:
            low = min(max(focus[axis] - 3 * patch // 4, 0), slack)
            high = max(min(focus[axis] - patch // 4, slack), low)
        start.append(int(torch.randint(low, high + 1, (), generator=generator)) - border)
    return _window(case.image, start, sides).float(), _window(case.label[None], start, sides)[0]


def cut_side(patch_side: int) -> int:
    """Side of the piece that is cut for a patch of this side; either both are even or both are odd."""
    return patch_side + 2 * int(patch_side * (MARGIN - 1) / 2)


def middle(label: Tensor, patch_size: Sequence[int]) -> Tensor:
    """The patch in the middle of a piece ``[X, Y, Z]`` that was cut for it."""
    starts = [(side - patch) // 2 for side, patch in zip(label.shape, patch_size, strict=True)]
    return label[tuple(slice(start, start + patch) for start, patch in zip(starts, patch_size, strict=True))]


def _focus(case: PreparedCase, generator: torch.Generator) -> list[int] | None:
    anywhere = torch.rand((), generator=generator) < 1 / 3
    pick = torch.rand(2, generator=generator)
    classes = np.unique(case.voxels[:, 0])
    if anywhere or not len(classes):
        return None
    rows = np.flatnonzero(case.voxels[:, 0] == classes[int(pick[0] * len(classes))])
    return case.voxels[rows[int(pick[1] * len(rows))], 1:].tolist()


def _window(array: np.ndarray, start: Sequence[int], sides: Sequence[int]) -> Tensor:
    """The window ``[C, *sides]`` of an array ``[C, X, Y, Z]``, 0 outside of the array."""
    result = torch.zeros((len(array), *sides), dtype=torch.from_numpy(np.empty(0, array.dtype)).dtype)
    inside, part = overlap(start, sides, array.shape[1:])
    result[(slice(None), *part)] = torch.from_numpy(array[(slice(None), *inside)].copy())
    return result
