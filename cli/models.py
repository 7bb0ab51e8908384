"""What ``deepedit-train`` does with models besides training: importing one from MONAI, and exporting one."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepedit.errors import DeepEditError, FileError
from deepedit.files import one_line, pasted, replace_atomically
from deepedit_cli.common import UsageError, refuse_existing, say
from deepedit_cli.next_steps import spelt
from deepedit_cli.options import int_triple

if TYPE_CHECKING:  # importing it for good would make --help wait for torch
    from deepedit.network.checkpoint import Model

EXPORTS = ("torchscript", "monai")

GRID = (128, 128, 128)
"""To which MONAI's tutorial resizes images."""

ORDERS = """\
channel order (--channel-order), for a model from MONAI or for MONAI:
  MONAI 1.6 and later order the channels of guidance and output by name, with
  the background first: sorted. Earlier versions use the order of the dictionary
  of labels, with the background last: dict; then give --labels in the order of
  that dictionary. Nothing in the weights tells which order was used. If you do
  not know which version trained the model, import it both ways and click once
  on an organ: with the wrong order the click removes instead of adding, or
  gives another label.
"""


def add_model_options(options: argparse._ActionsContainer) -> None:
    """Add the options for importing or exporting a model instead of training."""
    options.add_argument(
        "--import-monai",
        type=Path,
        metavar="FILE",
        help="weights of a DynUNet of MONAI's DeepEdit, to become model.pt in --output",
    )
    options.add_argument("--channel-order", choices=("sorted", "dict"), help="order of MONAI's channels, see below")
    options.add_argument(
        "--strides",
        type=_strides,
        metavar="N,...",
        help="strides of MONAI's network, to be checked, as 1,2,2,2,2,(2,2,1)",
    )
    options.add_argument(
        "--grid",
        type=int_triple,
        metavar="VOXELS",
        help=f"shape to which MONAI resized images (default: {','.join(map(str, GRID))})",
    )
    options.add_argument(
        "--widen", action="store_true", help="add inputs for a previous segmentation to the imported network"
    )
    options.add_argument(
        "--export",
        nargs="?",
        const=EXPORTS[0],
        type=_export_format,
        metavar="|".join(EXPORTS),
        help="export the model --input; without a format, or with true, as torchscript",
    )


def refuse_model_options(arguments: argparse.Namespace) -> None:
    """Refuse options for importing or exporting a model where neither is done.

    Raises:
        UsageError: if there is one.
    """
    of_imports = {"--strides": arguments.strides, "--grid": arguments.grid, "--widen": arguments.widen or None}
    given = [option for option, value in of_imports.items() if value is not None]
    if given and arguments.import_monai is None:
        raise UsageError(f"{given[0]} is for --import-monai; leave it out")
    if arguments.channel_order is not None and arguments.import_monai is None and arguments.export != "monai":
        raise UsageError("--channel-order is for --import-monai and --export monai; leave it out")


def import_monai(arguments: argparse.Namespace) -> "Model":
    """The model with the weights of a DynUNet."""
    if arguments.input is not None:
        raise UsageError(
            "--import-monai does not train; leave --input out, then train with --init-weights RUN/model.pt"
        )
    if not arguments.labels:
        raise UsageError("--import-monai needs the names and file values of the labels: --labels spleen=1,background=0")
    if arguments.channel_order is None:
        raise UsageError(
            "--import-monai needs --channel-order: sorted if MONAI 1.6 or later trained the model, dict if an earlier "
            "one did; nothing in the weights tells; --help says how to find out"
        )
    from deepedit.io.dataset_json import parse_labels
    from deepedit.network.monai import import_model
    from deepedit.network.monai_files import count_heads, read_dynunet
    from deepedit.network.transfer import widen

    labels = parse_labels(arguments.labels)
    weights = read_dynunet(arguments.import_monai)
    if heads := count_heads(weights):
        say(f"note: left out {heads} head(s) for deep supervision, which only training in MONAI uses")
    grid = arguments.grid or GRID
    try:
        model = import_model(weights, labels, arguments.channel_order, arguments.strides, grid)
        return widen(model) if arguments.widen else model
    except DeepEditError as error:
        raise type(error)(f"{one_line(arguments.import_monai)}: {error}") from error


def write_imported(path: Path, model: "Model") -> None:
    """Write an imported model, and print its properties and what to do with it."""
    from deepedit.network.checkpoint import save_model

    save_model(path, model)
    plan = model.plan
    named = ", ".join(f"{name}={value}" for name, value in zip(plan.labels.names, plan.labels.values, strict=True))
    edits = "takes a" if plan.previous else "takes no"
    say(
        f"wrote {path}: {named}; resizes images to {' x '.join(map(str, plan.fixed_shape or ()))} voxels, {edits} "
        "segmentation to correct"
    )
    say(f"try it: {spelt('deepedit-infer')} {pasted('--model', path)} --input IMAGE --output SEGMENTATION")
    say(
        f"fine-tune it: {spelt('deepedit-train')} --input DATASET {pasted('--init-weights', path)} --output ANOTHER_RUN"
    )


def export(arguments: argparse.Namespace) -> None:
    """Write a model for use without this package, or for MONAI."""
    source, target = arguments.input, arguments.output
    if source is None:
        raise UsageError("--export needs --input MODEL, as in --input run/model.pt --output run/model.ts --export")
    targets = [target, target.parent / f"{target.stem}.pt2"] if arguments.export == EXPORTS[0] else [target]
    if os.path.realpath(source) in map(os.path.realpath, targets):
        raise FileError(f"{one_line(source)}: is the model to export, and would be replaced; choose another --output")
    if len(set(targets)) < len(targets):
        raise FileError(f"{one_line(target)}: is where the torch.export program goes; call the output model.ts")
    for path in targets:
        refuse_existing(path, arguments.overwrite)
    if arguments.export == "monai":
        _export_monai(arguments)
    else:
        _export_torchscript(source, *targets)


def _export_torchscript(source: Path, target: Path, program: Path) -> None:
    """Write TorchScript, and a torch.export program beside it if this version of torch can."""
    from deepedit.network.checkpoint import load_model
    from deepedit.network.export import export_program, export_torchscript

    model = load_model(source)
    export_torchscript(model, target)
    say(f"wrote {target}, for torch.jit.load")
    _say_what_is_left_out(model)
    try:
        export_program(model, program)
        say(f"wrote {program}, for torch.export.load")
    except DeepEditError:
        raise
    except Exception as error:  # torch.export fails in many ways, by version; the first file is written all the same
        say(f"no {program}: this version of torch cannot export the network ({type(error).__name__})")


def _export_monai(arguments: argparse.Namespace) -> None:
    """Write a state dict for DynUNet, and print how to load it."""
    import torch

    from deepedit.io.dataset_json import parse_labels
    from deepedit.network.checkpoint import load_model
    from deepedit.network.dynunet import dynunet_arguments
    from deepedit.network.monai import export_dynunet

    source, target = arguments.input, arguments.output
    model = load_model(source)
    plan_labels = model.plan.labels
    labels = dict(zip(plan_labels.names, plan_labels.values, strict=True))
    if arguments.labels:
        labels = {name: value for name, value in parse_labels(arguments.labels).items() if value}
    order = arguments.channel_order or "sorted"
    try:
        weights = export_dynunet(model, order, labels)
    except DeepEditError as error:
        raise type(error)(f"{one_line(source)}: {error}") from error
    with replace_atomically(target) as stream:
        torch.save(weights, stream)
    say(f"wrote {target}, channels by --channel-order {order}, for MONAI with labels {dict(labels, background=0)}")
    _say_what_is_left_out(model)
    how = ", ".join(f"{name}={value!r}" for name, value in dynunet_arguments(model.network).items())
    say(f"load it into: monai.networks.nets.DynUNet({how})")


def _say_what_is_left_out(model: "Model") -> None:
    if model.refiner is not None:
        say("note: left out the refiner, without which clicks are answered by the network alone")


def _strides(text: str) -> list[Any]:
    """Strides as MONAI's users write them: ``1,2,2,2,2,(2,2,1)``."""
    try:
        entries = json.loads(f"[{text.replace('(', '[').replace(')', ']')}]")
    except ValueError:
        entries = []
    sides = [side for entry in entries for side in (entry if isinstance(entry, list) and len(entry) == 3 else [entry])]
    if not entries or not all(type(side) is int and side > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} are no strides; write them as 1,2,2,2,2,(2,2,1)")
    return entries


def _export_format(text: str) -> str | None:
    formats: dict[str, str | None] = {"true": EXPORTS[0], "false": None, **{each: each for each in EXPORTS}}
    if text.lower() not in formats:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(EXPORTS)}")
    return formats[text.lower()]
