"""Where a click lies: on the image's own grid and on the network's, or why it cannot be."""

from collections.abc import Callable, Sequence

import numpy as np

from deepedit.boxes import three
from deepedit.errors import ClickError
from deepedit.inference.history import Click
from deepedit.inference.segmentation import Segmentation
from deepedit.io.click_files import PointClick
from deepedit.io.nifti_affine import is_placed
from deepedit.transforms.geometry import GridMap, inside, nearest_voxel, to_voxel
from deepedit.transforms.preprocess import Preprocessor
from deepedit.volume import Volume


def locate_click(
    given: PointClick, volume: Volume, grid: GridMap, preprocess: Preprocessor, note: Callable[[str], None]
) -> Click:
    """A click on an image.

    Args:
        given: the click as it was given.
        volume: only its grid and its header are used.
        grid: the map between the image's grid and the network's.
        preprocess: of the model.
        note: called with a line where the header does not say where the voxels lie.

    Raises:
        ClickError: if the click lies outside the image, or its label is unknown.
    """
    label, position, space = preprocess.plan.labels.index(given.label), given.position, given.space
    exact = to_voxel(position, space, volume.affine)
    if space != "voxel" and not is_placed(volume.header):
        note(
            "a click in mm, and the image's header says neither by a qform nor by an sform where its voxels lie: "
            "its middle is taken to be at 0; check the result, or click on voxels"
        )
    # Clipped first: what is far outside does not fit into an integer.
    if not np.isfinite(exact).all() or not inside(exact.clip(-1, max(volume.shape)), volume.shape):
        where = f"voxel {_point(exact)} lies"
        if space != "voxel":
            where = f"{_point(position)} ({space}) is voxel {_point(exact)},"
        raise ClickError(
            f"the click at {where} outside the image of {' x '.join(map(str, volume.shape))} voxels; "
            "check its position and its space"
        )
    voxel = three(nearest_voxel(exact).tolist())
    place, target = grid.points_to_network(voxel), preprocess.click(voxel, grid)
    return Click(given, label, voxel, three(place.tolist()), three(target.tolist()))


def refuse_locked(click: Click, state: Segmentation, names: Sequence[str]) -> None:
    """Raise a ClickError where a lock forbids that a click's voxel takes its label; `names` are by class index."""
    if state.locks is None:
        return
    now = int(state.result[click.voxel])
    locked = sorted({now, click.label} & state.locks.classes)
    if locked and click.label != now:
        verb = "take it from" if locked[0] == now else "give it to"
        raise ClickError(
            f"the click at voxel {_point(click.voxel)} would {verb} {names[locked[0]]}, which is locked; "
            "unlock it first"
        )


def _point(position: Sequence[float] | np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in np.asarray(position, dtype=float).round(1)) + ")"
