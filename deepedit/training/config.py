"""The settings of a training run; each default is the value that was measured best."""

from dataclasses import asdict, dataclass, field

from deepedit.clicks import Annotator
from deepedit.transforms.augment import Augmentation


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
        ema_decay: decay of the moving average of the weights, which is validated and saved.
        amp: ``"auto"`` or ``"off"``, see `autocast_dtype`.
        record_passes: run the passes of small batches on a GPU as CUDA graphs, see `RecordedPasses`.
        validations: number of validations, evenly spread over the run, the last one at its end.
        limit: use only that many training cases; None: all.
        seed: seed of everything random.
        annotator: how the simulated annotator clicks.
        augmentation: ranges of the random changes to the patches.
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
    click_loss_sigma: float = 3.0
    click_sigma: float = 2.0
    ema_decay: float = 0.995
    amp: str = "auto"
    record_passes: bool = True
    validations: int = 5
    limit: int | None = None
    seed: int = 0
    annotator: Annotator = field(default_factory=Annotator)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def to_dict(self) -> dict:
        return asdict(self)
