"""What a session shows and knows, without changing it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepedit.boxes import Box
from deepedit.inference.history import Start, Step, clicks_of
from deepedit.inference.opened import OpenedImage
from deepedit.inference.watch import IsCancelled, OnProgress, Watch
from deepedit.io.click_files import PointClick
from deepedit.io.codes import Term
from deepedit.io.volumes import write_label


class LabelVolume(NamedTuple):
    """The volume of a label in ml, and by how much the newest click changed it."""

    ml: float
    change: float


class SegmentedImage(OpenedImage):
    """The segmentation of an image as it is now: the result, probabilities and volumes, and the steps that led to it.

    Methods that ask the network take `on_progress` and `cancelled`, as of
    `deepedit.inference.session.InteractiveSession`.
    """

    def predict(self, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None) -> np.ndarray:
        """The segmentation now: ``[X, Y, Z]`` on the image's own grid, in file values. Asking changes nothing."""
        return self.model.plan.labels.to_values(self.classes(on_progress, cancelled))

    def classes(self, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None) -> np.ndarray:
        """As `predict`, in class indices, and not a copy: later clicks change it, and nobody else may."""
        return self._require_timeline().whole(Watch(on_progress, cancelled)).result

    def shown(self, box: Box | None = None) -> np.ndarray:
        """What is worked out so far, in file values; background where nothing is. Never asks the network.

        Args:
            box: slices into the image's grid, as of `add_click`; all of it unless given.
        """
        state = self._require_timeline().state
        result = np.broadcast_to(np.uint8(0), self._require_image().shape) if state is None else state.result
        return self.model.plan.labels.to_values(result if box is None else result[box])

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
        """Whether the network's answer to the newest click, refined if the model can, but before anything was merged
        with it, had the clicked label at the click's voxel; None where the newest step is no click."""
        done = [] if self._timeline is None else self._timeline.done
        return bool(done[-1].change.heard[-1]) if done and done[-1].change.heard else None

    @property
    def locked(self) -> list[str]:
        """Names of the labels that are locked."""
        names = self.model.plan.labels.class_names
        return [names[index] for index in sorted(self._locked())]

    def _locked(self) -> frozenset[int]:
        """Class indices of the labels that are locked."""
        state = None if self._timeline is None else self._timeline.state
        return frozenset() if state is None or state.locks is None else state.locks.classes
