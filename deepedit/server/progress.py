"""How far several calls are together."""

from deepedit.inference.watch import OnProgress


class Progress:
    """Windows done and needed over several calls, each of which counts its own."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress, self._before, self._now = on_progress, 0, 0

    def of_a_call(self, after: int) -> OnProgress:
        """What to give to the next call; `after`: windows that are needed at least after that."""
        self._before += self._now
        self._now = 0

        def progressed(done: int, needed: int) -> None:
            self._now = done
            if self._on_progress is not None:
                self._on_progress(self._before + done, self._before + needed + after)

        return progressed
