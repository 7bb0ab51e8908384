"""The settings of a training run; each default is the value that was measured best."""

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepedit.annotator import Annotator
from deepedit.network.architectures import DEFAULT_NETWORK, NETWORKS, UNetConfig
from deepedit.plan import MAX_SPACING, MIN_SPACING, Intensity
from deepedit.transforms.augmentation import Augmentation
from deepedit.volume import DEFAULT_READING, Reading


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        epochs: number of samples that are begun from every training case.
        max_minutes: end after this time instead, with the schedule fitted to it; None: end by `epochs`.
        batch_size: patches in a step.
        accumulate: number of parts in which a batch is processed, one after another, to save memory; the result does
            not change.
        checkpointing: save memory by computing activations again for the backward pass, which takes a third more time.
        learning_rate: highest rate of Muon, which trains the convolutions; AdamW trains the rest with half of it.
        warmup: share of the run in which the learning rate rises.
        weight_decay: for both optimizers.
        small_patches: share of the run whose patches have three quarters of the full sides, for faster steps; 0: full
            patches from the first step on.
        click_probability: share of the network's passes that have clicks, from two fifths of the run on.
        clicks_from: share of the run that trains the automatic mode only. After it the share of passes with clicks
            rises to `click_probability`. With 0 there are clicks from the first step on.
        max_clicks: greatest number of clicks in a sample.
        edit_probability: share of the samples with clicks that begin with an initial segmentation to correct.
        redraw_probability: share of the samples with clicks whose truth, from the first click on, is replaced by one
            that another annotator might have drawn. A network soon memorises where the labels of its training cases
            border on each other, and then would hardly ever see a click that corrects such a border.
        click_loss: weight of the cross-entropy within about `click_loss_sigma` voxels of the clicks, which teaches the
            network to correct what is around them; half of this weight until clicks are learned.
        click_sigma: width of a click in the guidance, in voxels of the network's grid.
        refiner_cases: number of training cases on which the refiner learns at the end of the run, see
            `deepedit.training.refining`; 0: there is none, nor is there without clicks or validations.
        ema_decay: decay of the moving average of the weights, which is validated and saved.
        amp: ``"auto"`` or ``"off"``, see `autocast_dtype`.
        record_passes: run the passes of small batches on a GPU as CUDA graphs, see `RecordedPasses`; not where several
            processes train, nor with `accumulate` or `checkpointing`.
        validations: number of validations, evenly spread over the run, the last one at its end; another one follows
            if a refiner has learned.
        limit: use only that many training cases; None: all.
        seed: seed of everything random except the choice of the cases.
        annotator: how the simulated annotator clicks.
        augmentation: ranges of the random changes to the patches.

    Raises:
        ValueError: if a value is out of its range.
    """

    epochs: int = 100
    max_minutes: float | None = None
    batch_size: int = 4
    accumulate: int = 1
    checkpointing: bool = False
    learning_rate: float = 2e-2
    warmup: float = 0.02
    weight_decay: float = 3e-5
    small_patches: float = 0.7
    click_probability: float = 0.75
    clicks_from: float = 0.1
    max_clicks: int = 10
    edit_probability: float = 0.25
    redraw_probability: float = 0.6
    click_loss: float = 1.0
    click_loss_sigma: float = 6.0
    click_sigma: float = 2.0
    refiner_cases: int = 40
    ema_decay: float = 0.995
    amp: str = "auto"
    record_passes: bool = True
    validations: int = 5
    limit: int | None = None
    seed: int = 0
    annotator: Annotator = field(default_factory=Annotator)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "limit"):
            _check(self, name, "a whole number from 1 on", lambda value: value >= 1)
        for name in ("max_clicks", "refiner_cases", "validations"):
            _check(self, name, "a whole number from 0 on", lambda value: value >= 0)
        # As torch takes them.
        _check(self, "seed", "a whole number from 0 on, below 2**63", lambda value: 0 <= value < 2**63)
        for name in (
            *("warmup", "small_patches", "click_probability", "clicks_from"),
            *("edit_probability", "redraw_probability", "ema_decay"),
        ):
            _check(self, name, "a share from 0 to 1", lambda value: 0 <= value <= 1)
        for name in ("max_minutes", "learning_rate", "click_loss_sigma", "click_sigma"):
            _check(self, name, "a number above 0", lambda value: 0 < value < math.inf)
        for name in ("weight_decay", "click_loss"):
            _check(self, name, "a number from 0 on", lambda value: 0 <= value < math.inf)
        _check(self, "amp", "auto or off", lambda value: value in ("auto", "off"))


@dataclass(frozen=True)
class RunSettings:
    """What to train on, and how.

    Attributes:
        dataset: folder of the dataset.
        studies: whether it is a folder of studies, see `find_labelled_studies`, to fine-tune `init_weights` on. What is
            not chosen is then as in that model, and the cases held back for validation are none that it has seen.
        labels: names to file values; None: all labels of the dataset.
        split: share of the cases to train on.
        split_seed: which cases those are. It is separate from the seed of the run, so that runs with different seeds
            are validated on the same cases.
        spacing, patch_size: mm and voxels; None: planned from the data.
        intensity: how intensities are normalised; None: as the model to start from, where the images are of its kind,
            else by the dataset's modality or values.
        affine, units: how headers are read, see `Reading`; None: as by the model to start from, or by default.
        network: the architecture, such as one of `NETWORKS`; a model to start from has its own.
        init_weights: model to start from.
        cache: folder for prepared cases; None: ``cache`` in the run folder.
        workers: number of threads that prepare cases and cut patches.
        config: how to train.

    Raises:
        ValueError: if a value is out of its range.
    """

    dataset: Path
    studies: bool = False
    labels: Mapping[str, int] | None = None
    split: float = 0.9
    split_seed: int = 0
    spacing: tuple[float, float, float] | None = None
    patch_size: tuple[int, int, int] | None = None
    intensity: Intensity | None = None
    affine: str | None = None
    units: str | None = None
    network: UNetConfig = field(default_factory=lambda: NETWORKS[DEFAULT_NETWORK])
    init_weights: Path | None = None
    cache: Path | None = None
    workers: int = 2
    config: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        _check(self, "split", "a share above 0, at most 1", lambda value: 0 < value <= 1)
        _check(self, "split_seed", "a whole number from 0 on", lambda value: value >= 0)
        _check(self, "workers", "a whole number from 1 on", lambda value: value >= 1)
        sizes = f"three sizes from {MIN_SPACING:g} to {MAX_SPACING:g} mm"
        _check(self, "spacing", sizes, lambda value: all(MIN_SPACING <= mm <= MAX_SPACING for mm in value))
        _check(self, "patch_size", "three numbers of voxels above 0", lambda value: min(value) >= 1)
        if self.studies and self.init_weights is None:
            raise ValueError("`studies` needs the model whose labels they have; give it with `init_weights`")
        self.reading(DEFAULT_READING)

    def reading(self, default: Reading) -> Reading:
        """What is believed of headers, where nothing is asked for as in `default`."""
        return Reading(self.affine or default.affine, self.units or default.units)


def _check(settings: object, name: str, meaning: str, holds: Callable[[Any], bool]) -> None:
    """Raise a ValueError unless a setting is None, or holds what it means."""
    value = getattr(settings, name)
    if value is not None and not holds(value):
        raise ValueError(f"`{name}` must be {meaning}; got {reprlib.repr(value)}")
