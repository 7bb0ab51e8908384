"""The pictures of docs/clicks.md: what the network would change at a click, and which part of that is done.

    python -m benchmarks.click_pictures --model runs/phantom/model.pt --input runs/phantom/phantom --output docs

Each picture shows a validation case, in an axial plane through the newest click. Two sessions get the same clicks: one
with the rules of `deepedit.inference.merge`, and one without them, in which the network's answer counts everywhere.
Before the newest click both show the same. A picture is of the first case in which its rule makes a difference.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import add_shared, parser
from benchmarks.orientation import stored_as
from deepedit.clicks import largest_error_click
from deepedit.colours import colour
from deepedit.evaluation import Corruption, corrupt_to_range
from deepedit.files import make_folder
from deepedit.inference.session import InteractiveSession
from deepedit.io.msd import find_dataset, read_case
from deepedit.io.volumes import read_label
from deepedit.network.checkpoint import Model, load_model
from deepedit.volume import Volume

Voxel = tuple[int, int, int]
GOOD = Corruption(0.93, 0.96)
"""An initial segmentation that the network agrees with."""
NEAR, CANDIDATES = 4, 8
"""A second click is at most so many voxels from the first along each axis, and as many places for it are tried."""
ZOOM = 9
"""Voxels to each side of a click, where a picture is about single voxels."""
SEEN = 30
"""Voxels of a plane that have to differ to be seen in a picture of all of it."""
PAPER, INK, TRUTH, CHANGED, RULED = "#0e0f12", "#e1e4e8", "#ffffff", "#f0e442", "#ff5fb0"


@dataclass(frozen=True)
class Example:
    """A click and what follows from it; arrays are ``[X, Y, Z]`` class indices, axes R, A, S.

    Attributes:
        clicks: voxel and class index each, the newest last.
        before: what was shown before the newest click.
        answer: what would be shown if the network's answer to it counted everywhere.
        after: what is shown.
        near: whether the picture is of the surroundings of the newest click only.
    """

    image: Volume
    truth: np.ndarray
    clicks: Sequence[tuple[Voxel, int]]
    before: np.ndarray
    answer: np.ndarray
    after: np.ndarray
    near: bool = True

    @property
    def plane(self) -> int:
        return self.clicks[-1][0][2]

    @property
    def ruled(self) -> np.ndarray:
        """``[X, Y]`` bool: where the rules decide otherwise than the network, in the plane of the newest click."""
        return (self.answer != self.after)[..., self.plane]


class Pair:
    """Two sessions on one image, with the rules and without."""

    def __init__(self, model: Model, image: Volume) -> None:
        free = replace(model.plan.merge, reach=1e6, enforce=False)
        self.labels = model.plan.labels
        self.ruled = InteractiveSession(model)
        self.free = InteractiveSession(replace(model, plan=replace(model.plan, merge=free), refiner=None))
        for each in (self.ruled, self.free):
            each.set_image(image)

    def start_from(self, initial: np.ndarray) -> None:
        for each in (self.ruled, self.free):
            each.set_segmentation(self.labels.to_values(initial))

    def click(self, voxel: Voxel, label: int) -> tuple[np.ndarray, np.ndarray]:
        """What the network would show after a click, and what is shown."""
        for each in (self.ruled, self.free):
            each.add_click(voxel, self.labels.class_names[label])
        return self.free.classes().copy(), self.ruled.classes().copy()

    def undo(self) -> None:
        for each in (self.ruled, self.free):
            each.undo()


def reach(pair: Pair, image: Volume, truth: np.ndarray) -> Iterator[Example]:
    """An initial segmentation that the network agrees with is changed near the click only."""
    before = corrupt_to_range(truth, pair.labels.num_classes, GOOD, "0")
    pair.start_from(before)
    click = largest_error_click(before, truth)
    example = Example(image, truth, [click], before, *pair.click(*click), near=False)
    if example.ruled.sum() > SEEN:
        yield example


def obeyed(pair: Pair, image: Volume, truth: np.ndarray) -> Iterator[Example]:
    """A clicked voxel has its label, though the network does not say so."""
    before = pair.ruled.classes().copy()
    click = largest_error_click(before, truth)
    example = Example(image, truth, [click], before, *pair.click(*click))
    if example.answer[click[0]] != click[1]:
        yield example


def earlier(pair: Pair, image: Volume, truth: np.ndarray) -> Iterator[Example]:
    """A later click beside it does not take the label of an earlier one away."""
    first = largest_error_click(pair.ruled.classes(), truth)
    answer, before = pair.click(*first)
    if (answer != before).any():
        return
    for voxel in beside(first[0], truth != first[1]):
        second = (voxel, int(truth[voxel]))
        example = Example(image, truth, [first, second], before, *pair.click(*second))
        if example.answer[first[0]] != first[1]:
            yield example
        pair.undo()


def beside(centre: Voxel, allowed: np.ndarray) -> list[Voxel]:
    """The nearest voxels in the axial plane of another that are allowed, but for its neighbours."""
    places = np.argwhere(allowed[..., centre[2]])
    steps = np.abs(places - centre[:2]).max(1)
    places = places[(steps > 1) & (steps <= NEAR)]
    order = np.square(places - centre[:2]).sum(1).argsort(kind="stable")[:CANDIDATES]
    return [(int(x), int(y), centre[2]) for x, y in places[order]]


EXAMPLES: dict[str, Callable[[Pair, Volume, np.ndarray], Iterator[Example]]] = {
    "click_reach": reach,
    "click_obeyed": obeyed,
    "click_earlier": earlier,
}
"""By the names of the pictures."""


def draw(example: Example, path: Path) -> None:
    """Write three panels side by side: before the newest click, the network's answer, what is shown."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(10, 4.2), facecolor=PAPER, layout="constrained")
    before, answer, after = panels = figure.subplots(1, 3)
    for panel, labels in zip(panels, (example.before, example.answer, example.after), strict=True):
        show(panel, example, labels[..., example.plane])
    outline(answer, (example.answer != example.before)[..., example.plane], CHANGED)
    outline(after, example.ruled, RULED)
    before.set_title("before the newest click", color=INK)
    answer.set_title("what the network would make of it", color=INK)
    after.set_title("what is shown", color=INK)
    lines = ((TRUTH, "truth"), (CHANGED, "voxels that the network would change"), (RULED, "voxels that a rule decides"))
    handles = [Line2D([], [], color=shade, label=label) for shade, label in lines]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
    figure.savefig(path, dpi=100)


def show(panel: Any, example: Example, labels: np.ndarray) -> None:
    """The image with labels ``[X, Y]`` as tints, the truth as contours, and the clicks. The patient's right is on the
    left, and anterior above, as radiologists look at it."""
    x, y, _ = example.image.spacing
    image = example.image.data[..., example.plane]
    panel.imshow(image.T, cmap="gray", origin="lower", aspect=y / x, interpolation="bilinear")
    tints = np.zeros((*labels.T.shape, 4))
    for label in np.unique(labels[labels > 0]):
        tints[label == labels.T] = (*np.divide(colour(int(label)), 255), 0.5)
    panel.imshow(tints, origin="lower", aspect=y / x, interpolation="nearest")
    truth = example.truth[..., example.plane]
    for label in np.unique(truth[truth > 0]):
        panel.contour((truth == label).T, [0.5], colors=TRUTH, linewidths=1)
    for number, ((i, j, _), label) in enumerate(example.clicks, 1):
        shade = np.divide(colour(label), 255) if label else "black"
        panel.plot(i, j, "o", color=shade, markeredgecolor="white", markersize=8, markeredgewidth=1.5)
        if len(example.clicks) > 1:
            panel.annotate(str(number), (i, j), (7, 5), textcoords="offset points", color="white", weight="bold")
    (left, bottom, _), (right, top) = (0, 0, 0), np.subtract(labels.shape, 1)
    if example.near:
        i, j, _ = example.clicks[-1][0]
        left, right, bottom, top = max(left, i - ZOOM), min(right, i + ZOOM), max(bottom, j - ZOOM), min(top, j + ZOOM)
    panel.set(xlim=(right + 0.5, left - 0.5), ylim=(bottom - 0.5, top + 0.5))
    panel.set_axis_off()


def outline(panel: Any, mask: np.ndarray, shade: str) -> None:
    """Lines along the edges of the voxels of a mask ``[X, Y]``."""
    padded = np.pad(mask, 1).astype(int)
    for axis in (0, 1):
        for i, j in np.argwhere(np.diff(padded, axis=axis)):  # between voxel i - 1 and i, counted without the padding
            ends = ([i - 0.5, i - 0.5], [j - 1.5, j - 0.5]) if axis == 0 else ([i - 1.5, i - 0.5], [j - 0.5, j - 0.5])
            panel.plot(*ends, color=shade, linewidth=1.8, solid_capstyle="round")


def main() -> None:
    options = parser(__doc__)
    add_shared(options, "--model", "--input")
    add_shared(options, "--output", help="for the pictures; made if needed")
    arguments = options.parse_args()
    model = load_model(arguments.model)
    cases = [case for case in find_dataset(arguments.input).cases if case.name in model.validation_cases]
    make_folder(arguments.output)
    missing = dict(EXAMPLES)
    for case in cases:
        native = read_case(case)
        image = stored_as(native, "RAS")
        labels = Volume(read_label(case.label).data, native.affine)
        truth = model.plan.labels.to_classes(stored_as(labels, "RAS").data)
        for name, find in list(missing.items()):
            example = next(find(Pair(model, image), image, truth), None)
            if example is not None:
                draw(example, arguments.output / f"{name}.png")
                print(f"{case.name}: {arguments.output / name}.png", flush=True)
                del missing[name]
    if missing:
        raise SystemExit(f"no validation case shows {', '.join(missing)}; try another model")


if __name__ == "__main__":
    main()
