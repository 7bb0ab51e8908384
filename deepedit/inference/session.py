"""One image, asked about again and again: what a viewer talks to."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepedit.boxes import Box
from deepedit.errors import ClickError, ModelError
from deepedit.inference.history import Answered, Click, Locked, Unlocked
from deepedit.inference.initial import initial_classes
from deepedit.inference.locate import locate_click, refuse_locked
from deepedit.inference.locks import Locks
from deepedit.inference.segmented import SegmentedImage
from deepedit.inference.session_file import read_session, write_session
from deepedit.inference.timeline import Timeline
from deepedit.inference.watch import IsCancelled, OnProgress, Watch
from deepedit.io.click_files import PointClick
from deepedit.network.checkpoint import load_model
from deepedit.network.inputs import pick_device
from deepedit.volume import Volume


class InteractiveSession(SegmentedImage):
    """Segment one image after another, automatically, from clicks, or by correcting a segmentation.

    A click is answered by the network over one window, the one with the click in its middle: for a volume no larger
    than the window that is all of it, in a larger one the rest keeps its result. The network sees all clicks so far
    and, as previous segmentation, the result before the newest click. A model with a refiner changes an automatic
    result near the click only, see `deepedit.inference.refine`; what else an answer may change is decided by
    `deepedit.inference.merge`. On the image's own grid a clicked voxel has its label from the click on.

    In a volume of several windows a first click is answered before the automatic result of the other windows is worked
    out: see `is_partial`.

    In memory: on the network's grid the image (float32), the logits (float16, one channel a class) and their decision
    (a byte a voxel); on the image's grid the result and the network's decision (a byte a voxel each); and for each step
    that can be undone or redone the logits of its windows. Of those steps the newest are held, up to `KEPT_BYTES`; once
    there are more, the state before the first step is held beside them, and undoing an older step answers those before
    it anew. The image itself is not kept.

    `notes` has a line for each thing worth knowing of the files and clicks since `set_image`, as where a header
    contradicts itself.

    Args:
        model: in evaluation mode, on the device to use. On a GPU later changes of its weights are not seen.
        amp: precision, ``"auto"`` or ``"off"``.
        overlap, skip_air: of the windows of a large volume, see `sliding_window`.
        tta: test-time augmentation, see `predict_alone`: twice the time for a click, and hardly a better answer.

    Methods that ask the network take `on_progress` and `cancelled`: the one is called with the windows done and needed
    in all after each pass, the other is asked before each, and where it says yes the call raises
    `deepedit.errors.Cancelled` and leaves the session as it was.

    Example::

        session = InteractiveSession.from_checkpoint("run/model.pt")
        session.set_image("case.nii.gz")
        labels = session.predict()
        session.add_click((64, 40, 31), label="spleen")
        session.save("segmentation.nii.gz")
    """

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "auto", **options: Any) -> "InteractiveSession":
        """A session with the model of a file.

        Args:
            path: of the model.
            device: ``"auto"`` takes a GPU where there is one.
            options: as of the class: `amp`, `overlap`, `skip_air`, `tta`.
        """
        return cls(load_model(path, pick_device(device)), **options)

    def set_image(self, image: str | Path | Volume | np.ndarray, affine: np.ndarray | None = None) -> None:
        """Start over with another image.

        Args:
            image: a file, the folder of a DICOM series, a volume, or an array ``[X, Y, Z]`` or ``[C, X, Y, Z]``.
            affine: ``[4, 4]``, voxels to RAS mm, of an array; 1 mm and RAS without it.

        A file is read as ``model.plan.reading`` says; to choose otherwise, give what `read_volume` returns.
        """
        volume, notes = self._read(image, affine)
        self._preprocess.check(volume)
        # The memory of the image before is needed for the next one.
        self._volume, self._timeline, self.notes, self._segmentation_notes = None, None, notes, []
        self._open(volume)

    def set_segmentation(
        self,
        segmentation: str | Path | Volume | np.ndarray,
        mapping: Mapping[int, str] | None = None,
        same_grid: bool = False,
        locked: Iterable[str] = (),
    ) -> None:
        """Start over from an initial segmentation of this image, in file values.

        Args:
            segmentation: a file, a volume, or an array on the image's grid. A file or volume on another grid is
                brought to the image's by the two affines.
            mapping: names of labels, or ``"background"``, for values that are not those of the model's labels, as
                ``{255: "spleen"}``. Other values of no label count as background; `notes` then tells which.
            same_grid: take it voxel by voxel, whatever its affine says.
            locked: labels that are approved from the start, as by `lock`, but for undoing that.

        Raises:
            FileError: if it cannot be read, is no label map, has foreground and none of a known label, does not lie
                on the image, or is an array of another shape.
            ClickError: if a label in `mapping` is unknown.
            ModelError: if the model takes no previous segmentation, as one imported from MONAI does not: its answer to
                the first click would replace the initial segmentation instead of correcting it.
        """
        if not self.model.plan.previous:
            raise ModelError(
                "the model takes no previous segmentation, so it cannot correct one; import it with --widen and "
                "fine-tune it, or leave the segmentation out and click"
            )
        plan = self.model.plan
        image, scene = self._require_image(), self._require_timeline().scene
        notes: list[str] = []
        initial = initial_classes(segmentation, image, plan.labels, plan.reading, notes.append, mapping, same_grid)
        classes = frozenset(plan.labels.index(label) for label in locked)
        locks = Locks.of_labels(classes, initial, scene.grid, scene.num_classes, scene.image) if classes else None
        self._start_over(initial, notes, locks)

    def add_click(
        self,
        position: Sequence[float],
        label: str,
        space: str = "voxel",
        on_progress: OnProgress | None = None,
        cancelled: IsCancelled | None = None,
    ) -> Box | None:
        """Click, and let the network answer.

        Args:
            position: a voxel of the image's grid, or a point in mm.
            label: name of the label that belongs there; ``"background"`` takes away.
            space: ``"voxel"``, ``"ras"`` or ``"lps"``.

        Returns:
            The smallest box, as slices into the image's grid, that holds all voxels that changed; None if none did.

        Raises:
            ClickError: if the point lies outside the image, the label is unknown, or a lock forbids it.
        """
        return self.add_clicks([(position, label)], space, on_progress, cancelled)

    def add_clicks(
        self,
        clicks: Iterable[tuple[Sequence[float], str]],
        space: str = "voxel",
        on_progress: OnProgress | None = None,
        cancelled: IsCancelled | None = None,
    ) -> Box | None:
        """Click several times, as in a scribble, and let the network answer all of it at once.

        That is one step to undo. A window of the network answers all clicks that lie well within it.

        Args:
            clicks: position and label of each, see `add_click`.
            space: of all positions.

        Returns:
            As of `add_click`.

        Raises:
            ClickError: as of `add_click`; then none of them is added.
        """
        timeline = self._require_timeline()
        step = Answered(tuple(self._click(position, label, space) for position, label in clicks))
        return timeline.make(step, Watch(on_progress, cancelled)) if step.clicks else None

    def remove_click(
        self, number: int, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None
    ) -> Box | None:
        """Take any click away; those after it are answered anew, as if it had never been.

        Voxels that were locked after it stay as they were locked.

        Args:
            number: of the click, its place in `clicks`.

        Returns:
            The smallest box that holds all voxels that changed; None if none did.

        Raises:
            ClickError: if there is no such click.
        """
        timeline = self._require_timeline()
        count = len(self.clicks)
        if not 0 <= number < count:
            raise ClickError(f"there is no click {number}; there are {count}, counted from 0")
        return timeline.remove(number, Watch(on_progress, cancelled))

    def lock(self, label: str, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None) -> None:
        """Approve a label: no answer takes a voxel from it or gives it one, until it is unlocked.

        Args:
            label: a name; the background can be locked too.
        """
        index = self.model.plan.labels.index(label)
        timeline = self._require_timeline()
        state = timeline.whole(Watch(on_progress, cancelled))
        if index not in self._locked():
            timeline.make(Locked.of(index, state.result == index))

    def unlock(self, label: str) -> None:
        """Let answers change a label again."""
        index = self.model.plan.labels.index(label)
        timeline = self._require_timeline()
        if index in self._locked():
            timeline.make(Unlocked(index))

    def undo(self, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None) -> Box | None:
        """Take the newest step back: a click, clicks that were added together, or a lock.

        Returns:
            The box that changed. Nothing happens where there is no step.
        """
        return None if self._timeline is None else self._timeline.undo(Watch(on_progress, cancelled))

    def redo(self, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None) -> Box | None:
        """Make the step again that was undone last; returns the box that changed."""
        return None if self._timeline is None else self._timeline.redo(Watch(on_progress, cancelled))

    def reset(self) -> None:
        """Forget all clicks and locks, and the initial segmentation, if there is one; the image stays."""
        timeline = self._require_timeline()
        if timeline.scene.initial is None:
            timeline.reset()
        else:
            self._start_over(None, [])

    def take_back(
        self, steps: int, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None
    ) -> None:
        """Take all but the first steps back, for good. If it is cancelled, some of them may be, and the rest are not.

        Args:
            steps: how many stay.

        Raises:
            ClickError: if there are not so many.
        """
        self._steps_made(steps).back_to(steps, Watch(on_progress, cancelled))

    def fork(
        self, steps: int | None, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None
    ) -> "InteractiveSession":
        """Another session on the same image, which goes on by itself. The image is in memory once for both.

        Args:
            steps: how many of the first steps it takes over, with the automatic result or the initial segmentation that
                they began with; None: it begins with nothing but the image.

        Raises:
            ClickError: if there are not so many.
        """
        timeline, other = self._steps_made(steps or 0), copy.copy(self)
        other.notes, other._segmentation_notes = list(self.notes), list(self._segmentation_notes)
        if steps is None:
            other._start_over(None, [])
        else:
            other._timeline = timeline.fork(steps, Watch(on_progress, cancelled))
        return other

    def _steps_made(self, count: int) -> Timeline:
        """The timeline, if so many steps were made.

        Raises:
            ClickError: if not.
        """
        timeline = self._require_timeline()
        if not 0 <= count <= len(timeline.done):
            raise ClickError(f"there are {len(timeline.done)} steps, so {count} of them cannot be kept")
        return timeline

    def save_session(
        self, path: str | Path, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None
    ) -> None:
        """Write all that it takes to go on later: clicks, locks, the initial segmentation, the result, and its logits.

        The image and the model are not in the file.
        """
        timeline = self._require_timeline()
        timeline.whole(Watch(on_progress, cancelled))
        write_session(path, timeline, self._digest, self.model)

    def load_session(
        self, path: str | Path, image: str | Path | Volume | np.ndarray, affine: np.ndarray | None = None
    ) -> None:
        """Go on from a file that `save_session` wrote.

        What is shown, and what comes next, is the same as there; steps that are undone or redone are answered anew.

        Args:
            image, affine: as of `set_image`.

        Raises:
            FileError: if it is no session, is damaged, or belongs to another image or another model.
            ClickError: if a click in it lies outside the image or is for an unknown label.

            The session then stays as it was.
        """
        volume, notes = self._read(image, affine)
        other = copy.copy(self)
        other.notes, other._segmentation_notes = notes, []
        other._open(volume)
        read_session(path, other._require_timeline(), other._digest, self.model, other._located)
        self.__dict__.update(other.__dict__)

    def _click(self, position: Sequence[float], label: str, space: str) -> Click:
        """A click, checked."""
        try:
            x, y, z = (float(value) for value in position)
        except (TypeError, ValueError, OverflowError) as error:
            raise ClickError(f"a click is three numbers; got {position!r}") from error
        click = self._located(PointClick(label, (x, y, z), space))
        state = self._require_timeline().state
        if state is not None:
            refuse_locked(click, state, self.model.plan.labels.class_names)
        return click

    def _located(self, given: PointClick) -> Click:
        grid = self._require_timeline().scene.grid
        return locate_click(given, self._require_image(), grid, self._preprocess, self._note)
