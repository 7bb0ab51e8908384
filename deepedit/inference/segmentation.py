"""The segmentation of one image: what is shown, the logits behind it, and how an answer or a lock changes them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from deepedit.boxes import Box, bounding_box, hull, is_empty, three, within
from deepedit.clicks import Clicks
from deepedit.clicks.enforce import Places
from deepedit.devices import upload
from deepedit.inference.history import Answered, Change, Click, Locked, Step, Unlocked
from deepedit.inference.locks import Locks
from deepedit.inference.merge import keep_locked, logits_of_initial, merge, rim_weight, to_keep
from deepedit.inference.refine import refined
from deepedit.inference.scene import Scene, windows_of
from deepedit.inference.sliding_window import (
    AIR_LOGIT,
    Triple,
    crop,
    predict_alone,
    sliding_window,
)
from deepedit.inference.watch import UNWATCHED, Watch
from deepedit.transforms.decide import class_type, lowest_argmax


class Segmentation:
    """The segmentation of an image as it is shown, and what further answers need of it.

    Attributes:
        logits: ``[C, *network_shape]`` float16.
        classes: ``[*network_shape]``, their decision.
        decided: class indices on the image's own grid, the decision of the interpolated logits.
        result: class indices on the image's own grid, what is shown. Where the decision stays the same, it does too: an
            initial segmentation may be finer than the network's grid.
        locks: None where nothing is locked.
        known: ``[*network_shape]`` bool, where the network has been asked yet; None: everywhere.
    """

    def __init__(
        self, scene: Scene, logits: Tensor, result: np.ndarray | None = None, decided: np.ndarray | None = None
    ) -> None:
        self.scene, self.logits = scene, logits
        self.classes = lowest_argmax(logits).to(class_type(scene.num_classes))
        self.decided = scene.grid.labels_to_native(logits).cpu().numpy() if decided is None else decided
        self.result = self.decided.copy() if result is None else result.astype(self.decided.dtype)
        self.locks: Locks | None = scene.locks
        self.known: Tensor | None = None

    @classmethod
    def begin(cls, scene: Scene, watch: Watch = UNWATCHED) -> "Segmentation":
        """The automatic result, or the initial segmentation."""
        if scene.initial is None:
            logits = sliding_window(
                scene.model,
                scene.image,
                overlap=scene.overlap,
                amp=scene.amp,
                skip_air=scene.skip_air,
                tta=scene.tta,
                watch=watch,
            )
            return cls(scene, to_keep(logits).to(scene.image.device))
        policy = scene.model.plan.merge
        assert scene.initial_on_network is not None
        initial = logits_of_initial(scene.initial_on_network[None], scene.num_classes, policy)
        if scene.locks is not None:
            locks = scene.locks
            initial = keep_locked(initial.float(), locks.on_network[None], locks.classes, policy.margin).half()
        return cls(scene, initial[0], scene.initial)

    @classmethod
    def unasked(cls, scene: Scene) -> "Segmentation":
        """Background everywhere, until windows are asked for one by one."""
        logits = torch.zeros((scene.num_classes, *scene.shape), dtype=torch.float16, device=scene.image.device)
        logits[0] = AIR_LOGIT
        background = np.zeros(scene.grid.native_shape, np.uint8 if scene.num_classes <= 256 else np.int16)
        segmentation = cls(scene, logits, decided=background)
        segmentation.known = torch.zeros(scene.shape, dtype=torch.bool, device=logits.device)
        return segmentation

    def copy(self) -> "Segmentation":
        """Another one that changes by itself."""
        other = object.__new__(Segmentation)
        other.__dict__.update(self.__dict__)
        other.logits, other.classes = self.logits.clone(), self.classes.clone()
        other.decided, other.result = self.decided.copy(), self.result.copy()
        other.known = None if self.known is None else self.known.clone()
        return other

    def apply(self, step: Step, earlier: Sequence[Click], watch: Watch = UNWATCHED) -> Change:
        """Make a step.

        Args:
            earlier: the clicks before it.

        Returns:
            What it changed, to be swapped back.
        """
        if isinstance(step, Answered):
            return self.answer(step.clicks, earlier, watch)
        if isinstance(step, Locked):
            return self.lock(step.label, step.voxels)
        return self.unlock(step.label)

    def swap(self, change: Change) -> None:
        """Take a change back, or make it again."""
        swapped: list[tuple[Box, Tensor]] = []
        try:
            for place, logits in reversed(change.windows):
                swapped.append((place, self._put(place, logits)))
            shown = None if change.box is None else self.result[change.box].copy()
        except BaseException:
            self._put_back(swapped)
            raise
        if change.box is not None:
            self.result[change.box] = change.classes
        self.locks, change.locks = change.locks, self.locks
        change.windows, change.classes = swapped, shown

    def windows(self, step: Step) -> int:
        """How many windows of the network a step needs."""
        return len(list(windows_of(step.clicks, self.scene))) if isinstance(step, Answered) else 0

    def answer(self, clicks: Sequence[Click], earlier: Sequence[Click], watch: Watch = UNWATCHED) -> Change:
        """Let the network answer clicks together, over the windows that they need, each once.

        Args:
            clicks: the new ones.
            earlier: those before.
        """
        groups = list(windows_of(clicks, self.scene))
        places = [self.scene.place(start) for start, _ in groups]
        unknown = [start for start, place in zip(groups, places, strict=True) if not self._is_known(place)]
        watch.expect(len(unknown))
        region = hull([self.scene.grid.native_box(place) for place in places])
        everyone = [*earlier, *clicks]
        heard: dict[Click, Tensor] = {}
        as_it_was, known = self.result[region].copy(), None if self.known is None else self.known.clone()
        asked, before = [], []
        try:
            for start, _ in unknown:
                watch.check()
                asked.append((self.scene.place(start), self._ask(start)))
                watch.done(1)
            shown = self.result[region].copy()
            for (start, own), place in zip(groups, places, strict=True):
                watch.check()
                logits, answered = self._merged(start, place, everyone, own)
                heard.update(zip(own, answered, strict=True))
                before.append((place, self._replace(place, logits, everyone)))
                watch.done(1)
            change = self._changed(Change(self.locks, windows=before), region, shown)
            if unknown:
                redraw = bounding_box(as_it_was != self.result[region])
                change.redraw = None if redraw is None else within(region, redraw)
        except BaseException:
            self._put_back([*asked, *before])
            self.result[region], self.known = as_it_was, known
            raise
        change.heard = tuple(heard[click] for click in clicks)
        return change

    def lock(self, label: int, voxels: np.ndarray) -> Change:
        """Keep the voxels of a label from now on; those given take it, if they have another."""
        change, scene = Change(self.locks, relocks=True), self.scene
        try:
            self.remember_lock(Locked.of(label, voxels))
            assert self.locks is not None
            held = self.locks.voxels
            # The logits follow, so that the network is shown the same as the user.
            differs = (self.locks.on_network > 0) & (self.locks.on_network - 1 != self.classes)
            place = bounding_box(differs.cpu().numpy())
            region = bounding_box(voxels & (self.result != label)) or (slice(0, 0),) * 3
            shown = self.result[region].copy()
            if place is not None:
                logits = self.logits[(slice(None), *place)].float()[None]
                on_network, margin = self.locks.on_network[place][None], scene.model.plan.merge.margin
                kept = keep_locked(logits, on_network, self.locks.classes, margin)
                change.windows.append((place, self._put(place, to_keep(kept[0]))))
        except BaseException:
            self.locks = change.locks
            raise
        self.result[region][held[region] == label + 1] = label
        return self._changed(change, region, shown)

    def unlock(self, label: int) -> Change:
        """Let the voxels of a label change again."""
        change = Change(self.locks, relocks=True, voxels=(0,) * self.scene.num_classes)
        self.remember_lock(Unlocked(label))
        return change

    def remember_lock(self, step: Step) -> None:
        """Take note of what is locked after a step, and change nothing else."""
        if isinstance(step, Answered):
            return
        grid, num_classes = self.scene.grid, self.scene.num_classes
        if isinstance(step, Locked):
            held = self.locks.voxels.copy() if self.locks else np.zeros(step.shape, Locks.dtype(num_classes))
            held[step.voxels & (held == 0)] = step.label + 1
            classes = frozenset((step.label, *(self.locks.classes if self.locks else ())))
        else:
            assert self.locks is not None
            held = np.where(self.locks.voxels == step.label + 1, 0, self.locks.voxels)
            classes = self.locks.classes - {step.label}
        self.locks = Locks.of(classes, held, grid, num_classes, self.logits) if classes else None

    def _is_known(self, place: Box) -> bool:
        """Whether the network has been asked for all of a part of its grid."""
        return self.known is None or bool(self.known[place].all())

    def _ask(self, start: Triple) -> Tensor:
        """Work out the automatic result within a window where it is not known yet; returns the logits before."""
        scene = self.scene
        place = scene.place(start)
        answer = predict_alone(scene.model, scene.image, None, None, start, scene.window, scene.amp, scene.tta)
        answer = to_keep(crop(answer, start, scene.shape))
        assert self.known is not None
        logits = torch.where(self.known[place], self.logits[(slice(None), *place)], answer)
        earlier = self._replace(place, logits, [])
        self.known[place] = True
        return earlier

    def _merged(
        self, start: Triple, place: Box, clicks: Sequence[Click], own: Sequence[Click]
    ) -> tuple[Tensor, list[Tensor]]:
        """The logits of a window after an answer, float16, and whether the answer alone, which a refiner is part of,
        gave each of `own` its label; that is still on the device."""
        scene, device = self.scene, self.logits.device
        answer = predict_alone(
            scene.model, scene.image, self._seen(clicks), self._previous(), start, scene.window, scene.amp, scene.tta
        )
        answer = crop(answer, start, scene.shape)
        origin = np.array([span.start for span in place])
        # Of several clicks on one voxel of the image the newest counts, and for a refiner on one of the network's, too.
        obeyed = list({click.voxel: click for click in clicks}.values())
        alone = {click.target: click for click in clicks}
        new = set(own)
        rows = [
            (0, click.label, click in new, alone[click.target] is click, *(click.target - origin)) for click in obeyed
        ]
        known = upload(np.array(rows).T.copy(), device)
        exact = (np.array([click.place for click in obeyed]) - origin).astype(np.float32)
        places = Places.between(upload(exact, device), answer.shape[1:])
        here = Clicks(known[0], known[1], known[4:].T)
        row = {click.voxel: number for number, click in enumerate(obeyed)}
        before = self.logits[(slice(None), *place)]
        if scene.model.refiner is not None and scene.initial is None:
            newest = [(row[click.voxel], click.label, three((click.target - origin).tolist())) for click in own]
            image, shown = scene.image[(slice(None), *place)], replace(here, valid=known[3])
            answer = refined(scene.model.refiner, before, answer, image, shown, newest)
        right = places.of(answer[None], here.batch).argmax(1) == here.label
        merged = merge(
            before[None],
            answer[None],
            here,
            known[2] > 0,
            scene.model.plan.merge,
            places=places,
            rim=None if scene.is_one_window else rim_weight(place, scene.shape, device),
            initial=None if scene.initial_on_network is None else scene.initial_on_network[place][None],
            locked=None if self.locks is None else self.locks.on_network[place][None],
            closed=() if self.locks is None else self.locks.classes,
        )
        return to_keep(merged[0]), [right[row[click.voxel]] for click in own]

    def _seen(self, clicks: Sequence[Click]) -> Clicks:
        """The clicks as the network sees them: of several on one of its voxels the newest, as two labels there would
        contradict each other."""
        newest = {click.target: click.label for click in clicks}
        rows = [(0, label, *target) for target, label in newest.items()]
        known = upload(np.array(rows).T.copy(), self.logits.device)
        return Clicks(known[0], known[1], known[2:].T)

    def _previous(self) -> Tensor:
        """The previous segmentation for the network."""
        if self.locks is None:
            return self.classes
        held = self.locks.on_network
        return torch.where(held > 0, held - 1, self.classes).to(self.classes.dtype)

    def _replace(self, place: Box, logits: Tensor, clicks: Sequence[Click]) -> Tensor:
        """Put logits in place, and show what becomes of that; returns those that were there."""
        box = self.scene.grid.native_box(place)
        before = self.decided[box].copy()
        earlier = self._put(place, logits)
        try:
            self._show(box, before, clicks)
        except BaseException:
            self._put(place, earlier)
            raise
        return earlier

    def _put(self, place: Box, logits: Tensor) -> Tensor:
        """Put logits in place, and decide anew; returns those that were there. Where it fails, they still are."""
        index = (slice(None), *place)
        earlier = self.logits[index].clone()
        box = self.scene.grid.native_box(place)
        self.logits[index] = logits
        try:
            classes = lowest_argmax(logits).to(self.classes.dtype)
            decided = None if is_empty(box) else self.scene.grid.labels_to_native(self.logits, box).cpu().numpy()
        except BaseException:
            self.logits[index] = earlier
            raise
        self.classes[place] = classes
        if decided is not None:
            self.decided[box] = decided
        return earlier

    def _put_back(self, windows: Sequence[tuple[Box, Tensor]]) -> None:
        """Put back what was in windows before they were replaced one after another."""
        for place, logits in reversed(windows):
            self._put(place, logits)

    def _show(self, box: Box, before: np.ndarray, clicks: Sequence[Click]) -> None:
        """Show in a box of the image's own grid what is decided now, where that is not what was decided before.

        This is where clicks and locks are promised for: a click's voxel has its label, whatever interpolation makes of
        it, and a locked voxel keeps its own.
        """
        shown, decided = self.result[box], self.decided[box]
        wanted = np.where(decided != before, decided, shown)
        if self.scene.model.plan.merge.enforce and clicks:
            # In order, so that of several clicks on one voxel the newest counts.
            for click in clicks:
                if all(span.start <= at < span.stop for at, span in zip(click.voxel, box, strict=True)):
                    wanted[tuple(at - span.start for at, span in zip(click.voxel, box, strict=True))] = click.label
        self.result[box] = wanted if self.locks is None else self.locks.keep(shown, wanted, box)

    def _changed(self, change: Change, region: Box, shown: np.ndarray) -> Change:
        """The change, with what it did to the result in a region where that was `shown` before."""
        box = bounding_box(shown != self.result[region])
        counts = np.zeros(self.scene.num_classes, int)
        if box is not None:
            change.box = change.redraw = within(region, box)
            change.classes = shown[box].copy()
            for sign, classes in ((-1, change.classes), (1, self.result[change.box])):
                counts += sign * np.bincount(classes.ravel(), minlength=len(counts))
        change.voxels = tuple(counts.tolist())
        return change
