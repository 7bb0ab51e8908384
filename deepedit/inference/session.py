"""One image, asked about again and again: what a viewer talks to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepedit.clicks import Clicks
from deepedit.errors import ClickError, DeepEditError
from deepedit.inference.sliding_window import (
    crop,
    predict_window,
    sliding_window,
    window_around,
    window_shape,
)
from deepedit.io.click_files import PointClick
from deepedit.io.nifti import read_label, read_volume, write_label
from deepedit.network.checkpoint import Model, load_model
from deepedit.network.inputs import pick_device
from deepedit.transforms.geometry import inside, nearest_voxel, to_voxel, voxel_to_network
from deepedit.transforms.preprocess import Preprocessor
from deepedit.volume import Volume

Box = tuple[slice, slice, slice]

GIVEN_LOGIT = 4.0
"""How sure a segmentation from elsewhere counts where a window fades out over it."""


@dataclass
class _Turn:
    """A click and what it changed, kept so that it can be taken back and given again.

    Attributes:
        voxel: on the network's grid.
        place: of the window on the network's grid, and the logits there before and after.
        changed: box on the image's grid, and the classes there before and after; None if none changed.
    """

    click: PointClick
    voxel: tuple[int, int, int]
    label: int
    place: Box
    logits: tuple[Tensor, ...] = ()
    changed: Box | None = None
    classes: tuple[np.ndarray, ...] = ()


class InteractiveSession:
    """Segment one image after another, automatically, from clicks, or by correcting a segmentation.

    A click is answered by one pass of the network over one window, the one with the click in its middle: for a volume
    no larger than the window that is all of it, in a larger one the rest keeps its result. The pass sees all clicks
    so far and, as previous segmentation, the result before the newest click.

    In memory: the image on the network's grid (float32), the logits there (float16, one channel a class), the result
    on the image's grid and the network's decision there (a byte a voxel each), and for each click that can be undone
    or redone the logits of one window and the classes in the box that changed. The image itself is not kept.

    Args:
        model: in evaluation mode, on the device to use.
        amp: precision, ``"auto"`` or ``"off"``.

    Example::

        session = InteractiveSession.from_checkpoint("run/model.pt")
        session.set_image("case.nii.gz")
        labels = session.predict()
        session.add_click((64, 40, 31), label="spleen")
        session.save("segmentation.nii.gz")
    """

    def __init__(self, model: Model, amp: str = "auto") -> None:
        self.model, self.amp = model, amp
        self._preprocess = Preprocessor(model.plan, model.device)
        self._volume: Volume | None = None

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "auto", amp: str = "auto") -> "InteractiveSession":
        """A session with the model of a file; ``device="auto"`` takes a GPU where there is one."""
        return cls(load_model(path, pick_device(device)), amp)

    def set_image(self, image: str | Path | Volume | np.ndarray, affine: np.ndarray | None = None) -> None:
        """Start over with another image.

        Args:
            image: a file, a volume, or an array ``[X, Y, Z]`` or ``[C, X, Y, Z]``.
            affine: ``[4, 4]``, voxels to RAS mm, of an array; 1 mm and RAS without it.
        """
        if isinstance(image, np.ndarray):
            image = Volume(image, np.eye(4) if affine is None else affine)
        elif not isinstance(image, Volume):
            image = read_volume(image)
        self._image, self._grid = self._preprocess(image)
        # Only the grid is still needed: the header to write results with, not the voxels.
        self._volume = Volume(np.broadcast_to(np.uint8(0), image.shape), image.affine, image.header)
        self._window = window_shape(
            self._image.shape[1:], self.model.plan.patch_size, self.model.network.config.divisor
        )
        self._given: np.ndarray | None = None
        self._forget()

    def set_segmentation(self, segmentation: str | Path | Volume | np.ndarray) -> None:
        """Start over from a segmentation of this image, in file values; those of no label count as background.

        Args:
            segmentation: a file, a volume, or an array on the image's grid. A file or volume on another grid is
                brought to the image's by the two affines.
        """
        volume = self._require_image()
        if isinstance(segmentation, np.ndarray):
            segmentation = Volume(segmentation, volume.affine)
        elif not isinstance(segmentation, Volume):
            segmentation = read_label(segmentation)
        if segmentation.shape != volume.shape or not np.allclose(segmentation.affine, volume.affine, atol=1e-3):
            segmentation = _on_grid_of(segmentation, volume)
        labels = self.model.plan.labels
        self._given = labels.to_classes(segmentation.data.reshape(volume.shape))
        self._forget()

    def predict(self) -> np.ndarray:
        """The segmentation now: ``[X, Y, Z]`` on the image's own grid, in file values. Asking changes nothing."""
        self._start()
        return self.model.plan.labels.to_values(self._result)

    def add_click(self, position: Sequence[float], label: str, space: str = "voxel") -> Box | None:
        """Click, and let the network answer.

        Args:
            position: a voxel of the image's grid, or a point in mm.
            label: name of the label that belongs there; ``"background"`` takes away.
            space: ``"voxel"``, ``"ras"`` or ``"lps"``.

        Returns:
            The smallest box, as slices into the image's grid, that holds all voxels that changed; None if none did.

        Raises:
            ClickError: if the point lies outside the image, or the label is unknown.
        """
        volume = self._require_image()
        index = self.model.plan.labels.index(label)
        voxel = to_voxel(position, space, volume.affine)
        if not np.isfinite(voxel).all() or not inside(voxel, volume.shape):
            raise ClickError(
                f"the click at {_point(position)} ({space}) is voxel {_point(voxel)}, outside the image of "
                f"{' x '.join(map(str, volume.shape))} voxels"
            )
        self._start()
        target = tuple(voxel_to_network(nearest_voxel(voxel), self._grid).tolist())
        click = PointClick(label, tuple(float(value) for value in position), space)
        del self._undone[:]
        return self._answer(click, target, index)

    def undo(self) -> Box | None:
        """Take the newest click back; returns the box that changed. Nothing happens without a click."""
        if not self._turns:
            return None
        turn = self._turns.pop()
        self._undone.append(turn)
        return self._put(turn, 0)

    def redo(self) -> Box | None:
        """Give back the click that was undone last; returns the box that changed."""
        if not self._undone:
            return None
        turn = self._undone.pop()
        self._turns.append(turn)
        return self._put(turn, 1)

    def reset(self) -> None:
        """Forget all clicks, and the segmentation that was given, if any; the image stays."""
        self._require_image()
        self._given = None
        self._forget()

    @property
    def clicks(self) -> list[PointClick]:
        """The clicks so far, as they were given."""
        return [turn.click for turn in self._turns]

    def probabilities(self, label: str | None = None) -> np.ndarray:
        """Probabilities on the image's own grid.

        Args:
            label: one name, background included; all classes without it.

        Returns:
            ``[X, Y, Z]`` float32 for one label, else ``[L + 1, X, Y, Z]``, the background first.
        """
        self._start()
        index = None if label is None else [self.model.plan.labels.index(label)]
        result = self._preprocess.probabilities_to_native(self._logits.float(), self._grid, index)
        return result if label is None else result[0]

    def uncertainty(self) -> np.ndarray:
        """``[X, Y, Z]`` float32 in [0, 1]: the entropy of the classes as a share of its largest possible value."""
        chances = self.probabilities()
        entropy = -(chances * np.log(np.maximum(chances, 1e-12))).sum(0)
        return entropy / np.float32(np.log(len(chances)))

    def save(self, path: str | Path) -> None:
        """Write the segmentation to a NIfTI file on the image's own grid."""
        write_label(path, self.predict(), self._require_image())

    def _require_image(self) -> Volume:
        if self._volume is None:
            raise DeepEditError("the session has no image yet; call set_image first")
        return self._volume

    def _forget(self) -> None:
        self._turns: list[_Turn] = []
        self._undone: list[_Turn] = []
        self._logits: Tensor | None = None

    def _start(self) -> None:
        """Make the state before the first click, if it is not there yet."""
        self._require_image()
        if self._logits is not None:
            return
        if self._given is None:
            self._logits = sliding_window(self.model, self._image, amp=self.amp).half()
            self._decided = self._decide()
            self._result = self._decided.copy()
            return
        classes = self.model.plan.labels.num_classes
        given = torch.from_numpy(self._given).to(self.model.device)
        on_grid = self._grid.labels_to_network(given, classes)
        one_hot = torch.stack([on_grid == index for index in range(classes)])
        self._logits = one_hot.half().mul_(2 * GIVEN_LOGIT).sub_(GIVEN_LOGIT)
        self._decided = self._decide()
        self._result = self._given.copy()

    def _decide(self) -> np.ndarray:
        return self._grid.labels_to_native(self._logits).cpu().numpy()

    def _answer(self, click: PointClick, voxel: tuple[int, int, int], label: int) -> Box | None:
        shape = self._image.shape[1:]
        start = window_around(voxel, shape, self._window)
        place = tuple(slice(max(a, 0), min(a + n, size)) for a, n, size in zip(start, self._window, shape, strict=True))
        turn = _Turn(click, voxel, label, place)
        previous = self._logits.argmax(0).to(torch.uint8)
        clicks = self._clicks([*self._turns, turn])
        answer = predict_window(self.model, self._image, clicks, previous, start, self._window, self.amp)

        channels = (slice(None), *place)
        before = self._logits[channels].clone()
        after = torch.lerp(before.float(), crop(answer, start, shape), self._fade(shape, place)).half()
        self._logits[channels] = after
        # Where the network's decision stays the same, so does the result, to the last voxel: a segmentation from
        # elsewhere may be finer than the network's grid.
        decided = self._decide()
        moved = decided != self._decided
        self._decided = decided
        turn.changed = bounding_box(moved & (decided != self._result))
        turn.logits = (before, after)
        if turn.changed is not None:
            old = self._result[turn.changed].copy()
            turn.classes = (old, np.where(moved[turn.changed], decided[turn.changed], old))
            self._result[turn.changed] = turn.classes[1]
        self._turns.append(turn)
        return turn.changed

    def _fade(self, shape: Sequence[int], place: Box) -> Tensor:
        """``[*place]``: how much a window's answer counts, 1 in its middle and less near rims within the volume."""
        weight = torch.ones((), device=self._image.device)
        for axis, (span, size) in enumerate(zip(place, shape, strict=True)):
            side = span.stop - span.start
            depth = torch.full((side,), float(side), device=weight.device)
            steps = torch.arange(side, device=weight.device) + 0.5
            if span.start > 0:
                depth = torch.minimum(depth, steps)
            if span.stop < size:
                depth = torch.minimum(depth, steps.flip(0))
            profile = (depth / (side / 8)).clamp(max=1)
            weight = weight * profile.view([-1 if dim == axis else 1 for dim in range(3)])
        return weight

    def _clicks(self, turns: Sequence[_Turn]) -> Clicks:
        device = self.model.device
        position = torch.tensor([turn.voxel for turn in turns], device=device).reshape(-1, 3)
        label = torch.tensor([turn.label for turn in turns], dtype=torch.int64, device=device)
        return Clicks(torch.zeros_like(label), label, position)

    def _put(self, turn: _Turn, side: int) -> Box | None:
        """Put back what was there before a turn (`side` 0) or after it (1)."""
        self._logits[(slice(None), *turn.place)] = turn.logits[side]
        self._decided = self._decide()
        if turn.changed is not None:
            self._result[turn.changed] = turn.classes[side]
        return turn.changed


def bounding_box(mask: np.ndarray) -> Box | None:
    """Smallest box, as slices, that holds all of a mask ``[X, Y, Z]``; None if it is empty."""
    spans = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(hit):
            return None
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(spans)


def _on_grid_of(segmentation: Volume, volume: Volume) -> Volume:
    """A label map read at the voxels of another grid, nearest neighbour; background beyond its own."""
    from scipy import ndimage

    matrix = np.linalg.solve(segmentation.affine, volume.affine)
    data = ndimage.affine_transform(
        segmentation.data.reshape(segmentation.shape),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=volume.shape,
        order=0,
        mode="constant",
        cval=0,
    )
    return Volume(data, volume.affine, volume.header)


def _point(position: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in np.asarray(position, dtype=float).round(1)) + ")"
