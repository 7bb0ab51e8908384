"""What a click changes, and where: in the error that it stands in, near it, and elsewhere.

    python -m benchmarks.click_effects --model RUN/model.pt --input DATASET

For some cases that the model was validated on and as many that it was trained on, the annotator of evaluation clicks.
Means over all clicks are printed, in voxels of the image's own grid. A network that has memorised its training cases
leaves other errors in them than in new ones, and learns from those what errors are like.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from benchmarks.options import add_shared, parser
from deepedit.defaults import MAX_CLICKS
from deepedit.inference.annotation import annotate
from deepedit.inference.session import InteractiveSession
from deepedit.io.msd import find_dataset, read_case
from deepedit.io.pairing import Case
from deepedit.io.volumes import read_label
from deepedit.plan import Labels
from deepedit.volume import Volume
from deepedit_cli.options import positive_int

EDGES = (0, 4, 12, np.inf)
"""Distances from a click, in voxels, between which voxels are counted."""


@dataclass(frozen=True)
class Effect:
    """Numbers of voxels around one click; arrays have an entry for each range of distances between `EDGES`.

    Attributes:
        error: of the 6-connected component of the error that was clicked.
        repaired: of these, right after the click.
        same: shown wrong before the click, with the clicked class as their true one.
        gained: wrong before and right after, the clicked component included.
        lost: right before and wrong after.
    """

    error: int
    repaired: int
    same: np.ndarray
    gained: np.ndarray
    lost: np.ndarray


def effect_of(
    before: np.ndarray, after: np.ndarray, truth: np.ndarray, voxel: tuple[int, int, int], label: int
) -> Effect:
    """What a click for class `label` at a wrong voxel did; maps are ``[X, Y, Z]`` class indices."""
    wrong = before != truth
    same = wrong & (truth == label)
    components, _ = ndimage.label(same)
    component = components == components[voxel]
    grid = np.ogrid[tuple(slice(0, side) for side in truth.shape)]
    distance = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(grid, voxel, strict=True)))
    ring = np.searchsorted(EDGES, distance, side="right") - 1

    def by_ring(mask: np.ndarray) -> np.ndarray:
        return np.bincount(ring[mask], minlength=len(EDGES) - 1)

    right = after == truth
    return Effect(
        int(component.sum()),
        int((component & right).sum()),
        by_ring(same),
        by_ring(wrong & right),
        by_ring(~wrong & ~right),
    )


def effects_of(session: InteractiveSession, image: Volume, truth: np.ndarray, clicks: int) -> list[Effect]:
    """The effects of the annotator's clicks on one image."""
    session.set_image(image)
    return [
        effect_of(before.classes, after.classes, truth, after.voxel, after.label)
        for before, after in pairwise(annotate(session, truth, clicks))
        if after.voxel is not None and after.label is not None
    ]


def table(effects: Sequence[Effect]) -> str:
    """Means over clicks."""

    def mean(value: Callable[[Effect], np.ndarray | int]) -> np.ndarray:
        return np.mean([value(each) for each in effects], axis=0)

    error, repaired = mean(lambda each: each.error), mean(lambda each: each.repaired)
    lines = [
        f"clicks: {len(effects)}; voxels of the clicked error: {error:.0f}, {repaired / error:.0%} of them repaired",
        f"{'voxels from the click':<24}{'of the same error':>20}{'made right':>14}{'made wrong':>14}",
    ]
    rows = zip(*(mean(value) for value in (lambda e: e.same, lambda e: e.gained, lambda e: e.lost)), strict=True)
    for (low, high), row in zip(pairwise(EDGES), rows, strict=True):
        reach = f"{low} to {high}" if np.isfinite(high) else f"{low} and more"
        lines.append(f"{reach:<24}{row[0]:>20.1f}{row[1]:>14.1f}{row[2]:>14.1f}")
    return "\n".join(lines)


def opened(case: Case, labels: Labels) -> tuple[Volume, np.ndarray]:
    """The image of a case, and the class indices of its label map."""
    return read_case(case), labels.to_classes(read_label(case.label).data)


def main() -> None:
    options = parser(__doc__)
    add_shared(options, "--model", "--input")
    options.add_argument(
        "--cases", type=positive_int, default=20, metavar="N", help="cases of each kind (default: %(default)s)"
    )
    add_shared(options, "--max-clicks", default=MAX_CLICKS, help="clicks for each case (default: %(default)s)")
    add_shared(options, "--device")
    arguments = options.parse_args()
    session = InteractiveSession.from_checkpoint(arguments.model, arguments.device)
    model = session.model
    by_name = {case.name: case for case in find_dataset(arguments.input).cases}
    for kind, names in (("validation", model.validation_cases), ("training", model.training_cases)):
        cases = [by_name[name] for name in names[: arguments.cases]]
        found = [
            effect
            for case in cases
            for effect in effects_of(session, *opened(case, model.plan.labels), arguments.max_clicks)
        ]
        print(f"{kind} cases: {len(cases)}; {table(found) if found else 'nothing is wrong'}\n", flush=True)


if __name__ == "__main__":
    main()
