"""What TensorBoard shows of a run."""

from pathlib import Path

from deepedit.training.loop import Progress
from deepedit.training.validation import Validation


class Board:
    """Writes scalars and pictures; steps are the optimizer's.

    Args:
        folder: of the event files. Events of steps after `step`, from a run that was cut off, are hidden.
        step: where the run begins.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step or None)

    def progress(self, progress: Progress, seconds: dict[str, float]) -> None:
        """Losses, learning rate, and the seconds a step that each part takes."""
        for kind, value in progress.loss.items():
            self.writer.add_scalar(f"loss/{kind}", value, progress.step)
        self.writer.add_scalar("learning_rate", progress.learning_rate, progress.step)
        for part, value in seconds.items():
            self.writer.add_scalar(f"seconds/{part}", value, progress.step)

    def validation(self, validation: Validation, step: int) -> None:
        """Dice by label and number of clicks, and pictures."""
        for clicks, row in validation.dice.items():
            for name, value in row.items():
                self.writer.add_scalar(f"dice_{name}/clicks_{clicks}", value, step)
            self.writer.add_scalar(f"dice_mean/clicks_{clicks}", validation.mean(clicks), step)
        for name, picture in validation.pictures.items():
            self.writer.add_image(f"truth, automatic, after clicks/{name}", picture, step, dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
