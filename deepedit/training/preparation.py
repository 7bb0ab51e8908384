"""The cases of a run: each is looked at by one rank, and opened by all."""

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deepedit.errors import FileError
from deepedit.files import make_folder, one_line
from deepedit.io.dataset_checks import from_folder
from deepedit.io.msd import read_case
from deepedit.io.pairing import Case
from deepedit.io.volumes import read_geometry
from deepedit.plan import Plan
from deepedit.ranks import Ranks
from deepedit.training.config import RunSettings
from deepedit.training.data import PreparedCase, prepare_case

Bar = Callable[[Iterable[Any], int], Iterable[Any]]
"""Called with the cases that are being prepared and their number; returns an iterable over the same cases, which may
show the progress."""


class Preparation:
    """Prepares cases in a folder.

    Args:
        settings: of the run.
        plan: that the cases are prepared by.
        cache: the folder, which is made.
        ranks: the processes that share the run.
    """

    def __init__(self, settings: RunSettings, plan: Plan, cache: Path, ranks: Ranks) -> None:
        make_folder(cache)
        self._settings, self._plan, self._cache, self._ranks = settings, plan, cache, ranks

    def look(
        self, cases: Sequence[Case], training: Collection[str], bar: Bar
    ) -> tuple[dict[str, list[str]], list[str]]:
        """Prepare the cases to train on, and read the others: else a bad one would be found when much of the run is
        over. All ranks must call this, and all are told the same.

        Args:
            training: names of the cases to train on.

        Returns:
            What is wrong with each case that cannot be used, by its name; and a line on each thing that is worth
            knowing of the others, and was not said when the dataset was listed.
        """
        own = self._ranks.share(cases)
        with ThreadPoolExecutor(self._settings.workers) as pool:
            looks = list(bar(pool.map(lambda case: self._look(case, case.name in training), own), len(own)))
        every = [each for part in self._ranks.gather(looks) for each in part]
        return {name: lines for name, lines, _ in every if lines}, [note for *_, notes in every for note in notes]

    def open(self, cases: Sequence[Case]) -> list[PreparedCase]:
        """The cases, those that another rank looked at included."""
        with ThreadPoolExecutor(self._settings.workers) as pool:
            return list(pool.map(self._prepare, cases))

    def _prepare(self, case: Case, on_note: Callable[[str], None] = lambda note: None) -> PreparedCase:
        return prepare_case(case, self._plan, self._cache, self._settings.config.seed, on_note)

    def _look(self, case: Case, trains: bool) -> tuple[str, list[str], list[str]]:
        """Name, problems and notes."""
        notes: list[str] = []
        reading = self._plan.reading
        try:
            if trains:
                self._prepare(case, notes.append)
            else:
                notes += read_case(case, reading).notes
        except FileError as error:
            return case.name, [from_folder(self._settings.dataset, str(error))], []
        except MemoryError:
            problem = f"{one_line(case.name)}: too large for this machine's memory; crop or resample it"
            return case.name, [problem], []
        said = {note for path in case.image for note in read_geometry(path, reading.affine, reading.units).notes}
        return case.name, [], [f"{one_line(case.image[0].name)}: {note}" for note in notes if note not in said]
