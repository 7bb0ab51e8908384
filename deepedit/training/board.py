"""Reports about a run in progress: curves and pictures for TensorBoard, and a line from time to time."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from deepedit.errors import FileError
from deepedit.training.loop import Progress
from deepedit.training.validation import Validation

SECONDS_BETWEEN_LINES = 20


class Board:
    """Writes scalars and pictures for TensorBoard, and lines; its steps are those of the optimizer.

    Args:
        folder: folder of the event files. Events after the step of `progress`, from an interrupted run, are hidden.
        progress: the state of the run at its beginning.
        talks: whether to report steps in lines, as when no progress bar shows them.
        say: called with every line.
    """

    def __init__(self, folder: Path, progress: Progress, talks: bool, say: Callable[[str], None]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.talks, self.say = folder, talks, say
        # An error in the writer's own thread is raised again here by the next call of the writer.
        self.excepthook, threading.excepthook = threading.excepthook, self._in_thread
        with self._writing():
            # The validation at the step of the state is among the events already, so that only later ones are hidden.
            self.writer = SummaryWriter(str(folder), purge_step=progress.step + 1)
        self._remember(progress)

    def step(self, progress: Progress) -> None:
        """Report the steps since the last report, if that was a while ago or the run is over."""
        if time.monotonic() - self.told < SECONDS_BETWEEN_LINES and progress.share < 1:
            return
        steps = max(progress.step - self.told_step, 1)
        seconds = {part: (total - self.timings.get(part, 0)) / steps for part, total in progress.timings.items()}
        with self._writing():
            for kind, value in progress.loss.items():
                self.writer.add_scalar(f"loss/{kind}", value, progress.step)
            self.writer.add_scalar("learning_rate", progress.learning_rate, progress.step)
            for part, value in seconds.items():
                self.writer.add_scalar(f"seconds/{part}", value, progress.step)
        if self.talks:
            self.say(describe(progress, seconds))
        self._remember(progress)

    def _remember(self, progress: Progress) -> None:
        self.told, self.told_step, self.timings = time.monotonic(), progress.step, dict(progress.timings)

    def validation(self, validation: Validation, step: int) -> None:
        """Report Dice by label and number of clicks, and pictures."""
        with self._writing():
            for clicks, row in validation.dice.items():
                for name, value in row.items():
                    self.writer.add_scalar(f"dice_{name}/clicks_{clicks}", value, step)
                self.writer.add_scalar(f"dice_mean/clicks_{clicks}", validation.mean(clicks), step)
            for name, picture in validation.pictures.items():
                self.writer.add_image(f"truth, automatic, after clicks/{name}", picture, step, dataformats="HWC")
            self.writer.flush()

    def close(self) -> None:
        """Write what is left. An error here is ignored, so that it does not hide the reason why the run ended."""
        with suppress(OSError):
            self.writer.close()
        threading.excepthook = self.excepthook

    def _in_thread(self, arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):
            self.excepthook(arguments)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FileError(f"{self.folder}: cannot be written: {error.strerror}; make room, then `resume`") from error


def describe(progress: Progress, seconds: Mapping[str, float]) -> str:
    """One line on how a run is doing."""
    losses = ", ".join(f"{kind} {value:.3f}" for kind, value in progress.loss.items())
    parts = ", ".join(f"{part} {value:.3f}" for part, value in seconds.items())
    return f"{progress.share:4.0%}  step {progress.step}  loss {losses}  seconds a step: {parts}"
