"""How uncertain a model is about each case that has no label yet, worked out when there is nothing else to do."""

import math
import threading
from collections.abc import Callable
from pathlib import Path

from deepedit.errors import Cancelled, DeepEditError
from deepedit.files import one_line, read_json
from deepedit.inference.failure import no_memory
from deepedit.server.catalogue import OWN, Catalogue
from deepedit.server.checksums import file_state
from deepedit.server.facts import write_json

Images = tuple[Path, ...]
IsCancelled = Callable[[], bool]
Score = Callable[[Images, IsCancelled], float]
"""Works out how uncertain a model is about the image in some files, a number from 0 on; raises Cancelled when told to
stop."""

MAX_MODELS = 4
"""Models whose scores are kept, the newest."""


class Scores:
    """The scores of cases by one model, kept in ``.deepedit/uncertainty.json`` for the next start.

    Args:
        score: as `Score`.
        model: digest of the model; scores of other models do not count.
        in_background: runs a function when nothing else is to be done, tells it to stop when something is, and begins
            it anew afterwards if it ended with Cancelled, as `deepedit.server.worker.Worker.in_background` does.
        say: is told, in a line, which case could not be scored.
    """

    def __init__(
        self,
        studies: Catalogue,
        score: Score,
        model: str,
        in_background: Callable[[Callable[[IsCancelled], None]], None],
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._studies, self._score, self._model, self._in_background = studies, score, model, in_background
        self._say = say
        self._path = studies.folder / OWN / "uncertainty.json"
        self._lock = threading.Lock()
        self._at_work = False
        self._kept = self._read()
        # By image files, with their state; None: it failed, which costs this case only.
        self._known: dict[Images, tuple[object, float | None]] = {}

    def of(self, images: Images) -> float | None:
        """The score of the case with these image files; None as long as it has none."""
        known = self._known.get(images)
        return known[1] if known is not None and known[0] == _state(images) else None

    def start(self) -> None:
        """Work out the scores that are missing, in the background."""
        with self._lock:
            if self._at_work or self._next() is None:
                return
            self._at_work = True
        try:
            self._in_background(self._work)
        except BaseException:
            self._at_work = False
            raise

    def replace_model(self, model: str) -> None:
        """Score all cases anew, by another model, which `score` uses from now on."""
        with self._lock:
            self._model, self._known = model, {}

    def _work(self, is_cancelled: IsCancelled) -> None:
        try:
            while (images := self._next()) is not None:
                if is_cancelled():
                    raise Cancelled("something else came in between")
                self._work_out(images, is_cancelled)
        except Cancelled:  # it is begun anew
            raise
        except BaseException:
            self._at_work = False
            raise
        self._at_work = False

    def _work_out(self, images: Images, is_cancelled: IsCancelled) -> None:
        """Score one case."""
        model, state = self._model, _state(images)
        try:
            key = self._studies.content_key(images)
            score = self._kept.get(model, {}).get(key)
            if score is None:
                score = float(self._score(images, is_cancelled))
                if not math.isfinite(score):
                    raise DeepEditError(f"it comes out as {score}")
        except Cancelled:
            raise
        except Exception as error:  # whatever fails, it costs only this case
            if model == self._model:
                self._known[images] = state, None
            if no_memory(error) is not None:  # whoever runs this frees some
                raise
            self._say(f"{one_line(images[0].name, 100)}: its uncertainty cannot be worked out: {one_line(error, 300)}")
            return
        if model == self._model:  # else another came while this one was at work
            self._known[images] = state, score
            if key not in self._kept.get(model, {}):
                self._keep(model, key, score)

    def _keep(self, model: str, key: str, score: float) -> None:
        ours = {**self._kept.pop(model, {}), key: score}
        self._kept = {**dict(list(self._kept.items())[1 - MAX_MODELS :]), model: ours}
        try:
            write_json(self._path, self._kept)
        except DeepEditError as error:
            self._say(f"{error}; uncertainties will be worked out again after the next start")

    def _next(self) -> Images | None:
        """The image files of the first case without a label that has not been scored as it is now."""
        for images in self._studies.unlabelled().values():
            known = self._known.get(images)
            if known is None or known[0] != _state(images):
                return images
        return None

    def _read(self) -> dict[str, dict[str, float]]:
        if not self._path.exists():
            return {}
        try:
            kept = read_json(self._path)
        except DeepEditError as error:
            self._say(f"{error}; uncertainties are worked out again")
            return {}
        return {
            model: {key: float(score) for key, score in scores.items() if isinstance(score, int | float)}
            for model, scores in kept.items()
            if isinstance(scores, dict)
        }


def _state(images: Images) -> object:
    """What tells whether image files are still the same; None if they are gone."""
    try:
        return [file_state(path) for path in images]
    except DeepEditError:
        return None
