"""``deepedit-train``: train on a dataset folder, resume a run, import a model of MONAI, or export a model."""

import json
import math
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepedit.errors import FileError
from deepedit.files import make_folder, one_line, pasted
from deepedit.training.config import RunSettings
from deepedit_cli.common import INTERRUPTED, on_terminal, progress, run, say
from deepedit_cli.models import export, import_monai, refuse_model_options, write_imported
from deepedit_cli.next_steps import spelt, try_it
from deepedit_cli.settings import kept_settings, new_settings
from deepedit_cli.train_options import PROGRAM, command_line

if TYPE_CHECKING:  # importing it for good would make --help wait for torch
    from deepedit.ranks import Ranks


RUN = ("model.pt", "last.pt", "config.json")
"""The files of a run."""


def main(argv: Sequence[str] | None = None) -> int:
    return run(PROGRAM, train, argv)


def train(argv: Sequence[str] | None) -> int:
    arguments = command_line().parse_args(argv)
    folder = arguments.output
    refuse_model_options(arguments)
    if arguments.export is not None:
        export(arguments)
        return 0
    if arguments.import_monai is not None:
        model = import_monai(arguments)
        claim(folder, arguments.overwrite)
        clear(folder)
        write_imported(folder / "model.pt", model)
        return 0
    if arguments.progress is not None and not arguments.progress.parent.is_dir():
        raise FileError(f"--progress {one_line(arguments.progress)}: its folder does not exist; create it first")
    # Late, so that --help does not wait for torch.
    from deepedit.ranks import joined_ranks

    with joined_ranks("start all of them again, with `resume` if there is a last.pt") as ranks:
        repeated = arguments.resume or arguments.config is not None
        settings = kept_settings(arguments) if repeated else new_settings(arguments)
        # A run may have ended before it wrote a checkpoint.
        resume = arguments.resume and (folder / "last.pt").exists()
        if ranks.first:
            if not arguments.resume:
                claim(folder, arguments.overwrite)
            if arguments.input is None and arguments.studies is None and not repeated:
                phantom(settings.dataset, settings.config.seed)
        ranks.wait()
        return work(folder, settings, arguments.device, resume, ranks, arguments.progress)


def work(
    folder: Path, settings: RunSettings, device: str, resume: bool, ranks: "Ranks", progress_file: Path | None
) -> int:
    """Train with these settings, print what to do next, and return the exit status."""
    from deepedit.training.record import write_config
    from deepedit.training.run import Run

    training = Run(folder, settings, say, device, resume, ranks, bar=_preparing if ranks.first else _unseen)
    if not resume and ranks.first:
        # Only after all checks: a start that fails must neither cost an earlier run, nor leave one to be replaced.
        clear(folder)
        write_config(folder, training.settings)
    with Stop() as stop, _Bar(training.trainer.progress.share, shown=ranks.first) as bar:
        shown = [bar.show] if bar.bar else []
        if progress_file is not None and ranks.first:
            shown.append(ProgressFile(progress_file))

        def show_all(progress: Any) -> None:
            for show in shown:
                show(progress)

        finished = training.train(show_all, stop, lines=bar.bar is None)
    if not finished:
        training.say(f"stopped; go on with: {spelt('deepedit-train')} {pasted('--output', folder)} --resume")
        return INTERRUPTED
    training.say(f"best validation Dice (mean over labels and numbers of clicks): {training.best:.4f}")
    images = training.validation_cases[0].image
    for line in try_it(folder / "model.pt", images, folder / "segmentation.nii.gz"):
        training.say(line)
    return 0


class ProgressFile:
    """A JSON file that tells other programs how far a run is: ``share`` of it in [0, 1], ``step`` and ``seconds``."""

    SECONDS_BETWEEN = 1.0

    def __init__(self, path: Path) -> None:
        self.path, self.written = path, -math.inf

    def __call__(self, progress: Any) -> None:
        from deepedit.files import replace_atomically

        if progress.seconds - self.written < self.SECONDS_BETWEEN and progress.share < 1:
            return
        self.written = progress.seconds
        content = {"share": progress.share, "step": progress.step, "seconds": progress.seconds}
        with replace_atomically(self.path) as stream:
            stream.write(json.dumps(content).encode())


class Stop:
    """Tells, during a block, whether Ctrl-C or SIGTERM was received. A second Ctrl-C interrupts at once.

    A run asks between its steps, so that the state that it then saves is complete.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def __enter__(self) -> "Stop":
        self.before = [signal.signal(each, self._ask) for each in self.SIGNALS]
        return self

    def __exit__(self, *exception: object) -> None:
        for each, handler in zip(self.SIGNALS, self.before, strict=True):
            signal.signal(each, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


def claim(folder: Path, overwrite: bool) -> None:
    """Make the run folder; one that holds a run is refused without --overwrite."""
    if not overwrite and any((folder / name).exists() for name in RUN):
        raise FileError(
            f"{one_line(folder)}: holds a run already; go on with it by --resume, or replace it by --overwrite"
        )
    make_folder(folder)


def clear(folder: Path) -> None:
    """Remove the files of an earlier run."""
    for path in (*(folder / name for name in RUN), *(folder / "tensorboard").glob("events.*")):
        path.unlink(missing_ok=True)


def phantom(target: Path, seed: int) -> None:
    """Write the synthetic dataset for a run without --input, if it is not there yet."""
    from deepedit.io.phantom import write_phantom

    if not (target / "dataset.json").exists():
        say(f"no --input: writing a phantom dataset to {target}")
        write_phantom(target, seed=seed)


def _preparing(cases: Iterable[Any], count: int) -> Iterable[Any]:
    return progress(cases, "preparing", count)


def _unseen(cases: Iterable[Any], count: int) -> Iterable[Any]:
    return cases


class _Bar:
    """A tqdm bar that shows the share of the run that is over; on a terminal only."""

    def __init__(self, share: float, shown: bool) -> None:
        self.bar: Any = None  # one of tqdm's
        if shown and on_terminal():
            from tqdm import tqdm

            self.bar = tqdm(total=100, initial=round(100 * share, 1), unit="%", dynamic_ncols=True)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, progress: Any) -> None:
        self.bar.n = round(100 * progress.share, 1)
        losses = {f"loss {kind}": f"{value:.3f}" for kind, value in progress.loss.items()}
        self.bar.set_postfix({"step": progress.step, **losses})


if __name__ == "__main__":
    sys.exit(main())
