"""One image, asked about again and again: what a viewer talks to."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepedit.clicks import Clicks, obey_clicks
from deepedit.devices import upload
from deepedit.errors import ClickError, DeepEditError, ModelError
from deepedit.files import one_line
from deepedit.inference.given import add_evidence, given_classes
from deepedit.inference.memory import refuse_too_large
from deepedit.inference.sliding_window import (
    crop,
    fade_weight,
    newest_weight,
    predict_alone,
    sliding_window,
    window_around,
    window_shape,
)
from deepedit.inference.turn import Turn, bounding_box, within
from deepedit.io.click_files import PointClick
from deepedit.io.nifti import read_volume, write_label
from deepedit.io.nifti_affine import is_placed
from deepedit.network.checkpoint import Model, load_model
from deepedit.network.inputs import at_precision, pick_device
from deepedit.transforms.decide import class_type
from deepedit.transforms.geometry import Box, inside, nearest_voxel, to_voxel
from deepedit.transforms.preprocess import Preprocessor
from deepedit.volume import Volume

GIVEN_LOGIT = 4.0
"""How sure a segmentation from elsewhere counts where a window fades out over it."""


class InteractiveSession:
    """Segment one image after another, automatically, from clicks, or by correcting a segmentation.

    A click is answered by the network over one window, the one with the click in its middle: for a volume no larger
    than the window that is all of it, in a larger one the rest keeps its result. The network sees all clicks so far
    and, as previous segmentation, the result before the newest click; it looks twice, see `predict_alone`. Where an
    earlier click is nearer, most of the result before is kept, see `newest_weight`. A segmentation that was given, and
    that the network largely agrees with, is overruled only near the clicks or where the network is sure. As a last
    resort a clicked voxel that the network leaves wrong takes its label all the same, see `obey_clicks`.

    In memory: on the network's grid the image (float32), the logits (float16, one channel a class), their decision and
    a segmentation that was given (a byte a voxel each); on the image's grid the result and the network's decision (a
    byte a voxel each); and for each click that can be undone or redone the logits of one window and the classes in the
    box that changed. The image itself is not kept.

    `notes` has a line for each thing worth knowing of the files and clicks since `set_image`, as where a header
    contradicts itself.

    Args:
        model: in evaluation mode, on the device to use. On a GPU later changes of its weights are not seen.
        amp: precision, ``"auto"`` or ``"off"``.
        progress: show a bar while many windows are worked through.
        overlap, skip_air: of the windows of a large volume, see `sliding_window`.
        look_once: answer clicks in half of the time, and a little worse, see `predict_alone`.

    Example::

        session = InteractiveSession.from_checkpoint("run/model.pt")
        session.set_image("case.nii.gz")
        labels = session.predict()
        session.add_click((64, 40, 31), label="spleen")
        session.save("segmentation.nii.gz")
    """

    def __init__(
        self,
        model: Model,
        amp: str = "auto",
        progress: bool = False,
        overlap: float = 0.5,
        skip_air: bool = False,
        look_once: bool = False,
    ) -> None:
        self.model = model
        self._answering = replace(model, network=at_precision(model.network, model.device, amp))
        self._pass = {"amp": amp, "look_once": look_once}
        self._passes = {**self._pass, "progress": progress, "overlap": overlap, "skip_air": skip_air}
        self._preprocess = Preprocessor(model.plan, model.device)
        self._volume: Volume | None = None
        self.notes: list[str] = []
        self._forget()

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "auto", **options: Any) -> "InteractiveSession":
        """A session with the model of a file.

        Args:
            path: of the model.
            device: ``"auto"`` takes a GPU where there is one.
            options: as of the class: `amp`, `progress`, `overlap`, `skip_air`, `look_once`.
        """
        return cls(load_model(path, pick_device(device)), **options)

    def set_image(self, image: str | Path | Volume | np.ndarray, affine: np.ndarray | None = None) -> None:
        """Start over with another image.

        Args:
            image: a file, a volume, or an array ``[X, Y, Z]`` or ``[C, X, Y, Z]``.
            affine: ``[4, 4]``, voxels to RAS mm, of an array; 1 mm and RAS without it.

        A file is read as ``model.plan.reading`` says; to choose otherwise, give what `read_volume` returns.
        """
        notes: list[str] = []
        if isinstance(image, np.ndarray):
            image = Volume(image, np.eye(4) if affine is None else affine)
        elif not isinstance(image, Volume):
            name, reading = one_line(image), self.model.plan.reading
            image = read_volume(image, reading.affine, reading.units)
            notes = [f"{name}: {note}" for note in image.notes]
        self._volume, self._image, self.notes = None, None, notes
        self._forget()
        refuse_too_large(self._preprocess.grid(image.shape, image.affine), self.model)
        self._image, self._grid = self._preprocess(image)
        # Only the grid is still needed: the header to write results with, not the voxels.
        self._volume = replace(image, data=np.broadcast_to(np.uint8(0), image.shape))
        self._window = window_shape(
            self._image.shape[1:], self.model.plan.patch_size, self.model.network.config.divisor
        )

    def set_segmentation(
        self,
        segmentation: str | Path | Volume | np.ndarray,
        mapping: Mapping[int, str] | None = None,
        same_grid: bool = False,
    ) -> None:
        """Start over from a segmentation of this image, in file values.

        Args:
            segmentation: a file, a volume, or an array on the image's grid. A file or volume on another grid is
                brought to the image's by the two affines.
            mapping: names of labels, or ``"background"``, for values that are not those of the model's labels, as
                ``{255: "spleen"}``. Other values of no label count as background; `notes` then tells which.
            same_grid: take it voxel by voxel, whatever its affine says.

        Raises:
            FileError: if it cannot be read, is no label map, has foreground and none of a known label, does not lie
                on the image, or is an array of another shape.
            ClickError: if a label in `mapping` is unknown.
            ModelError: if the model takes no previous segmentation, as one imported from MONAI does not: its answer to
                the first click would replace the given segmentation instead of correcting it.
        """
        if not self.model.plan.previous:
            raise ModelError(
                "the model takes no previous segmentation, so it cannot correct one; import it with --widen and "
                "fine-tune it, or leave the segmentation out and click"
            )
        plan = self.model.plan
        image = self._require_image()
        given = given_classes(segmentation, image, plan.labels, plan.reading, self._note, mapping, same_grid)
        self._forget()
        self._given = given

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
        if np.shape(position) != (3,):
            raise ClickError(f"a click is three numbers; got {position!r}")
        voxel = to_voxel(position, space, volume.affine)
        if space != "voxel" and not is_placed(volume.header):
            self._note(
                "a click in mm, and the image's header says neither by a qform nor by an sform where its voxels lie: "
                "its middle is taken to be at 0; check the result, or click on voxels"
            )
        # Clipped first: what is far outside does not fit into an integer.
        if not np.isfinite(voxel).all() or not inside(voxel.clip(-1, max(volume.shape)), volume.shape):
            place = f"voxel {_point(voxel)} lies"
            if space != "voxel":
                place = f"{_point(position)} ({space}) is voxel {_point(voxel)},"
            raise ClickError(
                f"the click at {place} outside the image of {' x '.join(map(str, volume.shape))} voxels; "
                "check its position and its space"
            )
        self._start()
        target = tuple(self._preprocess.click(nearest_voxel(voxel), self._grid).tolist())
        click = PointClick(label, tuple(float(value) for value in position), space)
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
        if self._given is not None:
            self._forget()
        while self._turns:  # what was before the first click need not be worked out again
            self.undo()
        self._undone.clear()

    @property
    def clicks(self) -> list[PointClick]:
        """The clicks so far, as they were given."""
        return [turn.click for turn in self._turns]

    def probabilities(self, label: str | None = None) -> np.ndarray:
        """Probabilities on the image's own grid.

        Args:
            label: one name, background included; all classes without it.

        Returns:
            ``[X, Y, Z]`` float32 for one label, else ``[L + 1, X, Y, Z]``, the background first. Largest for the
            label that `predict` shows, but where a segmentation that was given is finer than the network's grid.
        """
        self._start()
        index = None if label is None else [self.model.plan.labels.index(label)]
        result = self._preprocess.probabilities_to_native(self._logits, self._grid, index)
        return result if label is None else result[0]

    def uncertainty(self) -> np.ndarray:
        """``[X, Y, Z]`` float32 in [0, 1]: the entropy of the classes as a share of its largest possible value."""
        self._start()
        return self._preprocess.uncertainty_to_native(self._logits, self._grid)

    def save(self, path: str | Path) -> None:
        """Write the segmentation to a NIfTI file on the image's own grid."""
        write_label(path, self.predict(), self._require_image())

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _require_image(self) -> Volume:
        if self._volume is None:
            raise DeepEditError("the session has no image yet; call set_image first")
        return self._volume

    def _forget(self) -> None:
        self._given: np.ndarray | None = None
        self._trusted: Tensor | None = None
        self._turns: list[Turn] = []
        self._undone: list[Turn] = []
        self._logits: Tensor | None = None

    def _start(self) -> None:
        """Make the state before the first click, if it is not there yet."""
        self._require_image()
        if self._logits is not None:
            return
        classes = self.model.plan.labels.num_classes
        if self._given is None:
            logits = sliding_window(self._answering, self._image, **self._passes).half().to(self.model.device)
        else:
            given = torch.from_numpy(self._given.astype(np.uint8 if classes <= 256 else np.int16))
            on_grid = self._grid.labels_to_network(given.to(self.model.device), classes)
            self._trusted = on_grid
            logits = torch.stack([(on_grid == index).half() for index in range(classes)])
            logits.mul_(2 * GIVEN_LOGIT).sub_(GIVEN_LOGIT)
        self._classes = logits.argmax(0).to(class_type(classes))
        self._decided = self._grid.labels_to_native(logits).cpu().numpy()
        self._result = (self._decided if self._given is None else self._given).copy()
        self._logits = logits

    def _answer(self, click: PointClick, voxel: tuple[int, int, int], label: int) -> Box | None:
        shape = self._image.shape[1:]
        start = window_around(voxel, shape, self._window)
        place = tuple(slice(max(a, 0), min(a + n, size)) for a, n, size in zip(start, self._window, shape, strict=True))
        turn = Turn(click, voxel, label, place, self._grid.native_box(place))
        clicks = self._clicks([*self._turns, turn])
        answer = predict_alone(self._answering, self._image, clicks, self._classes, start, self._window, **self._pass)

        before = self._logits[(slice(None), *place)].clone()
        origin = upload([span.start for span in place], before.device)
        here = Clicks(clicks.batch, clicks.label, clicks.position - origin, clicks.valid)
        weight = fade_weight(place, shape, before.device)
        if not self.model.plan.plain_answers:
            newest, *earlier = (
                [index - span.start for index, span in zip(each, place, strict=True)]
                for each in dict.fromkeys((voxel, *(turn.voxel for turn in self._turns)))
            )
            weight = weight * newest_weight(weight.shape, newest, earlier, before.device)
        after = torch.lerp(before.float(), crop(answer, start, shape), weight)
        if self._trusted is not None:
            add_evidence(after, self._trusted[place], here, weight)
        if not self.model.plan.plain_answers:
            obey_clicks(after[None], here)
        turn.logits = (before, after.half())
        old, shown = self._decided[turn.box].copy(), self._result[turn.box]
        new = self._put_logits(turn, 1)
        # Where the network's decision stays the same, so does the result, to the last voxel: a segmentation from
        # elsewhere may be finer than the network's grid.
        changed = bounding_box((old != new) & (new != shown))
        if changed is not None:
            classes = np.where(old != new, new, shown)[changed]
            turn.classes = (shown[changed].copy(), classes)
            turn.changed = within(turn.box, changed)
            self._result[turn.changed] = classes
        self._turns.append(turn)
        self._undone.clear()
        return turn.changed

    def _clicks(self, turns: Sequence[Turn]) -> Clicks:
        """All clicks; of several on one voxel the newest, as two labels there would contradict each other."""
        newest = {turn.voxel: turn.label for turn in turns}
        device = self.model.device
        position = upload(list(newest), device, torch.int64).reshape(-1, 3)
        label = upload(list(newest.values()), device, torch.int64)
        return Clicks(torch.zeros_like(label), label, position)

    def _put(self, turn: Turn, side: int) -> Box | None:
        """Put back what was there before a turn (`side` 0) or after it (1)."""
        self._put_logits(turn, side)
        if turn.changed is not None:
            self._result[turn.changed] = turn.classes[side]
        return turn.changed

    def _put_logits(self, turn: Turn, side: int) -> np.ndarray:
        """Put a turn's logits in place; returns the network's decision in the turn's box of the image's grid."""
        self._logits[(slice(None), *turn.place)] = turn.logits[side]
        self._classes[turn.place] = turn.logits[side].argmax(0).to(self._classes.dtype)
        if min(span.stop - span.start for span in turn.box) > 0:
            self._decided[turn.box] = self._grid.labels_to_native(self._logits, turn.box).cpu().numpy()
        return self._decided[turn.box]


def _point(position: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in np.asarray(position, dtype=float).round(1)) + ")"
