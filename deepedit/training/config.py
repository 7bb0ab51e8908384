"""The settings of a training run, each with the default that was measured best."""

from dataclasses import asdict, dataclass, field

from deepedit.clicks import Annotator
from deepedit.transforms.augment import Augmentation


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        epochs: how often every training case is begun.
        max_minutes: end by the clock instead, the schedule fitted to it; None: by epochs.
        batch_size: patches in a step.
        accumulate: parts that a batch is worked through in, one after another, to save memory; the result stays.
        checkpointing: save memory by computing activations again for the backward pass, for a third more time.
        learning_rate: highest rate of Muon, which trains the convolutions; AdamW has half of it for the rest.
        warmup: share of the run in which the learning rate rises.
        weight_decay: of both.
        small_patches: share of the run whose patches have three quarters of the full sides, for faster steps; 0: full
            patches from the first step on.
        click_probability: share of the network's passes that see clicks, from two fifths of the run on.
        clicks_from: share of the run that trains the automatic mode alone, before the share of passes with clicks
            rises to `click_probability`; 0: clicks from the first step on.
        max_clicks: most clicks that a sample gets.
        edit_probability: share of the samples with clicks that begin with an initial segmentation to correct.
        redraw_probability: share of the samples with clicks whose truth is from the first click on one that another
            hand might have drawn. A network soon knows by heart where the labels of its training cases border on each
            other, and then hardly ever sees a click that corrects such a border.
        click_loss: weight of the cross-entropy within about `click_loss_sigma` voxels of the clicks, which teaches to
            repair what is around them; half of it until clicks are learned.
        click_sigma: width of a click in the guidance, voxels of the network's grid.
        ema_decay: of the moving average of the weights, which is what is validated and saved.
        amp: ``"auto"`` or ``"off"``, see `autocast_dtype`.
        record_passes: start the passes of small batches on a GPU as CUDA graphs, see `RecordedPasses`.
        validations: how many, evenly over the run; the last at its end.
        limit: use only that many training cases; None: all.
        seed: of everything random.
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
