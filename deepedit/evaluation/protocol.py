"""The usual protocol of interactive segmentation: click where the result is most wrong, then look at the new result."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from deepedit.clicks import largest_error_click
from deepedit.defaults import MAX_CLICKS, OVERLAP, TOLERANCE
from deepedit.errors import DatasetError, FileError
from deepedit.evaluation.oracle import oracle_dice
from deepedit.evaluation.rows import ClickEffect, Row
from deepedit.evaluation.starts import Corruption, Start, initial_segmentation
from deepedit.files import one_line
from deepedit.inference.annotation import annotate
from deepedit.inference.failure import why_it_failed
from deepedit.inference.initial import named_values
from deepedit.inference.session import InteractiveSession
from deepedit.io.grids import misfit, near_misfit
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.io.segment_names import called_otherwise
from deepedit.io.volumes import read_label_on
from deepedit.metrics import dice, surface_dice
from deepedit.network.checkpoint import Model
from deepedit.plan import Labels
from deepedit.volume import Reading, Volume

FAR = 10
"""Voxels from a click beyond which nothing should change."""


@dataclass(frozen=True)
class _Protocol:
    """How each case is evaluated; the attributes are arguments of `evaluate_dataset`.

    Attributes:
        max_clicks: clicks allowed for each case in all.
        perfect: whether the first click is a redundant one.
    """

    max_clicks: int
    max_clicks_per_label: int | None
    oracle: bool
    perfect: bool
    tolerance: float
    ignore: int | None


def evaluate_dataset(
    model: Model,
    cases: Iterable[Case],
    max_clicks: int | None = None,
    initial: Start = None,
    seed: int = 0,
    *,
    max_clicks_per_label: int | None = None,
    oracle: bool = False,
    tolerance: float = TOLERANCE,
    amp: str = "auto",
    overlap: float = OVERLAP,
    skip_air: bool = False,
    tta: bool = False,
    on_failure: Callable[[Case, str], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    ignore: int | None = None,
    mapping: Mapping[int, str] | None = None,
    same_grid: bool = False,
) -> list[Row]:
    """Segment every case, then repeatedly click the deepest voxel of its largest error.

    Everything is measured on the grid of the image file.

    Args:
        model: in evaluation mode, on the device to use.
        cases: cases with label files, whose values are those of the model's labels.
        max_clicks: clicks for each case; fewer are made if nothing is wrong any more. Default: 10, or as many as
            `max_clicks_per_label` allows.
        initial: what the first click corrects: None for the automatic result, a folder with initial segmentations that
            are named as the cases, or a `Corruption` of the truth. The perfect truth, ``Corruption(1, 1)``, has no
            error to click, and its first click is a redundant one.
        seed: seed of the corruption, which depends on nothing else but the name of the case.
        max_clicks_per_label: at most that many clicks count for each label of a case, see `ClickEffect.counted`. Then
            other errors are clicked, if there are some.
        oracle: also evaluate an oracle, see `oracle_dice`, whose every click repairs all of the error that it stands
            in. It begins where the model begins, and gets as many clicks.
        tolerance: tolerance of the surface distance, in mm.
        amp, overlap, skip_air, tta: of the session.
        on_failure: called with a case that cannot be evaluated and the reason; without it, a warning is issued.
        on_note: called with a line on each file that contradicts itself, or of which something is left out or moved;
            without it, a warning is issued.
        ignore: the value of voxels whose class is not known, which count nowhere; default: that of the model's plan.
        mapping, same_grid: for the segmentations in the folder `initial`, see `InteractiveSession.set_segmentation`.

    Returns:
        One row for each case, number of clicks from 0 to the most that are allowed, and label, in this order.

    Raises:
        DeepEditError: if a disk is full. Any other failure costs only the case in which it occurs.
    """
    most = _most_clicks(max_clicks, max_clicks_per_label, len(model.plan.labels.names))
    session = InteractiveSession(model, amp, overlap, skip_air, tta)
    protocol = _Protocol(
        most,
        max_clicks_per_label,
        oracle,
        isinstance(initial, Corruption) and initial.perfect,
        tolerance,
        model.plan.ignore if ignore is None else ignore,
    )
    rows = []

    def begin(case: Case, truth: np.ndarray) -> None:
        assert initial is not None
        start = initial_segmentation(initial, case, truth, model.plan.labels, seed)
        given = (None, False) if isinstance(initial, Corruption) else (mapping, same_grid)
        session.set_segmentation(start, *given)

    correct = None if initial is None else begin
    for case in cases:
        try:
            rows += _evaluate_case(session, case, protocol, correct, on_note or _warn_of)
        except Exception as error:  # whatever fails, it costs only this case
            (on_failure or _warn)(case, one_line(why_it_failed(error), 500))
    return rows


def redundant_click(truth: np.ndarray) -> tuple[tuple[int, int, int], int] | None:
    """A click that a user makes although everything is right: at the deepest voxel of the largest label.

    Args:
        truth: ``[X, Y, Z]`` class indices.

    Returns:
        The voxel, which is in the label's largest 6-connected component, and the class; None if there is no label.
    """
    sizes = np.bincount(truth.ravel())
    if len(sizes) < 2 or not sizes[1:].any():
        return None
    largest = int(sizes[1:].argmax()) + 1
    # A prediction without this label is wrong in all of it and nowhere else.
    return largest_error_click(np.where(truth == largest, 0, truth), truth)


def _most_clicks(max_clicks: int | None, per_label: int | None, labels: int) -> int:
    """The number of clicks that a case may get in all."""
    for number in (max_clicks, per_label):
        if number is not None and number < 0:
            raise ValueError(f"the number of clicks is at least 0; got {number}")
    if per_label is None:
        return MAX_CLICKS if max_clicks is None else max_clicks
    return per_label * labels if max_clicks is None else min(max_clicks, per_label * labels)


def _warn(case: Case, reason: str) -> None:
    warnings.warn(f"{one_line(case.name)} is left out: {reason}", stacklevel=3)


def _warn_of(note: str) -> None:
    warnings.warn(note, stacklevel=4)


def _evaluate_case(
    session: InteractiveSession,
    case: Case,
    protocol: _Protocol,
    correct: Callable[[Case, np.ndarray], None] | None,
    on_note: Callable[[str], None],
) -> list[Row]:
    labels, reading = session.model.plan.labels, session.model.plan.reading
    image = read_case(case, reading)
    for note in image.notes:
        on_note(f"{one_line(case.image[0])}: {note}")
    truth, unknown = _read_truth(case, image, labels, reading, on_note, protocol.ignore)
    session.set_image(image)
    if correct is not None:
        correct(case, truth)
        for note in session.notes:
            on_note(note)
    axes = image.affine[:3, :3]
    del image

    scores: list[list[tuple[float, float]]] = []
    rounds: list[tuple[bool | None, bool | None, float | None, ClickEffect | None]] = []
    before: np.ndarray | None = None
    oracle: np.ndarray | None = None
    limits = protocol.max_clicks, protocol.max_clicks_per_label
    first = redundant_click(truth) if protocol.perfect else None
    for each in annotate(session, truth, limits[0], unknown, first=first, max_per_class=limits[1]):
        if before is None and protocol.oracle:
            oracle = oracle_dice(each.classes, truth, labels.num_classes, *limits)
        known = None if before is None else (before, scores[-1])
        scores.append(_scores(each.classes, truth, labels, axes, protocol.tolerance, known))
        obeyed = effect = None
        if before is not None and each.voxel is not None and each.label is not None:
            obeyed = bool(each.classes[each.voxel] == each.label)
            effect = click_effect(before, each.classes, truth, each.voxel, each.label, labels)
        rounds.append((obeyed, each.obeyed_alone, each.seconds, effect))
        before = each.classes

    rows = []
    for clicks in range(protocol.max_clicks + 1):
        obeyed, alone, seconds, effect = rounds[clicks] if clicks < len(rounds) else (None, None, None, None)
        if effect is not None and before is not None:
            effect = replace(effect, kept=bool(before[effect.voxel] == labels.index(effect.label)))
        shown = scores[min(clicks, len(scores) - 1)]
        best = (None,) * len(shown) if oracle is None else oracle[min(clicks, len(oracle) - 1)].tolist()
        for name, (label_dice, label_nsd), label_oracle in zip(labels.names, shown, best, strict=True):
            rows.append(
                Row(case.name, name, clicks, label_dice, label_nsd, obeyed, alone, seconds, effect, label_oracle)
            )
    return rows


def _read_truth(
    case: Case, image: Volume, labels: Labels, reading: Reading, on_note: Callable[[str], None], ignore: int | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Class indices ``[X, Y, Z]``, and a mask of the voxels whose class is not known, or None. Their index is 0."""
    if case.label is None:
        raise DatasetError(f"{one_line(case.name)}: has no label file to compare with")
    label = read_label_on(image, case.label, reading)
    for note in label.notes:
        on_note(f"{one_line(case.label)}: {note}")
    if nearly := near_misfit(image, label):
        on_note(f"{one_line(case.label)}: {nearly}")
    difference = misfit(image, label)
    if difference:
        raise FileError(f"{one_line(case.label)}: does not fit its image: {difference}")
    ours = dict(zip(labels.names, labels.values, strict=True))
    for value, name in label.names.items():
        if ours.get(name, value) != value:
            raise FileError(
                f"{one_line(case.label)}: {one_line(name, 60)} is {value}, for the model it is {ours[name]}; give the "
                "file the model's values"
            )
    for clause in called_otherwise(label.names, ours):
        on_note(f"{one_line(case.label)}: {clause}; both are taken for the same")
    values = label.data.reshape(image.shape)
    classes, unknown = labels.to_classes(values), None
    if ignore is not None:
        unknown = values == ignore
        classes[unknown] = 0
    if not classes.any():
        others = [value for value in np.unique(values).tolist() if value not in (0, ignore)]
        if others:
            listed = ", ".join(map(str, others[:10]))
            on_note(
                f"{one_line(case.label)}: has {listed}, and the model knows {named_values(labels)}: all of it counts "
                "as background"
            )
    return classes, unknown


def _scores(
    classes: np.ndarray,
    truth: np.ndarray,
    labels: Labels,
    axes: np.ndarray,
    tolerance: float,
    known: tuple[np.ndarray, list[tuple[float, float]]] | None,
) -> list[tuple[float, float]]:
    """Dice and surface Dice of each label. `known` holds earlier class indices and their scores, which are used again
    for labels that have not changed."""
    result = []
    for index in range(1, labels.num_classes):
        mask = classes == index
        if known is not None and np.array_equal(mask, known[0] == index):
            result.append(known[1][index - 1])
            continue
        right = truth == index
        result.append((float(dice(mask, right)), float(surface_dice(mask, right, axes, tolerance))))
    return result


def click_effect(
    before: np.ndarray, after: np.ndarray, truth: np.ndarray, voxel: tuple[int, int, int], label: int, labels: Labels
) -> ClickEffect:
    """The effect of a click on class indices ``[X, Y, Z]``; its `kept` is that after this click, not after the last."""
    from scipy import ndimage

    region = region_left = 0
    if before[voxel] != label:
        components, _ = ndimage.label((before != truth) & (truth == label))
        clicked = components == components[voxel]
        region = int(np.count_nonzero(clicked))
        region_left = int(np.count_nonzero(after[clicked] != label))
    replaced = int(before[voxel])
    offsets = np.ogrid[tuple(slice(-index, side - index) for index, side in zip(voxel, truth.shape, strict=True))]
    far = sum(offset**2 for offset in offsets) > FAR**2
    far_voxels = int(np.count_nonzero(far))
    return ClickEffect(
        label=labels.class_names[label],
        voxel=voxel,
        kept=bool(after[voxel] == label),
        replaced=labels.class_names[replaced],
        replaced_before=int(np.count_nonzero(before == replaced)),
        replaced_after=int(np.count_nonzero(after == replaced)),
        region=region,
        region_left=region_left,
        changed_far=float(np.count_nonzero((before != after) & far) / far_voxels) if far_voxels else None,
    )
