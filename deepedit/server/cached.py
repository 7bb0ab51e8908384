"""The sessions of a model that are kept within a limit of memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from deepedit.inference.session import InteractiveSession
from deepedit.server.clicks import shared_prefix
from deepedit.server.steps import Step

MOST_TAKEN_BACK = 2
"""Steps that a session loses at most for another request. Where it would be more, the request gets a session of its
own: it may be that of somebody else on the same image, who will want them again."""


class About(NamedTuple):
    """What is clicked on: digests of the image and of the initial segmentation, and whether by augmented passes."""

    image: str
    start: str | None
    tta: bool


@dataclass
class Told:
    """What a page was sent last.

    Attributes:
        state: its name.
        classes: ``[X, Y, Z]`` class indices, a copy.
        counts: how many voxels each class has.
    """

    state: str
    classes: np.ndarray
    counts: np.ndarray


@dataclass
class Cached:
    """A session, and the memory that it holds, by the address of each piece.

    Attributes:
        about: what is clicked on.
        session: has these steps.
        order: the steps.
        told: what a page was sent of it; None if none was.
    """

    about: About
    session: InteractiveSession
    order: list[Step] = field(default_factory=list)
    memory: dict[int, int] = field(default_factory=dict)
    told: Told | None = None

    def weigh(self) -> None:
        """Find out what it holds now."""
        self.memory = self.session.memory
        if self.told is not None:
            self.memory[self.told.classes.__array_interface__["data"][0]] = self.told.classes.nbytes


class Cache:
    """Sessions, the least recently used of which are dropped where all of them take too much.

    Args:
        limit: bytes that they may hold together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._cached: list[Cached] = []  # the most recently used last

    def __iter__(self) -> Iterator[Cached]:
        """The most recently used first."""
        return reversed(self._cached)

    def __len__(self) -> int:
        return len(self._cached)

    def clear(self) -> None:
        """Drop all of them."""
        self._cached.clear()

    def nearest(self, about: About, order: Sequence[Step]) -> tuple[Cached, int] | None:
        """The session that needs the fewest passes to have these steps, and how many of them it begins with.

        None if there is none on the same thing.
        """
        best, most = None, (-1, 0)
        for each in self:
            shared = shared_prefix(each.order, order)
            fit = (shared, shared - len(each.order))
            if each.about == about and fit > most:
                best, most = each, fit
        return None if best is None else (best, most[0])

    def told(self, image: str, state: str | None) -> Told | None:
        """What a page was sent of an image under the name of a state; None if that is not known any more."""
        told = (each.told for each in self if each.about.image == image)
        return next((each for each in told if each is not None and each.state == state), None)

    def keep(self, cached: Cached) -> bool:
        """Count a session as the one used last, and keep to the limit; whether it could be kept itself."""
        cached.weigh()
        self._cached = [each for each in self._cached if each is not cached]
        if self.held([cached]) > self.limit:
            return False
        self.make_room(0, cached)
        self._cached.append(cached)
        return True

    def make_room(self, size: int, besides: Cached | None = None) -> None:
        """Drop the least recently used sessions until so many bytes can be held more, besides one that is needed."""
        kept = [besides] if besides else []
        while self._cached and self.held([*self._cached, *kept]) + size > self.limit:
            others = [each for each in self._cached if each is not besides]
            if not others:
                return
            self._cached = [each for each in self._cached if each is not others[0]]

    @staticmethod
    def held(cached: Sequence[Cached]) -> int:
        """Bytes that sessions hold together, what they share counted once."""
        memory: dict[int, int] = {}
        for each in cached:
            memory |= each.memory
        return sum(memory.values())


def may_take(cached: Cached, order: Sequence[Step], shared: int) -> bool:
    """Whether a session may go on with other steps, although it loses some of its own; else it is forked."""
    lost = len(cached.order) - shared
    return lost == 0 or (lost <= MOST_TAKEN_BACK and bool(set(cached.order) & set(order)))
