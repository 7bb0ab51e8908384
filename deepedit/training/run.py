"""A training run in a folder: starting or resuming it, saving its state, and keeping its best model."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deepedit.errors import Cancelled, DatasetError, TrainingError
from deepedit.files import one_line, pasted, remove_unfinished
from deepedit.io.msd import find_dataset, listed_problems, split_cases
from deepedit.io.pairing import Case
from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model, load_model, model_from_entries, read_entries, save_model
from deepedit.network.inputs import input_channels, pick_device
from deepedit.network.transfer import transfer_weights
from deepedit.network.unet import build_network
from deepedit.plan import Plan
from deepedit.ranks import Ranks
from deepedit.training.board import Board
from deepedit.training.config import RunSettings
from deepedit.training.data import PreparedCase
from deepedit.training.loop import Progress, Trainer
from deepedit.training.mirror import exchanged
from deepedit.training.planning import plan_of_run
from deepedit.training.preparation import Bar, Preparation
from deepedit.training.refining import learn_refiner
from deepedit.training.room import Room
from deepedit.training.saved import read_run
from deepedit.training.schedule import REFINING, generator_for, patch_sides, refines
from deepedit.training.studies import files_of, studies_dataset
from deepedit.training.validation import Validation, validate
from deepedit.volume import DEFAULT_READING, Reading

SECONDS_BETWEEN_CHECKPOINTS = 300
VALIDATING = 0.1
"""Share of a run by the clock that validations may take."""


class Run:
    """A run and its folder.

    The folder holds ``model.pt``, the best model; ``last.pt``, the newest network with the state of training;
    ``config.json``, the settings and versions; and ``tensorboard``, the curves and pictures.

    Args:
        folder: the run folder.
        settings: what to train on, and how.
        say: called with every line for the user.
        device: see `pick_device`.
        resume: whether to go on from ``last.pt``.
        ranks: the processes that share the run; the first one writes the files and the lines.
        bar: see `Bar`.
    """

    def __init__(
        self,
        folder: Path,
        settings: RunSettings,
        say: Callable[[str], None],
        device: str = "auto",
        resume: bool = False,
        ranks: Ranks | None = None,
        bar: Bar = lambda cases, count: cases,
    ) -> None:
        self.ranks, self.bar = ranks or Ranks(), bar
        if settings.config.batch_size % self.ranks.size:
            raise TrainingError(
                f"a batch of {settings.config.batch_size} cannot be shared evenly by {self.ranks.size} processes; give "
                "`batch_size` a multiple"
            )
        self.folder, self.settings, self.device = folder, settings, pick_device(device)
        self.say = say if self.ranks.first else lambda line: None
        self.config = settings.config
        if self.ranks.first:
            remove_unfinished(folder)
        source = None
        saved = read_run(folder, self.device, self.ranks) if resume else None
        if saved:
            self.model, self.best, self.validated = saved.model, saved.best, saved.validated
            reading = self.model.plan.reading
        else:
            source = load_model(settings.init_weights) if settings.init_weights is not None else None
            reading = settings.reading(source.plan.reading if source else DEFAULT_READING)
        self.refining_done = saved is not None and saved.refining_done
        self.seen: Collection[str] = ()
        self.held_back: Collection[str] = ()
        if settings.studies:
            model = source or self.model
            self.seen, self.held_back = model.seen_cases, model.validation_cases
            self.dataset = studies_dataset(settings.dataset, settings.labels, reading, model)
        else:
            self.dataset = find_dataset(settings.dataset, settings.labels, reading)
        for warning in self.dataset.warnings:
            self.say(f"note: {warning}")
        if not saved:
            self.model, self.best, self.validated = self._new_model(source, reading), -1.0, 0
        by_name = {case.name: case for case in self.dataset.cases}
        missing = {*self.model.training_cases, *self.model.validation_cases} - set(by_name)
        if missing:
            raise TrainingError(f"{settings.dataset}: cases that the run was begun with are gone: {', '.join(missing)}")
        cases = self._prepare(by_name, spare_bad=settings.studies and not resume)
        self.training_cases = [by_name[name] for name in self.model.training_cases]
        # In random order, since the first ones by name, which a run with little time validates, may be much alike.
        names = self.model.validation_cases
        order = torch.randperm(len(names), generator=generator_for(0, "validation")).tolist()
        self.validation_cases = [by_name[names[number]] for number in order[: saved.cases_validated if saved else None]]
        self.model.training_files = files_of(self.dataset, self.model.training_cases)
        self.model.network.checkpointing = self.config.checkpointing
        self.trainer = Trainer(self.model, cases, self.config, settings.workers, self.ranks)
        if share := self.config.augmentation.mirror_probability:
            mirrored = self.trainer.batch.stream.mirrored
            if mirrored is None:
                self.say("no sample is mirrored: the dataset does not show that this is safe")
            else:
                labels = exchanged(self.model.plan.labels, mirrored)
                self.say(f"{share:.0%} of the samples are mirrored left to right{labels}")
        if saved:
            self._restore(saved.trainer)

    def train(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
        lines: bool = True,
    ) -> bool:
        """Train, with validations, to the end or until stopped; ``last.pt`` is written in both cases.

        Args:
            on_progress: called after every step.
            stop: asked after every step, before every step of the refiner, and before every case that is validated or
                clicked on.
            lines: whether to say from time to time how the run is doing, as when no progress bar shows it.

        Returns:
            Whether the end was reached.
        """
        progress, validations = self.trainer.progress, self.config.validations
        board = Board(self.folder / "tensorboard", progress, lines, self.say) if self.ranks.first else None
        saved = progress.seconds

        def on_step(progress: Progress) -> None:
            nonlocal saved
            if on_progress:
                on_progress(progress)
            if board:
                board.step(progress)
            if progress.share * validations >= self.validated + 1:
                self._validate(board, stop)
            # By the clock of the first rank, which all ranks know: they must save together.
            elif progress.seconds - saved > SECONDS_BETWEEN_CHECKPOINTS:
                self.save_last()
                saved = progress.seconds

        try:
            if progress.step == 0:
                # If the folder cannot hold the file, this fails now and not after hours.
                self.save_last()
            self.trainer.train(on_step, stop)
            if progress.share < 1:
                self.save_last()
                return False
            return (self.validated >= validations or self._validate(board, stop)) and self._refine(stop)
        finally:
            if board:
                board.close()

    def save_last(self) -> None:
        """Write ``last.pt``: the averaged model and the state of training. All ranks must call this."""
        state = {
            "trainer": self.trainer.state(),
            "best": self.best,
            "validated": self.validated,
            "cases_validated": len(self.validation_cases),
            "refined": self.refining_done,
        }
        if self.ranks.first:
            save_model(self.folder / "last.pt", replace(self.model, network=self.trainer.average), state)

    def _validate(self, board: Board | None, stop: Callable[[], bool]) -> bool:
        """Validate the network as it is now, keep it if it is the best so far, and save the state; False if this was
        stopped."""
        share = self.trainer.progress.share
        average = replace(self.model, network=self.trainer.average)
        result = self._measured(average, f"at {share:4.0%}", stop)
        if result is not None:
            self.validated = int(share * self.config.validations)
            if board:
                board.validation(result, self.trainer.progress.step)
            # Of equal ones the last has seen most.
            if result.score >= self.best:
                self._keep(average, result)
            elif share >= 1:
                self.say("note: model.pt is of an earlier validation, which was better")
        self.save_last()
        return result is not None

    def _refine(self, stop: Callable[[], bool]) -> bool:
        """At the end of a run, teach the best model to refine its answers; False if this was stopped.

        What it learned is not used if the model is better without. A run on studies uses it in any case, since it
        chooses nothing by the cases that are held back.
        """
        if self.refining_done or not refines(self.config):
            return True
        path, minutes = self.folder / "model.pt", self.config.max_minutes
        # The first rank reads the file for all, since the folders of others may be on other machines.
        entries = self.ranks.gather(read_entries(path) if self.ranks.first else {})[0]
        model = model_from_entries(entries, path, self.device)
        seconds = math.inf if minutes is None else 60 * minutes * REFINING
        try:
            refiner = learn_refiner(model, self.training_cases, self.config, self.ranks, stop, seconds, self.say)
        except Cancelled:
            return False
        if refiner is not model.refiner:
            model = replace(model, refiner=refiner, training_files=self.model.training_files)
            result = self._measured(model, "with refined answers", stop)
            if result is None:
                return False
            if self.settings.studies or result.score >= self.best:
                self._keep(model, result, refined=True)
            else:
                self.say("note: model.pt stays as it was, since its Dice is higher than with the refiner that learned")
        self.refining_done = True
        self.save_last()
        return True

    def _measured(self, model: Model, when: str, stop: Callable[[], bool]) -> Validation | None:
        """Validate a model, and say how good it is; None if this was stopped."""
        seconds = self._seconds_to_validate()
        result = validate(model, self.validation_cases, self.config.amp, ranks=self.ranks, stop=stop, seconds=seconds)
        if result is None:
            return None
        if result.cases < len(self.validation_cases):
            self.say(
                f"note: {result.cases} of {len(self.validation_cases)} cases are validated, as all would take more "
                f"than {VALIDATING:.0%} of the run; `deepedit-evaluate` does all"
            )
            # All validations are of the same cases, as the best model is chosen by them.
            self.validation_cases = self.validation_cases[: result.cases]
        means = ", ".join(f"{result.mean(clicks):.4f} with {clicks}" for clicks in result.dice)
        self.say(f"validation {when}: mean Dice {means} clicks")
        return result

    def _keep(self, model: Model, result: Validation, refined: bool = False) -> None:
        self.best = result.score
        if self.ranks.first:
            save_model(self.folder / "model.pt", model, {"best": self.best, "refined": refined})

    def _seconds_to_validate(self) -> float:
        """What the first validation of a run by the clock may take; it decides for how many cases there is time."""
        if self.config.max_minutes is None or self.validated:
            return math.inf
        return 60 * self.config.max_minutes * VALIDATING / max(self.config.validations + refines(self.config), 1)

    def _new_model(self, source: Model | None, reading: Reading) -> Model:
        """A model to train; those of its weights that fit are taken from `source`."""
        settings = self.settings
        network_config = source.network.config if source is not None else settings.network
        plan = plan_of_run(settings, self.dataset, network_config, source.plan if source else None, reading)
        channels = input_channels(plan.image_channels, plan.labels.num_classes, plan.previous)
        names = [case.name for case in self.dataset.cases]
        training, validation = self._split(names)
        room = Room(settings, network_config, channels, self.device, self.ranks, self.say)
        plan = room.in_memory(plan)
        in_time = room.in_time(plan, [case for case in self.dataset.cases if case.name in training])
        if in_time != plan:
            # A run that goes on, or repeats this one, need not measure again, and has the same plan.
            plan, self.settings = in_time, replace(settings, patch_size=in_time.patch_size)
        network = build_network(channels, plan.labels.num_classes, network_config, self.config.seed)
        model = Model(network, plan, training, validation)
        if source is not None:
            model.inherited_cases = tuple(sorted(source.seen_cases))
            for line in transfer_weights(source, model):
                self.say(f"not taken from {settings.init_weights}: {line}")
        self.say(
            f"{len(training)} cases to train on, {len(validation)} to validate; labels "
            f"{', '.join(f'{n}={v}' for n, v in zip(plan.labels.names, plan.labels.values, strict=True))}"
            f"{'' if plan.ignore is None else f', voxels of value {plan.ignore} are ignored'}; spacing "
            f"{'any' if plan.fixed_shape else ' x '.join(f'{mm:g}' for mm in plan.spacing) + ' mm'}; "
            f"patch {' x '.join(map(str, plan.patch_size))}{self._small_patch(plan, network_config)}; "
            f"intensities by {plan.intensity}"
        )
        return model.to(self.device)

    def _split(self, names: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The cases to train on, and those to validate; of studies the latter are none that `init_weights` has seen."""
        settings = self.settings
        training, validation = split_cases(
            names, settings.split, settings.split_seed, seen=self.seen, held_back=self.held_back
        )
        return training[: self.config.limit], validation

    def _small_patch(self, plan: Plan, network: UNetConfig) -> str:
        small = patch_sides(0.0, plan, network.divisor, self.config)
        if small == plan.patch_size:
            return ""
        return f", until {self.config.small_patches:.0%} of the run {' x '.join(map(str, small))}"

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self.trainer.restore(state)
        except (LookupError, TypeError, ValueError) as error:
            path = self.folder / "last.pt"
            raise TrainingError(
                f"{path}: its state of training is not one of this version; begin a new run with "
                f"{pasted('`init_weights`', path)}"
            ) from error

    def _prepare(self, by_name: Mapping[str, Case], spare_bad: bool) -> list[PreparedCase]:
        """The training cases, each prepared by one rank and then opened by all ranks.

        Args:
            by_name: the cases of the dataset.
            spare_bad: leave out cases that cannot be used, and say so; the others are divided as if there were no such
                cases.

        Raises:
            DatasetError: with a list of all images that cannot be used, including those of the validation cases; with
                `spare_bad` only if no case is left.
        """
        settings, model = self.settings, self.model
        preparation = Preparation(settings, model.plan, settings.cache or self.folder / "cache", self.ranks)
        names = {*model.training_cases, *model.validation_cases}
        every = [case for case in by_name.values() if case.name in names]
        problems, notes = preparation.look(every, model.training_cases, self.bar)
        left = [name for name in by_name if name not in problems]
        if problems and not (spare_bad and left):
            raise DatasetError(
                listed_problems(settings.dataset, [line for lines in problems.values() for line in lines])
            )
        if problems:
            model.training_cases, model.validation_cases = self._split(left)
        for name, lines in problems.items():
            self.say(f"note: {one_line(name)} is left out: {lines[0]}")
        for note in notes:
            self.say(f"note: {note}")
        return preparation.open([by_name[name] for name in model.training_cases])
