"""Repeats a row of docs/research.md: a run of so many steps, with a change, and how its clicks repair.

python -m benchmarks.tries --input DATASET --output FOLDER --steps 1150 --set click_loss_sigma=6
python -m benchmarks.tries --input DATASET --output FOLDER --patch-size 64,64,64 --split 0.8 --try two-widths=1.5+6
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from benchmarks.options import add_shared, parser
from benchmarks.tries.changes import CHANGES
from deepedit.evaluation import Corruption, evaluate_dataset, summarise
from deepedit.io.msd import find_dataset
from deepedit.training.config import RunSettings, TrainingConfig
from deepedit.training.loop import Progress, Trainer
from deepedit.training.run import Run
from deepedit.transforms.augmentation import Augmentation
from deepedit_cli.options import int_triple, share

REPORTED = (0, 1, 3, 5, 10)
LONGEST = 1e6  # minutes


def end_after(steps: int) -> None:
    """Let a run end after so many steps, with its schedule fitted to them, so that any machine gives the same."""
    agree = Trainer._agree

    def by_steps(trainer: Trainer, seconds: float, stop: bool) -> bool:
        stopped = agree(trainer, seconds, stop)
        trainer.progress.share = min(trainer.progress.step / steps, 1.0)
        return stopped

    Trainer._agree = by_steps


def configured(seed: int, settings: Sequence[str]) -> TrainingConfig:
    """The defaults, but for ``NAME=VALUE`` of the config or of its augmentation."""
    chosen = {name: number_or_range(value) for name, _, value in (each.partition("=") for each in settings)}
    names = {field.name for field in fields(Augmentation)}
    augmentation = Augmentation(**{name: value for name, value in chosen.items() if name in names})
    others = {name: value for name, value in chosen.items() if name not in names}
    return TrainingConfig(max_minutes=LONGEST, validations=0, seed=seed, augmentation=augmentation, **others)


def number_or_range(text: str) -> Any:
    """``"3"`` is an int, ``"0.5"`` a float, and ``"0.7+1.4"`` a range."""
    if "+" in text:
        return tuple(map(float, text.split("+")))
    return int(text) if text.isdigit() else float(text)


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    add_shared(options, "--input")
    add_shared(options, "--output", help="run folder")
    add_shared(options, "--steps", default=1150)
    add_shared(options, "--seed")
    options.add_argument(
        "--split",
        type=share,
        default=RunSettings.split,
        metavar="SHARE",
        help="share of the cases to train on (default: %(default)g)",
    )
    options.add_argument(
        "--patch-size", type=int_triple, metavar="VOXELS", help="size of a patch (default: fitted to the cases)"
    )
    options.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the run")
    options.add_argument("--try", action="append", default=[], metavar="NAME=VALUE", help=", ".join(CHANGES))
    add_shared(options, "--device")
    arguments = options.parse_args(argv)
    end_after(arguments.steps)
    for each in getattr(arguments, "try"):
        name, _, value = each.partition("=")
        CHANGES[name](value)
    settings = RunSettings(
        arguments.input,
        split=arguments.split,
        patch_size=arguments.patch_size,
        config=configured(arguments.seed, arguments.set),
    )
    run = Run(arguments.output, settings, print, arguments.device)

    def tell(progress: Progress) -> None:
        if progress.step % 100 == 0:
            print(f"step {progress.step}: {progress.loss}", flush=True)

    run.train(tell)
    model = replace(run.model, network=run.trainer.average)
    by_name = {case.name: case for case in find_dataset(arguments.input).cases}
    cases = [by_name[name] for name in model.validation_cases]
    print(f"{'from':<12}" + "".join(f"{number:>8}" for number in REPORTED) + "   repaired share at 10    obeyed alone")
    for start in (None, Corruption(0.60, 0.75)):
        summary = summarise(evaluate_dataset(model, cases, REPORTED[-1], start, oracle=True))
        curve = "".join(f"{summary.mean.dice[number]:8.4f}" for number in REPORTED)
        repaired, alone = summary.mean.repaired[-1], summary.clicks.obeyed_alone
        name = "automatic" if start is None else "0.60,0.75"
        told = "nothing to repair" if repaired is None else f"{repaired:.1%}"
        print(f"{name:<12}{curve}{told:>26}{alone or 0:>16.1%}", flush=True)


if __name__ == "__main__":
    main()
