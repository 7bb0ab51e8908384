"""``deepedit-train``: train on a dataset folder, resume a run, import a model of MONAI, or export a model."""

import argparse
import json
import math
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepedit.defaults import LARGEST_PATCH, PERCENTILES, WINDOW
from deepedit.errors import FileError
from deepedit.files import make_folder, pasted
from deepedit.network.architectures import DEFAULT_NETWORK, NETWORKS
from deepedit.training.config import RunSettings, TrainingConfig
from deepedit_cli.common import (
    INTERRUPTED,
    add_common,
    add_reading,
    count,
    int_triple,
    number,
    on_terminal,
    parser,
    positive,
    positive_int,
    progress,
    run,
    say,
    share,
    spacing,
)
from deepedit_cli.models import ORDERS, add_model_options, export, import_monai, write_imported
from deepedit_cli.next_steps import spelt, try_it
from deepedit_cli.settings import kept_settings, new_settings

if TYPE_CHECKING:  # importing it for good would make --help wait for torch
    from deepedit.ranks import Ranks

DEFAULTS = {each.name: each.default for kind in (RunSettings, TrainingConfig) for each in fields(kind)}

EXAMPLES = f"""examples:
  deepedit-train --output run                                 train on a synthetic dataset that is written first
  deepedit-train --input Task09_Spleen --output run           train on your own dataset
  deepedit-train --init-weights run/model.pt --studies FOLDER --output tuned      fine-tune on what annotators submitted
  deepedit-train --output run --resume                        resume a run that was interrupted
  torchrun --nproc-per-node 2 -m deepedit_cli.train --input Task09_Spleen --output run      on two GPUs
  deepedit-train --input run/model.pt --output run/model.ts --export
  deepedit-train --import-monai weights.pt --labels spleen=1,background=0 --channel-order sorted --output run

{ORDERS}"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("deepedit-train", train, argv)


def options() -> argparse.ArgumentParser:
    """The parser with all options of the command line."""
    add = parser(
        "deepedit-train", "Train a network that segments automatically, from clicks, and by correction.", EXAMPLES
    )
    data_from = add.add_mutually_exclusive_group()
    data_from.add_argument(
        "--input", type=Path, help="dataset folder; default: a phantom dataset written to RUN/phantom"
    )
    data_from.add_argument(
        "--studies",
        type=Path,
        metavar="FOLDER",
        help="folder of studies as annotators leave it (images, labels/final, labelsTr) to fine-tune --init-weights on",
    )
    add.add_argument("--output", type=Path, required=True, help="run folder; with --export the file to write")
    again = add.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in --output, with its own settings")
    again.add_argument("--config", type=Path, help="config.json of a run whose settings to repeat")
    add.add_argument("--init-weights", type=Path, metavar="MODEL", help="model to start from")

    data = add.add_argument_group("data")
    data.add_argument(
        "--labels",
        help="names and file values, as in spleen=1,liver=6; others become background, those of ignore count nowhere",
    )
    add_reading(data, "that of --init-weights, else sform and header")
    data.add_argument("--split", type=share, help=f"share of the cases to train on {default('split')}")
    data.add_argument("--split-seed", type=count, help=f"seed of the choice of these cases {default('split_seed')}")
    data.add_argument("--spacing", type=spacing, help="mm of the network's grid (default: the median of the cases)")
    data.add_argument(
        "--patch-size", type=int_triple, help=f"voxels (default: fitted to the cases, at most {LARGEST_PATCH})"
    )
    intensity = data.add_mutually_exclusive_group()
    intensity.add_argument(
        "--window",
        type=number,
        nargs=2,
        metavar=("LOWEST", "HIGHEST"),
        help="intensities that images are clipped to, as -1000 400 "
        f"(default for CT: that of --init-weights, else {WINDOW[0]:g} {WINDOW[1]:g})",
    )
    intensity.add_argument(
        "--percentiles",
        type=number,
        nargs=2,
        metavar=("LOWEST", "HIGHEST"),
        help="percentiles of each image that it is clipped to before its mean becomes 0 and its standard deviation 1 "
        f"(default for all but CT: those of --init-weights, else {PERCENTILES[0]:g} {PERCENTILES[1]:g})",
    )
    data.add_argument("--limit", type=positive_int, help="use only this many training cases")
    data.add_argument("--cache-dir", type=Path, help="where prepared cases are kept (default: RUN/cache)")
    data.add_argument(
        "--workers",
        type=positive_int,
        default=DEFAULTS["workers"],
        help="threads that prepare data (default: %(default)s)",
    )

    how = add.add_argument_group("training")
    how.add_argument("--network", choices=tuple(NETWORKS), help=f"architecture (default: {DEFAULT_NETWORK})")
    how.add_argument("--epochs", type=positive_int, help=f"visits to each case {default('epochs')}")
    how.add_argument("--max-minutes", type=positive, help="train by the clock, not by epochs")
    how.add_argument("--batch-size", type=positive_int, help=f"patches in each step {default('batch_size')}")
    how.add_argument(
        "--accumulate",
        type=positive_int,
        help=f"process a batch in this many parts, to save memory {default('accumulate')}",
    )
    how.add_argument(
        "--checkpointing",
        action="store_true",
        help="compute activations twice, which takes less memory and a third more time",
    )
    how.add_argument(
        "--eager", action="store_true", help="on a GPU, start a network's kernels one by one, never as a CUDA graph"
    )
    how.add_argument("--learning-rate", type=positive, help=f"highest rate {default('learning_rate')}")
    how.add_argument(
        "--click-probability",
        type=share,
        help=f"share of the network's passes that have clicks {default('click_probability')}",
    )
    how.add_argument("--max-clicks", type=count, help=f"greatest number of clicks in a sample {default('max_clicks')}")
    how.add_argument("--seed", type=count, help=f"seed of everything random except the split {default('seed')}")
    how.add_argument("--progress", type=Path, metavar="FILE", help="JSON file to keep up to date, for other programs")
    add_model_options(add)
    add_common(add)
    # Else a run that goes on could not tell what was asked for from what was not.
    add.set_defaults(amp=None)
    return add


def default(name: str) -> str:
    """The default of the setting of this name, for the help of its option. The option itself has None, which tells a
    run that goes on that nothing was asked for."""
    return f"(default: {DEFAULTS[name]:g})"


def train(argv: Sequence[str] | None) -> int:
    arguments = options().parse_args(argv)
    folder = arguments.output
    if arguments.export is not None:
        export(arguments)
        return 0
    if arguments.import_monai is not None:
        model = import_monai(arguments)
        claim(folder, arguments.overwrite)
        write_imported(folder / "model.pt", model)
        return 0
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
        # Only after all checks: a start that fails must not leave a run that --overwrite would have to replace.
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
    """Make the run folder; the files of an earlier run in it are removed only with --overwrite."""
    if folder.is_dir() and any((folder / name).exists() for name in ("model.pt", "last.pt", "config.json")):
        if not overwrite:
            raise FileError(f"{folder}: holds a run already; go on with it by --resume, or replace it by --overwrite")
        for name in ("model.pt", "last.pt", "config.json"):
            (folder / name).unlink(missing_ok=True)
        for events in (folder / "tensorboard").glob("events.*"):
            events.unlink()
    make_folder(folder)


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
