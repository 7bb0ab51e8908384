"""Other samples: initial segmentations with other errors, and cases in another order."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepedit.inference.sliding_window import sliding_window
from deepedit.network.unet import build_network
from deepedit.training import batch, mirror
from deepedit.training.batch import PatchStream, RollingBatch
from deepedit.training.data import PreparedCase
from deepedit.training.loop import Trainer
from deepedit.training.run import Run
from deepedit.training.schedule import Visit
from deepedit.transforms.corrupt import Outline

REMEMBERED = 0.7
"""Share of the loss of a case that the loss at its next visit leaves of it."""

HARD = 1 / 3
"""Share of the cases that are the harder ones."""

FOLDS = 2
BANK = 16
"""A voxel that has this many times a class added to its own has that class in the bank."""

Start = Callable[[RollingBatch, int, torch.Generator], Tensor | None]
"""From the samples, a slot and its generator: an initial segmentation ``[X, Y, Z]``; None where there is none."""


def half_start_from(way: Start) -> None:
    """Let half of the initial segmentations be others than the package's."""
    plain, fill, filling = batch.corrupt_segmentation, RollingBatch.fill, []

    def filled(samples: RollingBatch, *arguments: Any) -> None:
        filling[:] = [samples]
        fill(samples, *arguments)

    def corrupted(
        label: Tensor, num_classes: int, severity: float, generator: torch.Generator, outline: Outline
    ) -> Tensor:
        start = None
        if torch.rand((), generator=generator).item() < 0.5:
            slot = next(number for number, each in enumerate(filling[0].generators) if each is generator)
            start = way(filling[0], slot, generator)
        return plain(label, num_classes, severity, generator, outline) if start is None else start

    batch.corrupt_segmentation, RollingBatch.fill = corrupted, filled


def whole_labels_wrong() -> Start:
    """The truth with one label dropped, or given to another label or merged with it, and further errors of a small
    extent."""
    corrupt = batch.corrupt_segmentation

    def way(samples: RollingBatch, slot: int, generator: torch.Generator) -> Tensor | None:
        known, outline = samples._known(samples.label[slot]), samples.outlines[slot]
        if not outline.present:
            return None
        which, kind, severity = torch.rand(3, generator=generator).tolist()
        label = outline.present[int(which * len(outline.present))]
        other = int(kind * samples.num_classes)
        start = known.masked_fill(known == label, 0 if other == label else other)
        return corrupt(start, samples.num_classes, severity / 2, generator, outline)

    return way


def harder_cases(share: float) -> None:
    """So many visits are to one of the third of the cases whose loss was highest of late."""
    losses: dict[str, float] = {}
    look, begin = Trainer.look, PatchStream.begin

    def remember(trainer: Trainer) -> None:
        for values, _, names in trainer.unseen:
            for name, value in zip(names, values.tolist(), strict=True):
                losses[name] = REMEMBERED * losses.get(name, value) + (1 - REMEMBERED) * value
        look(trainer)

    def chosen(stream: PatchStream, each: Iterator[Visit]) -> Iterator[Visit]:
        for visit in each:
            chance, which = torch.rand(2, generator=visit.generator(stream.config.seed, "harder")).tolist()
            if chance < share and len(losses) == len(stream.cases):
                numbers = range(len(stream.cases))
                hard = sorted(numbers, key=lambda number: losses[stream.cases[number].name], reverse=True)
                visit = replace(visit, case=hard[int(which * max(HARD * len(hard), 1))])
            yield visit

    def begun(stream: PatchStream, counts: Sequence[int], patch_size: Sequence[int]) -> None:
        begin(stream, counts, patch_size)
        stream.visits = [chosen(stream, each) for each in stream.visits]

    Trainer.look, PatchStream.begin = remember, begun


def mirror_anyway() -> None:
    """Samples are mirrored also where the cases do not show that it is safe."""
    mirror.TOLERANCE = math.inf


def error_bank(steps: int) -> None:
    """Half of the initial segmentations are automatic results of networks that have not seen the case.

    Before the run, one network for each half of the cases is trained for so many steps on the other half, without
    clicks.
    """
    train, cut, outline_of, augment = Run.train, batch.cut_patch, batch.outline_of, batch.augment
    bank: dict[str, np.ndarray] = {}
    newest: list[Tensor] = []

    def with_bank(run: Run, *arguments: Any) -> bool:
        cases, found = run.trainer.cases, {}
        for fold in range(FOLDS):
            others = [case for number, case in enumerate(cases) if number % FOLDS != fold]
            model = _automatic_model(run, others, steps, fold)
            for case in cases[fold::FOLDS]:
                image = torch.from_numpy(case.image[:]).float().to(model.device)
                found[case.name] = sliding_window(model, image).argmax(0).byte().cpu().numpy()
        bank.update(found)  # all at once: the networks of the folds are trained without it
        stream = run.trainer.batch.stream
        if (mirrored := stream.mirrored) is not None:
            pairs = [*mirrored, *range(len(mirrored), BANK)]
            stream.mirrored = tuple(pairs[value % BANK] + BANK * pairs[value // BANK] for value in range(256))
        return train(run, *arguments)

    def cut_both(case: PreparedCase, patch_size: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        state = generator.get_state()
        image, label = cut(case, patch_size, generator)
        if case.name in bank:
            generator.set_state(state)
            label = label + BANK * cut(replace(case, label=bank[case.name]), patch_size, generator)[1]
        return image, label

    def augment_both(image: Tensor, label: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
        image, label = augment(image, label, *arguments)
        newest[:] = [label[0] // BANK]
        return image, label % BANK

    Run.train, batch.cut_patch, batch.augment = with_bank, cut_both, augment_both
    batch.outline_of = lambda label, num_classes: outline_of(label % BANK, num_classes)
    half_start_from(lambda samples, slot, generator: newest[0] if bank else None)


def _automatic_model(run: Run, cases: Sequence[PreparedCase], steps: int, fold: int) -> Any:
    """A model that is trained on some cases, without clicks."""
    network = run.model.network
    own = build_network(network.in_channels, network.out_channels, network.config, run.config.seed + 1 + fold)
    model = replace(run.model, network=own.to(run.model.device))
    trainer = Trainer(model, cases, replace(run.config, click_probability=0.0), run.settings.workers)

    def by_steps(seconds: float, stop: bool) -> bool:
        trainer.progress.share = min(trainer.progress.step / steps, 1.0)
        return stop

    trainer._agree = by_steps
    trainer.train(lambda progress: None)
    return replace(model, network=trainer.average)
