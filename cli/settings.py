"""The settings of a run that ``deepedit-train`` is asked for: new ones, or those of an earlier run."""

import argparse
from dataclasses import fields, replace
from typing import Any

from deepedit.errors import TrainingError
from deepedit.files import one_line
from deepedit.io.dataset_json import parse_labels
from deepedit.network.architectures import NETWORKS
from deepedit.plan import Intensity
from deepedit.training.config import RunSettings, TrainingConfig
from deepedit_cli.common import UsageError

INTENSITY_OPTIONS = {"window": "window", "percentiles": "zscore"}
"""The mode of `Intensity` that each one asks for."""


def new_settings(arguments: argparse.Namespace) -> RunSettings:
    """The settings of a run that is begun; what is not asked for keeps its default."""
    run = asked(arguments)
    training = {each.name: run.pop(each.name) for each in fields(TrainingConfig) if each.name in run}
    studies = arguments.studies is not None
    if studies:
        # The cases held back shall compare the model with the one that it began from: none may be chosen by them.
        training["validations"] = 1
    try:
        config = TrainingConfig(record_passes=not arguments.eager, **training)
        dataset = arguments.studies or arguments.input or arguments.output / "phantom"
        return RunSettings(dataset, studies, cache=arguments.cache_dir, workers=arguments.workers, config=config, **run)
    except ValueError as error:
        raise UsageError(str(error)) from error


def kept_settings(arguments: argparse.Namespace) -> RunSettings:
    """The settings of an earlier run, but for where its files lie now and how they are worked with.

    Raises:
        DeepEditError: if there is no such run, or something else is asked for than it was begun with.
    """
    from deepedit.training.record import read_config

    if arguments.resume and not (arguments.output / "config.json").exists():
        raise TrainingError(f"{arguments.output}: no run to go on with; begin one without --resume")
    source = arguments.output if arguments.resume else arguments.config
    settings = read_config(source)
    for name, value in asked(arguments).items():
        if getattr(settings if hasattr(settings, name) else settings.config, name) != value:
            where = one_line(source)
            raise UsageError(
                f"`{name}`: {where} was begun with another, which is kept; leave it out, or begin a new run"
            )
    if arguments.input is not None and settings.studies:
        raise UsageError(f"--input: {one_line(source)} was begun on studies; name their folder with --studies")
    if arguments.studies is not None and not settings.studies:
        raise UsageError(f"--studies: {one_line(source)} was begun on a dataset; name its folder with --input")
    return replace(
        settings,
        dataset=arguments.studies or arguments.input or settings.dataset,
        cache=arguments.cache_dir or settings.cache,
        workers=arguments.workers,
        config=replace(settings.config, record_passes=not arguments.eager),
    )


def asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the arguments ask for of how to train, by the names of `RunSettings` and `TrainingConfig`."""
    names = (
        *("labels", "split", "split_seed", "spacing", "patch_size", "affine", "units", "network", "init_weights"),
        *("epochs", "max_minutes", "batch_size", "accumulate", "checkpointing", "learning_rate"),
        *("click_probability", "max_clicks", "amp", "limit", "seed"),
    )
    # By identity: 0 is asked for, and equal to False.
    found = {name: value for name in names if (value := getattr(arguments, name)) is not None and value is not False}
    if "labels" in found:
        found["labels"] = parse_labels(found["labels"])
    if "network" in found:
        found["network"] = NETWORKS[found["network"]]
    for option, mode in INTENSITY_OPTIONS.items():
        if (ends := getattr(arguments, option)) is not None:
            try:
                found["intensity"] = Intensity(mode, *ends)
            except ValueError as error:
                raise UsageError(f"--{option} {ends[0]:g} {ends[1]:g}: {error}") from error
    return found
