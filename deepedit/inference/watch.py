"""Long work that somebody waits for: it tells how far it is, and can be cancelled between two windows."""

from collections.abc import Callable

from deepedit.errors import Cancelled

OnProgress = Callable[[int, int], None]
"""Called after each pass with the windows that are done and those that are needed in all."""

IsCancelled = Callable[[], bool]
"""Asked before each pass; where it says yes, the call ends with `Cancelled`."""


class Watch:
    """How many windows of the network a call needs, and how many are done.

    Args:
        on_progress: called after each pass with the windows that are done and those that are needed in all, as far as
            that is known by then.
        cancelled: asked before each pass; where it says yes, the call ends with `Cancelled`.
    """

    def __init__(
        self,
        on_progress: OnProgress | None = None,
        cancelled: IsCancelled | None = None,
    ) -> None:
        self.on_progress, self.cancelled = on_progress, cancelled
        self.finished = self.needed = 0

    def expect(self, windows: int) -> None:
        """So many windows more are needed."""
        self.needed += windows

    def check(self) -> None:
        """Raise `Cancelled` if the call is to end."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("cancelled; everything is as it was before")

    def done(self, windows: int) -> None:
        """So many windows more are done."""
        self.finished += windows
        if self.on_progress is not None:
            self.on_progress(self.finished, self.needed)


UNWATCHED = Watch()
"""Nobody waits."""
