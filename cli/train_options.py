"""The options of ``deepedit-train``."""

import argparse
from dataclasses import fields
from pathlib import Path

from deepedit.defaults import LARGEST_PATCH, PERCENTILES, WINDOW
from deepedit.network.architectures import DEFAULT_NETWORK, NETWORKS
from deepedit.training.config import RunSettings, TrainingConfig
from deepedit_cli.common import Parser, parser
from deepedit_cli.models import ORDERS, add_model_options
from deepedit_cli.options import (
    add_reading,
    add_shared,
    count,
    int_triple,
    number,
    positive,
    positive_int,
    share,
    spacing,
)

DEFAULTS = {each.name: each.default for kind in (RunSettings, TrainingConfig) for each in fields(kind)}

PROGRAM = "deepedit-train"
DESCRIPTION = """\
Train a network that segments automatically, from clicks, and by correcting a
segmentation. Also imports models from MONAI, and exports models.
"""
EXAMPLES = f"""\
examples:
  deepedit-train --output run
    train on a synthetic dataset that is written first
  deepedit-train --input Task09_Spleen --output run
    train on your own dataset
  deepedit-train --output run --resume
    resume a run that was interrupted
  deepedit-train --init-weights run/model.pt --studies STUDIES --output tuned
    fine-tune on what annotators submitted
  torchrun --nproc-per-node 2 -m deepedit_cli.train --input Task09_Spleen \\
      --output run
    train on two GPUs
  deepedit-train --input run/model.pt --output run/model.ts --export
  deepedit-train --import-monai weights.pt --labels spleen=1,background=0 \\
      --channel-order sorted --output run

{ORDERS}"""


def command_line() -> Parser:
    made = parser(PROGRAM, DESCRIPTION, EXAMPLES)
    files = made.add_argument_group("input and output")
    data = files.add_mutually_exclusive_group()
    data.add_argument(
        "--input",
        type=Path,
        metavar="FILE|FOLDER",
        help="dataset folder (default: a phantom dataset, written into the run folder); with --export a model",
    )
    data.add_argument(
        "--studies",
        type=Path,
        metavar="FOLDER",
        help="folder of studies as annotators leave it (images, labels/final, labelsTr) to fine-tune --init-weights on",
    )
    files.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE|FOLDER",
        help="run folder; with --export the file to write",
    )
    add_shared(files, "--overwrite")
    again = files.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in --output, with its own settings")
    again.add_argument("--config", type=Path, metavar="FILE", help="config.json of a run whose settings to repeat")
    files.add_argument("--init-weights", type=Path, metavar="FILE", help="model.pt to start from")
    files.add_argument("--progress", type=Path, metavar="FILE", help="JSON file to keep up to date, for other programs")

    add_reading(made.add_argument_group("reading of images"), "--init-weights", otherwise=True)
    _add_preparation(made.add_argument_group("preparation of images"))

    cases = made.add_argument_group("cases")
    cases.add_argument(
        "--labels",
        metavar="NAME=VALUE,...",
        help="names and file values, as spleen=1,liver=6; others become background, those of ignore count nowhere",
    )
    add_shared(cases, "--limit", help="use only N training cases")
    cases.add_argument(
        "--split", type=share, metavar="SHARE", help=f"share of the cases to train on {default('split')}"
    )
    cases.add_argument(
        "--split-seed", type=count, metavar="N", help=f"seed of the choice of these cases {default('split_seed')}"
    )

    clicks = made.add_argument_group("clicks")
    clicks.add_argument(
        "--click-probability",
        type=share,
        metavar="SHARE",
        help=f"share of the network's passes that have clicks {default('click_probability')}",
    )
    add_shared(clicks, "--max-clicks", help=f"greatest number of clicks in a sample {default('max_clicks')}")

    how = made.add_argument_group("training")
    how.add_argument("--network", choices=tuple(NETWORKS), help=f"architecture (default: {DEFAULT_NETWORK})")
    how.add_argument("--epochs", type=positive_int, metavar="N", help=f"visits to each case {default('epochs')}")
    how.add_argument("--max-minutes", type=positive, metavar="MINUTES", help="train by the clock, not by epochs")
    how.add_argument(
        "--batch-size", type=positive_int, metavar="N", help=f"patches in each step {default('batch_size')}"
    )
    how.add_argument("--learning-rate", type=positive, metavar="RATE", help=f"highest rate {default('learning_rate')}")
    add_shared(how, "--seed", help=f"seed of everything random except the split {default('seed')}")

    _add_speed(made.add_argument_group("speed and memory"))
    add_model_options(made.add_argument_group("import and export of models"))
    return made


def _add_preparation(images: argparse._ActionsContainer) -> None:
    images.add_argument(
        "--spacing",
        type=spacing,
        metavar="MM",
        help="voxel size of the network's grid, as 1.5,1.5,3 (default: the median of the cases)",
    )
    images.add_argument(
        "--patch-size",
        type=int_triple,
        metavar="VOXELS",
        help=f"size of a patch, as 96,96,64 (default: fitted to the cases, at most {LARGEST_PATCH})",
    )
    intensity = images.add_mutually_exclusive_group()
    intensity.add_argument(
        "--window",
        type=number,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="intensities that images are clipped to, as -1000 400 "
        f"(default for CT: as --init-weights was trained, else {WINDOW[0]:g} {WINDOW[1]:g})",
    )
    intensity.add_argument(
        "--percentiles",
        type=number,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="percentiles of each image that it is clipped to before its mean becomes 0 and its standard deviation 1 "
        f"(default for all but CT: as --init-weights was trained, else {PERCENTILES[0]:g} {PERCENTILES[1]:g})",
    )


def _add_speed(speed: argparse._ActionsContainer) -> None:
    add_shared(speed, "--device")
    # None tells a run that goes on that nothing was asked for.
    add_shared(speed, "--amp", default=None)
    speed.add_argument(
        "--accumulate",
        type=positive_int,
        metavar="N",
        help=f"process a batch in N parts, to save memory {default('accumulate')}",
    )
    speed.add_argument(
        "--checkpointing",
        action="store_true",
        help="compute activations twice, which takes less memory and a third more time",
    )
    speed.add_argument(
        "--eager", action="store_true", help="on a GPU, start a network's kernels one by one, never as a CUDA graph"
    )
    speed.add_argument(
        "--workers",
        type=positive_int,
        default=DEFAULTS["workers"],
        metavar="N",
        help="threads that prepare data (default: %(default)s)",
    )
    speed.add_argument(
        "--cache-dir",
        type=Path,
        metavar="FOLDER",
        help="where prepared cases are kept (default: cache in the run folder)",
    )


def default(name: str) -> str:
    """The default of the setting of this name, for the help of its option. The option itself has None, which tells a
    run that goes on that nothing was asked for."""
    return f"(default: {DEFAULTS[name]:g})"
