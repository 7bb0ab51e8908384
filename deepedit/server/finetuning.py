"""Fine-tuning on submitted studies beside a server that goes on, and the decision whether its result is served."""

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from deepedit.errors import DeepEditError, TrainingError
from deepedit.files import brief, make_folder, one_line
from deepedit.network.checkpoint import read_entries
from deepedit.server import child
from deepedit.server.adopted import adopt_file, adopted_model, adoption_folder, record_adoption
from deepedit.server.catalogue import OWN
from deepedit.server.comparison import Comparison, read_comparison
from deepedit.server.enough import recorded_best, refuse_too_few
from deepedit.server.errors import Busy
from deepedit.server.pruning import prune_models, prune_prepared, prune_runs
from deepedit.server.task import LOG, PROGRESS, Task

SPLIT = 0.8
MINUTES = 25
MOST_MINUTES = 7 * 24 * 60
INTERRUPTED = 130
"""Exit status of the command lines after Ctrl-C or SIGTERM."""

COMPARISON = "comparison.json"


class FineTuning:
    """Fine-tunes the model that is served on the submitted studies, one training at a time.

    A training is a process of its own, ``deepedit-train --init-weights MODEL --studies FOLDER``, which gives way to
    other programs. Its run folder is ``STUDIES/.deepedit/training/<time>``, with all that it says in ``log.txt``. When
    it is over, the old and the new model are compared, in another such process, on submitted cases that neither was
    trained on; the new one is adopted if it is not worse there. The file that the user named stays as it is. When a
    training is over, the oldest ones are removed, see `deepedit.server.pruning`, and the prepared cases that it did not
    use. Both processes end with the server, however that ends.

    On a GPU the training shares memory with the models that are served: when it begins it takes smaller patches, if its
    own do not fit into what is free then. With `device` ``"cpu"`` it leaves the GPU alone.

    All methods may be called by any thread. `stop` and `close` wait for the process to end, `start` reads the model
    file; the others return at once.

    Args:
        model: the file that the user named; what was adopted in its place earlier is fine-tuned further.
        studies: folder of studies.
        adopt: called with the file of each new model to serve, from a thread of this object, and with the old one again
            if the adoption cannot be recorded. If it raises an error, the old model stays. It must not call `start`,
            `stop` or `close`.
        say: called with a line on the end of each training, and on what is removed then.
        trainer: name of this trainer for clients.
        device: see `pick_device`.
        unproven: adopt new models without a comparison, from the first submitted case on.
        others: models that are served besides, which are not removed wherever they lie.
        compare: compares an old and a new model file instead of the process that does.
    """

    def __init__(
        self,
        model: Path,
        studies: Path,
        adopt: Callable[[Path], None],
        say: Callable[[str], None] = lambda line: None,
        *,
        trainer: str = "deepedit",
        device: str = "auto",
        unproven: bool = False,
        others: Collection[Path] = (),
        compare: Callable[[Path, Path], Comparison] | None = None,
    ) -> None:
        self.model, self.studies = Path(model).absolute(), Path(studies).absolute()
        self.adopt, self.say, self.trainer, self.device = adopt, say, trainer, device
        self.unproven, self.others, self.compare = unproven, others, compare
        # By its content now: the file may be replaced while it is served.
        self.folder = adoption_folder(self.model, self.studies)
        self.current, _ = adopted_model(self.model, self.studies)
        self.best = 0.0
        self._lock = threading.Lock()
        self._task: Task | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether a training, or the comparison after it, is under way."""
        return self._task is not None and self._task.status == "RUNNING"

    def trainers(self) -> dict[str, Any]:
        """The entry ``trainers`` of ``/info/``, with the options that a client offers."""
        description = "fine-tunes the model on the submitted cases"
        return {self.trainer: {"description": description, "config": {"max_minutes": MINUTES}, "labels": {}}}

    def start(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a training.

        Args:
            config: ``max_minutes``, a number or text as a client's table of options has it; all else is ignored.

        Returns:
            The answer to ``POST /train/{trainer}``.

        Raises:
            Busy: if one is under way.
            DeepEditError: if `config` makes no sense, there are too few submitted cases, or a file cannot be read.
        """
        with self._lock:
            if self.running:
                raise Busy("a training is under way already; wait until it is over, or stop it")
            minutes = _minutes(config.get("max_minutes", MINUTES))
            self.best = refuse_too_few(self.current, self.studies, self.unproven, self.best)
            task = self._task = Task(self.trainer, self._new_folder(), {"max_minutes": minutes})
            task.tell(f"training for {minutes:g} minutes in {task.folder}")
            # The thread waits for the processes, so that what follows does not depend on anybody asking.
            self._thread = threading.Thread(target=self._work, args=(task, minutes), name="fine-tuning", daemon=True)
            self._thread.start()
            return {**task.described(), "status": "SUBMITTED"}

    def status(self) -> dict[str, Any] | None:
        """The newest training as ``GET /train/`` tells it; None if there was none."""
        task = self._task
        return None if task is None else task.described()

    def stats(self) -> dict[str, Any]:
        """The entry ``train_stats`` of ``/info/``: progress in percent, and the mean Dice of the model in service, as
        far as it was measured."""
        task = self._task
        if task is None:
            return {}
        return {self.trainer: task.stats(self.best)}

    def stop(self) -> dict[str, Any] | None:
        """End the training that is under way, if there is one; its newest state is saved, and nothing is adopted.

        Returns:
            As `status`.
        """
        with self._lock:
            task, thread = self._task, self._thread
            if task is not None and self.running:
                task.stopping = True
                if task.process is not None:
                    child.end(task.process)
        if thread is not None:
            thread.join()
        return self.status()

    def close(self) -> None:
        """End what is under way, before the server ends."""
        self.stop()

    def _new_folder(self) -> Path:
        now = datetime.now()
        folder = self.studies / OWN / "training" / f"{now:%Y-%m-%d_%H-%M-%S}-{now.microsecond:06d}"
        make_folder(folder)
        return folder

    def _work(self, task: Task, minutes: float) -> None:
        """Train, compare and adopt; whatever fails ends this training, and nothing else."""
        try:
            self._train(task, minutes)
            adopted = self._decide(task)
            status, line = "DONE", f"training is over: {adopted}"
        except _Stopped:
            status, line = "STOPPED", "training was stopped; the model stays as it was"
        except DeepEditError as error:
            status, line = "ERROR", f"training failed: {error}"
        except Exception as error:  # whatever it is, clients ask for the state of this training
            status, line = "ERROR", f"training failed: {type(error).__name__}: {error}"
        try:
            task.tell(line)
            self.say(one_line(line))
            self._prune()
        finally:  # clients wait for the end
            task.ended = time.time()
            task.status = status

    def _train(self, task: Task, minutes: float) -> None:
        files = {
            "--init-weights": self.current,
            "--studies": self.studies,
            "--output": task.folder,
            "--cache-dir": self.studies / OWN / "cache",
            "--progress": task.folder / PROGRESS,
        }
        others = ("--split", str(SPLIT), "--max-minutes", repr(minutes), "--device", self.device)
        begun = task.folder.stat().st_mtime  # by the clock of the disk, as that of a prepared case
        self._run(task, "deepedit_cli.train", [f"{name}={path}" for name, path in files.items()] + list(others))
        # There is nothing to resume, and it takes several times the space of the model.
        (task.folder / "last.pt").unlink(missing_ok=True)
        self._say_removed(prune_prepared(self.studies / OWN / "cache", begun))

    def _prune(self) -> None:
        in_use = (self.current, self.model, *self.others)
        self._say_removed(prune_runs(self.studies / OWN / "training", in_use))
        self._say_removed(prune_models(self.folder, in_use))

    def _say_removed(self, what: str) -> None:
        if what:
            self.say(f"removed from {OWN}: {what}")

    def _decide(self, task: Task) -> str:
        """Compare the models and adopt the new one where it is not worse; returns what was done and why."""
        old, new = self.current, task.folder / "model.pt"
        comparison = None
        if self.unproven:
            why = "adopted without a comparison"
            self.best = recorded_best(read_entries(new))
        else:
            task.tell("comparing the new model with the old one")
            comparison = self._compare(task, old, new)
            self.best = comparison.scores[comparison.not_worse]
            why = str(comparison)
            if not comparison.not_worse:
                return f"the model stays as it was: {why}"
        with self._lock:
            if task.stopping:
                raise _Stopped
            path = adopt_file(new, task.folder.name, self.folder)
            self.adopt(path)
            try:
                record_adoption(path, why, {"comparison": comparison and asdict(comparison), "trained_from": str(old)})
            except DeepEditError:
                # Served now, it would not be after the next start.
                self.adopt(old)
                raise
            self.current = path
        return f"the new model is in use, the old one is kept as {old}: {why}"

    def _compare(self, task: Task, old: Path, new: Path) -> Comparison:
        if self.compare is not None:
            return self.compare(old, new)
        result = task.folder / COMPARISON
        self._run(task, "deepedit.server.comparison", [str(old), str(new), str(self.studies), str(result), self.device])
        return read_comparison(result)

    def _run(self, task: Task, module: str, arguments: Sequence[str]) -> None:
        """Run a module in a process of its own to its end.

        Raises:
            _Stopped: if it was stopped.
            TrainingError: if it failed, with the last line that it said.
        """
        with self._lock:
            if task.stopping:
                raise _Stopped
            task.process = child.start(module, arguments, task.folder / LOG)
        status = task.process.wait()
        if task.process.stdin is not None:
            with suppress(OSError):
                task.process.stdin.close()
        if task.stopping or status == INTERRUPTED:
            raise _Stopped
        if status < 0:
            raise TrainingError(
                f"its process was ended by signal {-status}, perhaps as memory ran out; close other programs and start "
                "it again"
            )
        if status:
            raise TrainingError(task.complaint())


class _Stopped(Exception):
    """The training was stopped."""


def _minutes(value: Any) -> float:
    """The time to train for, as a client sends it.

    Raises:
        DeepEditError: if it is not a number of minutes from above 0 to a week.
    """
    minutes = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            minutes = float(value)
    if not 0 < minutes <= MOST_MINUTES:
        raise DeepEditError(
            f"max_minutes should be a number of minutes above 0 and up to {MOST_MINUTES}, such as {MINUTES}; got "
            f"{brief(value)}"
        )
    return minutes
