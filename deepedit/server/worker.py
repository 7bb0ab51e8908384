"""One inference at a time on a device: requests in order, and other work while there are none."""

import asyncio
import gc
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from deepedit.errors import Cancelled
from deepedit.inference.failure import no_memory, why_it_failed
from deepedit.inference.watch import IsCancelled, OnProgress
from deepedit.server.errors import Unavailable

T = TypeVar("T")

ASKED_EVERY = 0.25
"""Seconds between two questions whether a client is still there."""
MOST_REMEMBERED = 1000
"""Names of requests that are done."""


@dataclass(eq=False)
class _Request:
    work: Callable[[OnProgress, IsCancelled], Any]
    name: str | None = None
    gone: threading.Event = field(default_factory=threading.Event)
    result: Future[Any] = field(default_factory=Future)


class Worker:
    """A thread that does what is asked of a device, one thing after another.

    Nothing that goes wrong in a piece of work ends the thread.

    Args:
        release: called where memory did not suffice; it drops what can be dropped, such as sessions.
        say: called with a line where work in the background failed.
    """

    def __init__(
        self, release: Callable[[], None] = lambda: None, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._release, self._say = release, say
        self._requests: deque[_Request] = deque()
        self._background: deque[Callable[[IsCancelled], None]] = deque()
        self._current: _Request | None = None
        self._windows: tuple[int, int] | None = None
        self._closed = False
        self._done: deque[str] = deque(maxlen=MOST_REMEMBERED)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="deepedit inference", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that are not yet begun."""
        return len(self._requests)

    @property
    def progress(self) -> tuple[int, int] | None:
        """Windows done and needed of the request that is being answered; None where none is, or none is done."""
        return self._windows

    def state(self, name: str) -> dict[str, Any]:
        """How far a request is, by the name that it came with.

        Returns:
            ``state``: ``waiting``, ``working``, ``done`` (or failed, or given up), ``unknown``. Of one that waits also
            ``before``, the requests before it; of one that is worked on ``windows``, done and needed, None before the
            first is done.
        """
        with self._changed:
            current = self._current
            if current is not None and current.name == name:
                return {"state": "working", "windows": self._windows}
            for number, request in enumerate(self._requests):
                if request.name == name:
                    return {"state": "waiting", "before": number + (current is not None)}
            return {"state": "done" if name in self._done else "unknown"}

    async def run(
        self,
        work: Callable[[OnProgress, IsCancelled], T],
        gone: Callable[[], Awaitable[bool]] | None = None,
        name: str | None = None,
    ) -> T:
        """The result of a piece of work, which is done after that of all requests before it.

        Args:
            work: gets what methods of a session take as `on_progress` and `cancelled`.
            gone: tells whether the client is gone; then its place is free, and the work ends at the next window.
            name: to ask `state` about it.

        Raises:
            Cancelled: if the client is gone.
            Unavailable: if memory did not suffice, or the worker is closed.
            Exception: what the work raised.
        """
        request = _Request(work, name)
        with self._changed:
            if self._closed:
                raise Unavailable("the server is stopping; try again when it is back")
            self._requests.append(request)
            self._changed.notify()
        result = asyncio.wrap_future(request.result)
        try:
            while not (await asyncio.wait({result}, timeout=ASKED_EVERY))[0]:
                if gone is not None and await gone():
                    raise Cancelled("the client is gone")
            return result.result()
        finally:
            if not result.done():
                self._withdraw(request)
                result.cancel()
            if name is not None:
                self._done.append(name)

    def in_background(self, work: Callable[[IsCancelled], None]) -> None:
        """Do a piece of work when there is no request; where it is cancelled by one, it is begun anew afterwards.

        Args:
            work: gets what methods of a session take as `cancelled`; it ends with `Cancelled` where that says yes.
        """
        with self._changed:
            self._background.append(work)
            self._changed.notify()

    def close(self, patience: float = 10.0) -> None:
        """End the thread after the window that is being worked on; requests that wait are told so.

        Args:
            patience: seconds to wait for that window.
        """
        with self._changed:
            self._closed = True
            self._background.clear()
            for request in self._requests:
                if request.result.set_running_or_notify_cancel():
                    request.result.set_exception(Unavailable("the server is stopping; try again when it is back"))
            self._requests.clear()
            if self._current is not None:
                self._current.gone.set()
            self._changed.notify()
        self._thread.join(patience)

    def _withdraw(self, request: _Request) -> None:
        request.gone.set()
        with self._changed, suppress(ValueError):
            self._requests.remove(request)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._requests or self._background)
                if self._closed:
                    return
                request = self._current = self._requests.popleft() if self._requests else None
                work = None if request else self._background.popleft()
            if request is not None:
                self._answer(request)
            elif work is not None:
                self._do(work)
            # Else they would hold what they worked on until the next piece of work.
            request = work = self._current = self._windows = None

    def _answer(self, request: _Request) -> None:
        if not request.result.set_running_or_notify_cancel():
            return
        try:
            result = request.work(self._progressed, request.gone.is_set)
        except BaseException as error:  # whatever it is, the thread goes on
            request.result.set_exception(self._told(error))
        else:
            request.result.set_result(result)

    def _do(self, work: Callable[[IsCancelled], None]) -> None:
        try:
            work(lambda: self._closed or bool(self._requests))
        except Cancelled:
            with self._changed:
                if not self._closed:
                    self._background.appendleft(work)
        except BaseException as error:
            self._say(why_it_failed(self._told(error)))

    def _progressed(self, done: int, needed: int) -> None:
        self._windows = (done, needed)

    def _told(self, error: BaseException) -> Exception:
        """The error to tell; where memory did not suffice, all that can be freed is."""
        if not isinstance(error, Exception):  # an exit that was raised in a piece of work is not that of the server
            return RuntimeError(repr(error))
        if no_memory(error) is None:
            return error
        # The frames that it came through hold the very tensors that are to be freed.
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = error.__context__ = error.__cause__ = None
        self._release()
        gc.collect()
        torch.cuda.empty_cache()
        what = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "the server"
        return Unavailable(
            f"the memory of {what} did not suffice and has been freed now; try again, and if it fails once more, crop "
            "the image or resample it"
        )
