"""One image, asked about again and again: what a viewer talks to."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepedit.boxes import Box
from deepedit.defaults import OVERLAP
from deepedit.errors import ClickError, DeepEditError, ModelError
from deepedit.files import one_line
from deepedit.inference.history import Answered, Click, Locked, Start, Step, Unlocked, clicks_of
from deepedit.inference.initial import initial_classes
from deepedit.inference.locate import locate_click, refuse_locked
from deepedit.inference.locks import Locks
from deepedit.inference.memory import memory_of, refuse_too_large
from deepedit.inference.scene import Scene
from deepedit.inference.session_file import image_digest, read_session, write_session
from deepedit.inference.sliding_window import window_shape
from deepedit.inference.timeline import Timeline
from deepedit.inference.watch import IsCancelled, OnProgress, Watch
from deepedit.io.click_files import PointClick
from deepedit.io.codes import Term
from deepedit.io.volumes import read_volume, write_label
from deepedit.network.checkpoint import Model, load_model
from deepedit.network.inputs import at_precision, pick_device
from deepedit.transforms.preprocess import Preprocessor
from deepedit.volume import Volume


class LabelVolume(NamedTuple):
    """The volume of a label in ml, and by how much the newest click changed it."""

    ml: float
    change: float


class InteractiveSession:
    """Segment one image after another, automatically, from clicks, or by correcting a segmentation.

    A click is answered by the network over one window, the one with the click in its middle: for a volume no larger
    than the window that is all of it, in a larger one the rest keeps its result. The network sees all clicks so far
    and, as previous segmentation, the result before the newest click. What its answer may change is decided by
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

    def __init__(
        self,
        model: Model,
        amp: str = "auto",
        overlap: float = OVERLAP,
        skip_air: bool = False,
        tta: bool = False,
    ) -> None:
        self.model = model
        self._answering = replace(model, network=at_precision(model.network, model.device, amp))
        self._passes: dict[str, Any] = {"amp": amp, "overlap": overlap, "skip_air": skip_air, "tta": tta}
        self._preprocess = Preprocessor(model.plan, model.device)
        self._volume: Volume | None = None
        self._timeline: Timeline | None = None
        self.notes: list[str] = []
        self._segmentation_notes: list[str] = []

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

    def predict(self, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None) -> np.ndarray:
        """The segmentation now: ``[X, Y, Z]`` on the image's own grid, in file values. Asking changes nothing."""
        return self.model.plan.labels.to_values(self.classes(on_progress, cancelled))

    def classes(self, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None) -> np.ndarray:
        """As `predict`, in class indices, and not a copy: later clicks change it, and nobody else may."""
        return self._require_timeline().whole(Watch(on_progress, cancelled)).result

    @property
    def is_partial(self) -> bool:
        """Whether clicks have been answered in their windows while the automatic result of others is still missing.

        `predict`, and all that tells of the whole volume, works that out and then answers the clicks anew, so that the
        result is the same as if the automatic result had been there before the first click.
        """
        return self._timeline is not None and self._timeline.is_partial

    def shown(self, box: Box | None = None) -> np.ndarray:
        """What is worked out so far, in file values; background where nothing is. Never asks the network.

        Args:
            box: slices into the image's grid, as of `add_click`; all of it unless given.
        """
        state = self._require_timeline().state
        result = np.broadcast_to(np.uint8(0), self._require_image().shape) if state is None else state.result
        return self.model.plan.labels.to_values(result if box is None else result[box])

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

    @property
    def locked(self) -> list[str]:
        """Names of the labels that are locked."""
        names = self.model.plan.labels.class_names
        return [names[index] for index in sorted(self._locked())]

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
        """
        self._require_timeline().back_to(steps, Watch(on_progress, cancelled))

    def fork(
        self, steps: int | None, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None
    ) -> "InteractiveSession":
        """Another session on the same image, which goes on by itself. The image is in memory once for both.

        Args:
            steps: how many of the first steps it takes over, with the automatic result or the initial segmentation that
                they began with; None: it begins with nothing but the image.
        """
        timeline, other = self._require_timeline(), copy.copy(self)
        other.notes, other._segmentation_notes = list(self.notes), list(self._segmentation_notes)
        if steps is None:
            other._start_over(None, [])
        else:
            other._timeline = timeline.fork(steps, Watch(on_progress, cancelled))
        return other

    @property
    def image(self) -> Volume:
        """The grid and the header of the image, without its voxels."""
        return self._require_image()

    @property
    def memory(self) -> dict[int, int]:
        """The bytes of each piece of memory that the session holds, by its address; a fork may hold some of them too.
        The model's are not among them."""
        return {} if self._timeline is None else memory_of(self._timeline)

    @property
    def clicks(self) -> list[PointClick]:
        """The clicks so far, as they were given."""
        return [] if self._timeline is None else [click.given for click in clicks_of(self._timeline.done)]

    @property
    def steps(self) -> list[Step]:
        """What was done so far and not undone, in order: clicks that were answered together, locks, and unlocks."""
        return [] if self._timeline is None else [entry.step for entry in self._timeline.done]

    @property
    def start(self) -> Start:
        """What the steps began with."""
        scene = self._require_timeline().scene
        names = self.model.plan.labels.class_names
        locked = [names[index] for index in sorted(scene.locks.classes)] if scene.locks else []
        passes = {"amp": scene.amp, "overlap": scene.overlap, "skip_air": scene.skip_air, "tta": scene.tta}
        return Start(scene.initial, tuple(locked), passes)

    @property
    def obeyed_alone(self) -> bool | None:
        """Whether the network's answer to the newest click, before anything was merged with it, had the clicked label
        at the click's voxel; None where the newest step is no click."""
        done = [] if self._timeline is None else self._timeline.done
        return bool(done[-1].change.heard[-1]) if done and done[-1].change.heard else None

    def probabilities(
        self, label: str | None = None, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None
    ) -> np.ndarray:
        """Probabilities on the image's own grid.

        Args:
            label: one name, background included; all classes without it.

        Returns:
            ``[X, Y, Z]`` float32 for one label, else ``[L + 1, X, Y, Z]``, the background first. Largest for the
            label that `predict` shows.
        """
        timeline = self._require_timeline()
        state = timeline.whole(Watch(on_progress, cancelled))
        index = None if label is None else [self.model.plan.labels.index(label)]
        result = self._preprocess.probabilities_to_native(state.logits, timeline.scene.grid, index, state.result)
        return result if label is None else result[0]

    def uncertainty(self, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None) -> np.ndarray:
        """``[X, Y, Z]`` float32 in [0, 1]: the entropy of the classes as a share of its largest possible value."""
        timeline = self._require_timeline()
        state = timeline.whole(Watch(on_progress, cancelled))
        return self._preprocess.uncertainty_to_native(state.logits, timeline.scene.grid)

    def volumes(
        self, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None
    ) -> dict[str, LabelVolume]:
        """The volume of each label in ml, and by how much the newest step changed it."""
        result = self._require_timeline().whole(Watch(on_progress, cancelled)).result
        return self.volumes_of(np.bincount(result.ravel(), minlength=self.model.plan.labels.num_classes))

    def volumes_of(self, counts: Sequence[int] | np.ndarray) -> dict[str, LabelVolume]:
        """As `volumes`, for whoever has counted the voxels of each class already. Never asks the network."""
        timeline, labels = self._require_timeline(), self.model.plan.labels
        voxel = abs(np.linalg.det(self._require_image().affine[:3, :3])) / 1000
        changes = timeline.done[-1].change.voxels if timeline.done else (0,) * labels.num_classes
        return {
            name: LabelVolume(float(counts[index] * voxel), float(changes[index] * voxel))
            for index, name in enumerate(labels.names, start=1)
        }

    def save(self, path: str | Path, terms: Mapping[str, Term] | None = None) -> None:
        """Write the segmentation on the image's own grid; the ending of the name says in which format.

        A ``.seg.nrrd`` has all labels of the model as segments, with their names; so has a ``.dcm``, which is a DICOM
        SEG, and needs an image that was read from a DICOM series.

        Args:
            terms: coded terms of labels for a DICOM SEG, as `deepedit.io.codes.read_codes` reads them.
        """
        labels = self.model.plan.labels
        names = dict(zip(labels.values, labels.names, strict=True))
        timeline = self._require_timeline()
        automatic = not timeline.done and timeline.scene.initial is None
        write_label(path, self.predict(), self._require_image(), names, terms, automatic)

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

    def _read(self, image: str | Path | Volume | np.ndarray, affine: np.ndarray | None) -> tuple[Volume, list[str]]:
        """A volume, and what is worth knowing of its file."""
        if isinstance(image, np.ndarray):
            return Volume(image, np.eye(4) if affine is None else affine), []
        if isinstance(image, Volume):
            return image, []
        reading = self.model.plan.reading
        volume = read_volume(image, reading.affine, reading.units)
        return volume, [f"{one_line(image)}: {note}" for note in volume.notes]

    def _open(self, volume: Volume) -> None:
        refuse_too_large(self._preprocess.grid(volume.shape, volume.affine), self.model)
        tensor, grid = self._preprocess(volume)
        window = window_shape(tensor.shape[1:], self.model.plan.patch_size, self.model.network.config.divisor)
        self._digest = image_digest(volume)
        # Only the grid is still needed: the header to write results with, not the voxels.
        self._volume = replace(volume, data=np.broadcast_to(np.uint8(0), volume.shape))
        self._timeline = Timeline(Scene(self._answering, tensor, grid, window, **self._passes))

    def _start_over(self, initial: np.ndarray | None, notes: list[str], locks: Locks | None = None) -> None:
        """Begin anew from an initial segmentation, or without; `notes` are of that."""
        self._timeline = Timeline(replace(self._require_timeline().scene, initial=initial, locks=locks))
        if locks is not None:  # clicks are held against what is shown
            self._require_timeline().whole()
        self.notes = [note for note in self.notes if note not in self._segmentation_notes]
        self._segmentation_notes = notes
        for note in notes:
            self._note(note)

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _require_image(self) -> Volume:
        if self._volume is None:
            raise DeepEditError("the session has no image yet; call set_image first")
        return self._volume

    def _require_timeline(self) -> Timeline:
        self._require_image()
        assert self._timeline is not None
        return self._timeline

    def _locked(self) -> frozenset[int]:
        """Class indices of the labels that are locked."""
        state = None if self._timeline is None else self._timeline.state
        return frozenset() if state is None or state.locks is None else state.locks.classes

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
