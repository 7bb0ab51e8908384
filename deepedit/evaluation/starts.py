"""The initial segmentation of an evaluated case: none, one from a folder, or the truth with errors added on purpose."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from deepedit.boxes import Box, bounding_box_of_some, grown
from deepedit.errors import DeepEditError, FileError
from deepedit.files import one_line
from deepedit.io.pairing import Case, volume_files
from deepedit.io.suffixes import LABELS
from deepedit.metrics import dice
from deepedit.plan import Labels
from deepedit.transforms.corrupt import corrupt_segmentation

ATTEMPTS = 100
BISECTIONS = 12


@dataclass(frozen=True)
class Corruption:
    """The truth with errors added until its mean Dice over the labels of a case is in a certain range.

    Attributes:
        lowest, highest: the range of the Dice; with 1 and 1 the truth is not changed.
    """

    lowest: float
    highest: float

    def __post_init__(self) -> None:
        if not 0 <= self.lowest <= self.highest <= 1:
            raise ValueError(f"a range of Dice ascends within 0 to 1; got {self.lowest} to {self.highest}")

    @property
    def perfect(self) -> bool:
        return self.lowest == 1


Start = None | str | Path | Corruption


def initial_segmentation(
    start: str | Path | Corruption, case: Case, truth: np.ndarray, labels: Labels, seed: int
) -> Path | np.ndarray:
    """The initial segmentation of a case, in a form for `InteractiveSession.set_segmentation`.

    Args:
        start: a folder with segmentations that are named as the cases, or a corruption.
        truth: ``[X, Y, Z]`` class indices.
        seed: seed of the corruption, which also depends on the name of the case.

    Returns:
        A file, or ``[X, Y, Z]`` in file values.

    Raises:
        DeepEditError: if the folder has no segmentation of this case, or if no corruption is in the range.
    """
    if isinstance(start, Corruption):
        return labels.to_values(corrupt_to_range(truth, labels.num_classes, start, f"{seed}:{case.name}"))
    found = volume_files(Path(start), LABELS).get(case.name)
    if not found:
        raise FileError(
            f"{one_line(start)}: has no segmentation {one_line(case.name)}.nii.gz, nor one with another ending"
        )
    if len(found) > 1:
        raise FileError(f"{one_line(found[0])}: {one_line(found[1].name)} is for the same case; keep one")
    return found[0]


def corrupt_to_range(truth: np.ndarray, num_classes: int, corruption: Corruption, key: str) -> np.ndarray:
    """A corrupted copy of a label map whose mean Dice is in a certain range.

    A Dice in the range is drawn at random, then the severity is bisected until the Dice is near it. If the errors that
    were drawn cannot bring the Dice into the range, other errors are drawn.

    Args:
        truth: ``[X, Y, Z]`` class indices.
        num_classes: number of classes, background included.
        key: what the result should depend on besides the truth, such as the seed and the name of the case.

    Returns:
        ``[X, Y, Z]`` class indices.

    Raises:
        DeepEditError: if the truth has no labels, or if no attempt is in the range.
    """
    if corruption.perfect:
        return truth.copy()
    if not truth.any():
        raise DeepEditError("the true segmentation is empty; there is nothing in it to corrupt")
    box = _around_labels(truth)
    inner = torch.from_numpy(truth[box].astype(np.int16))
    for attempt in range(ATTEMPTS):
        digest = hashlib.sha256(f"{key}:{attempt}".encode("utf-8", "surrogateescape")).digest()
        seed = int.from_bytes(digest[:8], "big") >> 1
        found = _bisect(inner, num_classes, corruption, seed)
        if found is not None:
            result = truth.copy()
            result[box] = found
            return result
    raise DeepEditError(
        f"no corruption of this case has a mean Dice from {corruption.lowest:g} to {corruption.highest:g}; "
        "widen the range"
    )


def mean_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean Dice over the labels that are in `truth`; both ``[X, Y, Z]`` class indices."""
    return float(np.mean([dice(prediction == index, truth == index) for index in np.unique(truth[truth > 0])]))


def _bisect(inner: torch.Tensor, num_classes: int, corruption: Corruption, seed: int) -> np.ndarray | None:
    """Of the corruptions with this seed, the one in the range whose Dice is nearest to a value drawn from the range."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand((), generator=generator).item()
    target = corruption.lowest + place * (corruption.highest - corruption.lowest)
    state = generator.get_state()
    best, distance = None, 1.0
    low, high = 0.0, 1.0
    severity = high
    for _ in range(BISECTIONS):
        candidate = corrupt_segmentation(inner, num_classes, severity, generator.set_state(state)).numpy()
        reached = mean_dice(candidate, inner.numpy())
        if corruption.lowest <= reached <= corruption.highest and abs(reached - target) < distance:
            best, distance = candidate, abs(reached - target)
        if severity == 1 and reached > target:
            break
        low, high = (severity, high) if reached > target else (low, severity)
        severity = (low + high) / 2
    return best


def _around_labels(truth: np.ndarray) -> Box:
    """The box of all labels with a margin of half its longest side. Errors occur only there, and a box saves time."""
    box = bounding_box_of_some(truth > 0)
    return grown(box, max(span.stop - span.start for span in box) // 2, truth.shape)
