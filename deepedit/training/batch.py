"""The dialogue of the network and a simulated annotator, independently for every sample of a batch.

Every pass of the network is both a training step and the prediction to which the annotator responds, so that no pass
serves prediction alone. A sample stays in its slot of the batch for some passes. The first has no
clicks, or an initial segmentation and one click; each further pass has one more click, and the prediction of the pass
before it as the previous segmentation. Then the next sample takes the slot.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from deepedit.boxes import three
from deepedit.clicks import Clicks, render_guidance, simulate_clicks
from deepedit.devices import upload
from deepedit.inference.merge import logits_of_initial, merge, to_keep
from deepedit.network.inputs import assemble_input
from deepedit.plan import Labels, Plan
from deepedit.ranks import Ranks
from deepedit.training.config import TrainingConfig
from deepedit.training.data import PreparedCase, cut_patch, middle
from deepedit.training.mirror import mirrored_classes
from deepedit.training.schedule import Visit, draw_passes, visits
from deepedit.transforms.augment import augment
from deepedit.transforms.corrupt import Outline, corrupt_segmentation, outline_of, redraw_borders

CUT_AHEAD = 2
"""Number of pieces that are cut for each slot before they are needed."""


class RollingBatch:
    """The samples in training, each with its clicks so far.

    Each rank has a share of the ``config.batch_size`` slots. The samples of a slot do not depend on other slots, so
    that the batch is the same for any number of ranks.

    Attributes:
        slots: the numbers of this rank's slots.
        image: ``[B, C, X, Y, Z]``.
        label: ``[B, X, Y, Z]`` uint8, the truth; for a sample with clicks it may be redrawn as by another annotator.
            Voxels whose class is not known have the number of classes as their index, and count nowhere.
        previous: ``[B, X, Y, Z]`` uint8, the previous segmentation for the next pass; all 0 if there is none.
        shown: ``[B, C, X, Y, Z]`` float16 logits of what a session would show.
        initial: ``[B, X, Y, Z]`` uint8, the initial segmentation of each sample that is `edited`.
        position, wanted, valid: ``[B, max_clicks, 3]``, ``[B, max_clicks]`` and ``[B, max_clicks]``: voxels, classes
            and validity of the clicks. The size of the table is fixed, so that no count must come from the device.
        sample: ``[B * max_clicks]``, the samples of these clicks.
        used: number of clicks of each sample so far. It is on the host, as are `edited`, `passes_left`, `visits`,
            `outlines` and `generators`.
        begun: number of samples that each slot has begun since the run began.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        plan: Plan,
        config: TrainingConfig,
        device: torch.device,
        workers: int = 1,
        ranks: Ranks | None = None,
    ) -> None:
        # A network that is shown no segmentation cannot correct one.
        config = config if plan.previous else replace(config, edit_probability=0.0)
        self.plan, self.config, self.device = plan, config, device
        self.num_classes = plan.labels.num_classes
        self.ignoring = plan.ignore is not None
        self.slots = (ranks or Ranks()).share(list(range(config.batch_size)))
        self.stream = PatchStream(cases, plan.labels, config, self.slots, workers, device.type == "cuda")
        size, most = len(self.slots), max(config.max_clicks, 1)
        self.position = torch.zeros(size, most, 3, dtype=torch.int64, device=device)
        self.wanted = torch.zeros(size, most, dtype=torch.int64, device=device)
        self.valid = torch.zeros(size, most, dtype=torch.bool, device=device)
        self.sample = torch.arange(size, device=device).repeat_interleave(most)
        self.used = [0] * size
        self.passes_left = [0] * size
        self.visits = [Visit(0, 0)] * size
        self.outlines = [Outline((), 0.0, 0)] * size
        self.generators = [torch.Generator()] * size
        self.begun = [0] * size
        self._empty(plan.patch_size)

    def _empty(self, patch_size: Sequence[int]) -> None:
        """Give up all samples; the next ones have this size."""
        size = len(self.slots)
        self.image = torch.zeros(size, self.plan.image_channels, *patch_size, device=self.device)
        self.label = torch.zeros(size, *patch_size, dtype=torch.uint8, device=self.device)
        self.previous = torch.zeros_like(self.label)
        self.shown = torch.zeros(size, self.num_classes, *patch_size, dtype=torch.float16, device=self.device)
        self.initial = torch.zeros_like(self.label)
        self.edited = [False] * size
        self.passes_left = [0] * size
        self.stream.begin(self.begun, patch_size)

    def fill(self, click_share: float, patch_size: Sequence[int] | None = None) -> None:
        """Begin a new sample in every slot whose sample is done.

        Args:
            click_share: share of the passes of new samples that have clicks.
            patch_size: sides of all samples from now on; samples of another size are given up. None: those of the plan.
        """
        sides = three(patch_size or self.plan.patch_size)
        if sides != self.label.shape[1:]:
            self._empty(sides)
        free = [slot for slot, left in enumerate(self.passes_left) if left == 0]
        given: dict[int, Tensor] = {}
        if free:
            rows = upload(free, self.device)
            self.previous.index_fill_(0, rows, 0)
            self.valid.index_fill_(0, rows, False)
        for slot in free:
            visit, image, label, outline = self.stream.take(slot)
            self.begun[slot] += 1
            generator = visit.generator(self.config.seed)
            piece = image[None].to(self.device, non_blocking=True), label[None].to(self.device, non_blocking=True)
            image, label = augment(*piece, sides, self.config.augmentation, [generator])
            self.image[slot], self.label[slot] = image[0], label[0]
            self.used[slot], self.edited[slot] = 0, False
            self.visits[slot], self.outlines[slot], self.generators[slot] = visit, outline, generator
            self.passes_left[slot], edits = draw_passes(generator, click_share, self.config)
            if edits:
                severity = torch.rand((), generator=generator).item()
                known = self._known(label[0])
                given[slot] = corrupt_segmentation(known, self.num_classes, severity, generator, outline)
        if given:
            self._begin_with(list(given), torch.stack(list(given.values())))

    def inputs(self) -> Tensor:
        """The network's input for the next pass."""
        shape = self.label.shape[1:]
        plan, samples = self.plan, len(self.label)
        guidance = render_guidance(self._clicks(), shape, self.num_classes, samples, plan.sigma, combine=plan.guidance)
        return assemble_input(self.image, guidance, self.previous if plan.previous else None)

    def nearness(self) -> Tensor:
        """``[B, X, Y, Z]``, see `Clicks.nearness`: where the loss around the clicks counts."""
        return self._clicks().nearness(self.label.shape[1:], self.config.click_loss_sigma, len(self.label))

    def answer(self, logits: Tensor) -> None:
        """Let the annotator look at the newest pass and click once in every sample that stays.

        The annotator sees what a session would show, and the next pass is given that as its previous segmentation.
        """
        self.passes_left = [left - 1 for left in self.passes_left]
        staying = [slot for slot, left in enumerate(self.passes_left) if left]
        if not staying:
            return
        newest = torch.zeros(self.wanted.shape, dtype=torch.bool)
        for slot, used in enumerate(self.used):
            newest[slot, used - 1] = used > 0
        editing: dict[str, Any] = {}
        if any(self.edited):
            editing["initial"] = self.initial
        if any(self.edited) and not all(self.edited):
            editing["edited"] = upload(self.edited, self.device)
        newest = upload(newest.flatten(), self.device)
        shown = merge(self.shown, logits.float(), self._clicks(), newest, self.plan.merge, **editing)
        self.shown = to_keep(shown)
        self._click(staying, self.shown[upload(staying, self.device)].argmax(1))

    def _begin_with(self, slots: Sequence[int], initial: Tensor) -> None:
        """Let samples begin with an initial segmentation ``[S, X, Y, Z]`` and a click that corrects it."""
        for slot in slots:
            self.edited[slot] = True
        rows = upload(slots, self.device)
        self.initial[rows] = initial.to(torch.uint8)
        self.shown[rows] = logits_of_initial(initial, self.num_classes, self.plan.merge)
        self._click(slots, initial)

    def _click(self, slots: Sequence[int], prediction: Tensor) -> None:
        for slot in slots:
            if self.used[slot] == 0:
                self._redraw(slot)
        rows, columns = upload([slots, [self.used[slot] for slot in slots]], self.device)
        generators = [self.generators[slot] for slot in slots]
        annotator, truth = self.config.annotator, self.label[rows]
        # Where the truth is not known, prediction and truth are set to background, so that nothing is wrong there.
        seen = prediction.masked_fill(truth == self.num_classes, 0) if self.ignoring else prediction
        clicks = simulate_clicks(seen, self._known(truth), self.num_classes, annotator, generators)
        valid = clicks.valid
        if self.ignoring:  # a displaced or redundant click may end where the truth is not known: it is dropped
            valid = valid & (truth[(clicks.batch, *clicks.position.unbind(1))] < self.num_classes)
        self.previous[rows] = prediction.to(torch.uint8)
        self.position[rows, columns] = clicks.position
        self.wanted[rows, columns] = clicks.label
        self.valid[rows, columns] = valid
        for slot in slots:
            self.used[slot] += 1

    def _redraw(self, slot: int) -> None:
        """With some probability, redraw a sample's truth as another annotator would. This happens at the first click,
        which is the first thing to depend on it."""
        generator = self.generators[slot]
        if torch.rand((), generator=generator).item() < self.config.redraw_probability:
            truth, outline = self.label[slot], self.outlines[slot]
            drawn = redraw_borders(self._known(truth), self.num_classes, generator, outline)
            self.label[slot] = drawn.where(truth < self.num_classes, truth) if self.ignoring else drawn

    def _known(self, label: Tensor) -> Tensor:
        """A label map with background where its voxels are to be ignored."""
        return label.masked_fill(label == self.num_classes, 0) if self.ignoring else label

    def _clicks(self) -> Clicks:
        return Clicks(self.sample, self.wanted.flatten(), self.position.flatten(0, 1), self.valid.flatten())

    TENSORS = ("image", "label", "previous", "shown", "initial", "position", "wanted", "valid")

    def state(self) -> dict[int, dict[str, Any]]:
        """The state of each slot by its number, as tensors and numbers, for a checkpoint."""
        return {
            number: {
                "tensors": {name: getattr(self, name)[slot].cpu() for name in self.TENSORS},
                "used": self.used[slot],
                "edited": self.edited[slot],
                "passes_left": self.passes_left[slot],
                "visit": (self.visits[slot].epoch, self.visits[slot].case),
                "outline": astuple(self.outlines[slot]),
                "generator": self.generators[slot].get_state(),
                "begun": self.begun[slot],
            }
            for slot, number in enumerate(self.slots)
        }

    def restore(self, state: dict[int, dict[str, Any]]) -> None:
        """Continue from what `state` returned; `state` holds the slots of all ranks."""
        self.begun = [state[number]["begun"] for number in self.slots]
        self._empty(state[self.slots[0]]["tensors"]["label"].shape)
        for slot, number in enumerate(self.slots):
            entry = state[number]
            for name in self.TENSORS:
                if name in entry["tensors"]:
                    getattr(self, name)[slot] = entry["tensors"][name].to(self.device)
            if "shown" not in entry["tensors"]:  # runs of earlier versions kept its decision alone
                previous = self.previous[slot][None]
                self.shown[slot] = logits_of_initial(previous, self.num_classes, self.plan.merge)[0]
            self.used[slot], self.passes_left[slot] = entry["used"], entry["passes_left"]
            self.edited[slot] = entry.get("edited", False)
            self.visits[slot] = Visit(*entry["visit"])
            # Earlier versions stored no outline; it is computed from the label.
            known = entry.get("outline") or astuple(outline_of(entry["tensors"]["label"], self.num_classes))
            self.outlines[slot] = Outline(*known)
            self.generators[slot] = torch.Generator()
            self.generators[slot].set_state(entry["generator"])


class PatchStream:
    """Pieces of the training cases, cut ahead of time by threads.

    Each slot gets every ``config.batch_size``-th visit, beginning with the visit whose index is the slot's number.
    Where `mirrored_classes` finds that this is safe, some pieces are mirrored left to right. If `pinned`, the pieces
    are in memory from which a GPU copies while the host goes on.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        labels: Labels,
        config: TrainingConfig,
        slots: Sequence[int],
        workers: int,
        pinned: bool = False,
    ) -> None:
        self.cases, self.config, self.slots = cases, config, slots
        self.num_classes, self.pinned = labels.num_classes, pinned
        self.mirrored = mirrored_classes(labels, cases) if config.augmentation.mirror_probability else None
        self.pool = ThreadPoolExecutor(workers)

    def begin(self, begun: Sequence[int], patch_size: Sequence[int]) -> None:
        """Start, or start over, where each slot has begun so many visits, with patches of these sides."""
        self.patch_size, size = tuple(patch_size), self.config.batch_size
        self.visits = [
            islice(visits(len(self.cases), self.config.seed), slot + size * count, None, size)
            for slot, count in zip(self.slots, begun, strict=True)
        ]
        self.ahead: list[deque[tuple[Visit, Future[Any]]]] = [deque() for _ in self.slots]

    def take(self, slot: int) -> tuple[Visit, Tensor, Tensor, Outline]:
        """A slot's next visit, with an image ``[C, X, Y, Z]`` and a label ``[X, Y, Z]`` larger than the patch, and the
        outline of the label in their middle."""
        ahead = self.ahead[slot]
        while len(ahead) <= CUT_AHEAD:
            visit = next(self.visits[slot])
            ahead.append((visit, self.pool.submit(self._cut, visit, self.patch_size)))
        visit, future = ahead.popleft()
        image, label, outline = future.result()
        if self.pinned:
            # Memory is pinned here and not in the threads, because no CUDA graph can be recorded while they do that.
            image, label = image.pin_memory(), label.pin_memory()
        return visit, image, label, outline

    def _cut(self, visit: Visit, patch_size: Sequence[int]) -> tuple[Tensor, Tensor, Outline]:
        generator = visit.generator(self.config.seed, "cut")
        image, label = cut_patch(self.cases[visit.case], patch_size, generator)
        chosen = torch.rand((), generator=generator).item() < self.config.augmentation.mirror_probability
        if chosen and self.mirrored is not None:
            classes = torch.tensor(self.mirrored, dtype=label.dtype)
            image, label = image.flip(1), classes[label.flip(0).long()]
        # The outline is computed while the label is on the host: later the host would have to wait for the GPU.
        outline = outline_of(middle(label, patch_size), self.num_classes)
        return image, label, outline
