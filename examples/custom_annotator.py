"""An annotator of one's own, compared with that of evaluation: how much Dice does a click bring?

python examples/custom_annotator.py runs/phantom/model.pt image.nii.gz label.nii.gz
"""

import sys
from collections.abc import Callable

import numpy as np

from deepedit import InteractiveSession, read_volume
from deepedit.clicks import largest_error_click
from deepedit.metrics import dice

Click = tuple[tuple[int, int, int], int]  # a voxel and the true class there
Annotator = Callable[[np.ndarray, np.ndarray], Click | None]  # from what is shown and the truth, both class indices


def hasty(shown: np.ndarray, truth: np.ndarray) -> Click | None:
    """Looks at the axial slice with the most wrong voxels alone, and clicks anywhere in the error there."""
    wrong = shown != truth
    if not wrong.any():
        return None
    k = int(wrong.sum((0, 1)).argmax())
    i, j = np.argwhere(wrong[:, :, k])[np.random.default_rng(k).integers(wrong[:, :, k].sum())].tolist()
    return (i, j, k), int(truth[i, j, k])


def curve(session: InteractiveSession, truth: np.ndarray, annotator: Annotator, clicks: int) -> list[float]:
    """Mean Dice of the labels after 0, 1, ... clicks; shorter if nothing is wrong any more."""
    labels, found = session.model.plan.labels, []
    session.reset()
    for number in range(clicks + 1):
        shown = labels.to_classes(session.predict())
        found.append(float(np.mean([dice(shown == each, truth == each) for each in range(1, labels.num_classes)])))
        click = annotator(shown, truth)
        if click is None or number == clicks:
            break
        voxel, label = click
        session.add_click(voxel, labels.class_names[label])
    return found


def main(model: str, image: str, label: str, clicks: int = 5) -> None:
    session = InteractiveSession.from_checkpoint(model)
    session.set_image(image)
    truth = session.model.plan.labels.to_classes(read_volume(label).data.astype(np.int64))
    for annotator in (largest_error_click, hasty):
        scores = curve(session, truth, annotator, clicks)
        print(f"{annotator.__name__}: " + " ".join(f"{score:.3f}" for score in scores))


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
