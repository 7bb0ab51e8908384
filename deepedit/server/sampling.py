"""Which case to label next, and who was given what."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepedit.errors import DeepEditError
from deepedit.files import one_line
from deepedit.server.catalogue import Catalogue
from deepedit.server.errors import NotFound
from deepedit.server.listing import described
from deepedit.server.scores import Scores

HANDED_OUT_SECONDS = 3600
"""How long a case is taken to be in work by whoever was given it."""

STRATEGIES = {
    "first": "the first case without a label, in the order of names",
    "random": "any case without a label",
    "uncertainty": "the case without a label that the model is least sure about",
}


class Sampler:
    """Hands out the cases that have no final label.

    Clients do not tell who they are, so that every request counts as someone else's: what was handed out within the
    last hour is handed out again only if nothing else is left; then what was handed out longest ago comes first.

    Args:
        generator: for ``random``.
        scores: for ``uncertainty``, which is not offered without.
        clock: seconds since 1970.
        say: is told, in a line, about a case that cannot be handed out.
    """

    def __init__(
        self,
        studies: Catalogue,
        generator: np.random.Generator,
        scores: Scores | None = None,
        clock: Callable[[], float] = time.time,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._studies, self._generator, self._scores, self._clock, self._say = studies, generator, scores, clock, say
        self._lock = threading.Lock()
        self._handed_out: dict[str, float] = {}

    def strategies(self) -> dict[str, dict[str, Any]]:
        """The strategies with their descriptions, as `/info/` tells them."""
        offered = [name for name in STRATEGIES if name != "uncertainty" or self._scores is not None]
        return {name: {"description": STRATEGIES[name], "config": {}} for name in offered}

    def next(self, strategy: str, client: str) -> dict[str, Any]:
        """The next case, as ``POST /activelearning/{strategy}`` answers; empty if every case has a label.

        Args:
            client: what the client calls itself, which is only repeated.

        Raises:
            NotFound: for a strategy that there is not.
        """
        if strategy not in self.strategies():
            known = ", ".join(self.strategies())
            raise NotFound(f"there is no strategy {one_line(strategy, 60)!r}; choose one of {known}")
        if strategy == "uncertainty" and self._scores is not None:
            self._scores.start()
        unfit: set[str] = set()
        while (case_id := self._hand_out(strategy, unfit)) is not None:
            try:
                return self._answer(case_id, strategy, client)
            except DeepEditError as error:  # its file is gone, or cannot be read
                self._say(f"{one_line(case_id, 100)} is passed over as the next case: {error}")
                unfit.add(case_id)
        return {}

    def _hand_out(self, strategy: str, unfit: set[str]) -> str | None:
        """The id of the next case, which counts as handed out from now on."""
        left = {case_id: images for case_id, images in self._studies.samples().items() if case_id not in unfit}
        with self._lock:
            now = self._clock()
            self._handed_out = {
                case_id: then
                for case_id, then in self._handed_out.items()
                if case_id in left and now - then < HANDED_OUT_SECONDS
            }
            if not left:
                return None
            free = {case_id: images for case_id, images in left.items() if case_id not in self._handed_out}
            chosen = self._choose(strategy, free) if free else min(left, key=self._handed_out.__getitem__)
            # Behind the others, so that of those handed out in one second the first comes first again.
            self._handed_out.pop(chosen, None)
            self._handed_out[chosen] = now
            return chosen

    def _choose(self, strategy: str, free: Mapping[str, tuple[Path, ...]]) -> str:
        ids = list(free)
        if strategy == "random":
            return ids[int(self._generator.integers(len(ids)))]
        if strategy == "uncertainty":
            assert self._scores is not None  # without which there is no such strategy
            scores = {case_id: self._scores.of(images) for case_id, images in free.items()}
            known = {case_id: -math.inf if score is None else score for case_id, score in scores.items()}
            return max(ids, key=known.__getitem__)
        return ids[0]

    def _answer(self, case_id: str, strategy: str, client: str) -> dict[str, Any]:
        images = self._studies.images(case_id)
        path = self._studies.image_file(case_id).absolute()
        answer = {
            "id": case_id,
            "name": path.name,
            "path": str(path),
            "ts": described(path)["ts"],
            "weight": 1,
            "checksum": self._studies.checksum(case_id),
            "strategy": {strategy: {"ts": int(self._clock()), "client_id": one_line(client, 200)}},
        }
        if self._studies.store is not None:
            answer |= self._studies.store.series().get(case_id, {})
        if len(images) > 1:
            answer["note"] = f"the first of {len(images)} channels, each of which has a file; the model is given all"
        return answer
