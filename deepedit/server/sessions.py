"""Requests that bear all of their clicks, answered by sessions that bear most of them already."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepedit.errors import ModelError
from deepedit.files import one_line
from deepedit.inference.memory import expected_memory
from deepedit.inference.session import InteractiveSession
from deepedit.inference.session_file import model_digest
from deepedit.inference.watch import IsCancelled, OnProgress
from deepedit.network.checkpoint import Model
from deepedit.plan import Labels
from deepedit.server.answers import Answer, ranks_of
from deepedit.server.clicks import Orders, Placed, shared_prefix
from deepedit.server.images import Known, Picture, read_image
from deepedit.server.placing import placed_clicks
from deepedit.server.scribbles import ScribbleQuestion, answer_drawing, read_drawing
from deepedit.volume import Volume

MOST_TAKEN_BACK = 2
"""Clicks that a session loses at most for another request. Where it would be more, the request gets a session of its
own: it may be that of somebody else on the same image, who will want them again."""


@dataclass(frozen=True)
class Question:
    """What a request asks.

    Attributes:
        images: the file of an image, or of each of its channels.
        clicks: voxels of the file's grid by label, those of each label in order.
        newest: the label that was clicked last, as far as that is known.
        start: a label map, in file values, that is to be corrected; None: the automatic result.
        tta: test-time augmentation.
    """

    images: tuple[Path, ...]
    clicks: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    newest: str | None = None
    start: Path | None = None
    tta: bool = False


class About(NamedTuple):
    """What is clicked on: digests of the image and of the initial segmentation, and whether by augmented passes."""

    image: str
    start: str | None
    tta: bool


@dataclass
class Cached:
    """A session, the clicks that it has, and the memory that it holds, as of `InteractiveSession.memory`."""

    about: About
    session: InteractiveSession
    order: list[Placed] = field(default_factory=list)
    memory: dict[int, int] = field(default_factory=dict)


class Sessions:
    """The sessions of a model. Several may be of one image, with different clicks.

    Its answers are those of an `InteractiveSession` that gets the clicks of the request one by one, in the order that
    `Orders` tells. One request is answered at a time.

    Args:
        model: in evaluation mode, on the device to use.
        memory: bytes that all sessions may hold together; the least recently used are dropped.
        say: called with a line on what a user of the server should know.
        amp: see `InteractiveSession`.

    Raises:
        ModelError: if the model has more labels than fit into a byte.
    """

    def __init__(
        self, model: Model, memory: int, say: Callable[[str], None] = lambda line: None, amp: str = "auto"
    ) -> None:
        self._memory, self._say, self._amp = memory, say, amp
        self._one_at_a_time = threading.Lock()
        self._orders, self._known = Orders(), Known()
        self._cached: list[Cached] = []  # the most recently used last
        self.replace_model(model)
        self._use_newest_model()

    @property
    def model(self) -> Model:
        """That which answers the next request."""
        return self._newest[0]

    @property
    def labels(self) -> Labels:
        """Those of `model`."""
        return self.model.plan.labels

    def replace_model(self, model: Model) -> None:
        """Let another model answer from the next request on; that which is being answered goes on with the old one.

        Raises:
            ModelError: if it has more labels than fit into a byte.
        """
        count = len(model.plan.labels.names)
        if count > 255:
            raise ModelError(f"the model has {count} labels, and viewers are sent at most 255; serve one with fewer")
        self._newest = (model, model_digest(model))

    def forget(self) -> None:
        """Drop all sessions, as when memory did not suffice; the orders of clicks stay."""
        self._cached.clear()

    def answer(
        self, question: Question, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None
    ) -> Answer:
        """The segmentation that a request asks for.

        Raises:
            FileError: if a file cannot be read, or does not fit.
            ClickError: if a click lies more than one voxel outside of the image, or its label is unknown.
            ModelError: if there is something to correct and the model takes no previous segmentation.
            Cancelled: if `cancelled` said so.
        """
        began = time.perf_counter()
        with self._one_at_a_time:
            self._use_newest_model()
            progress = _Progress(on_progress)
            picture, volume = self._known.picture(question.images, self._model.plan.reading)
            start = None if question.start is None else self._known.digest(question.start)
            about = About(picture.digest, start, question.tta)
            labels = self._model.plan.labels
            clicks, notes = placed_clicks(question.clicks, labels, picture.shape)
            newest = None if question.newest is None else labels.index(question.newest)
            order = self._orders.order((self._digest, about), clicks, newest)
            cached = self._choose(about, order, progress, cancelled) or self._open(about, question, picture, volume)
            volume = None
            read = time.perf_counter()
            try:
                classes = self._bring(cached, order, progress, cancelled)
                inferred = time.perf_counter()
                ranks = ranks_of(classes)
            finally:
                self._keep(cached, one_line(question.images[0].name))
            notes = [*picture.notes, *(note for note in cached.session.notes if note not in picture.notes), *notes]
            seconds = {"pre": read - began, "infer": inferred - read, "post": time.perf_counter() - inferred}
            return Answer(ranks, cached.session.image, labels.names, notes, seconds)

    def scribble(
        self, question: ScribbleQuestion, on_progress: OnProgress | None = None, cancelled: IsCancelled | None = None
    ) -> Answer:
        """Where a label is after scribbles: rank 1, the only one. The session for that is not kept.

        Raises:
            FileError, ClickError, ModelError, Cancelled: as of `answer`.
            DeepEditError: if nothing is scribbled, or what was sent is no request with scribbles.
        """
        began = time.perf_counter()
        with self._one_at_a_time:
            self._use_newest_model()
            if not self._model.plan.previous:
                raise ModelError("the model takes no previous segmentation, so it takes no scribbles; click instead")
            picture, volume = self._known.picture(question.images, self._model.plan.reading)
            about = About(picture.digest, None, question.tta)
            session = self._blank(about, question.images, volume)
            drawing = read_drawing(question, session.image, self._model.plan.labels)
            read = time.perf_counter()
            found = answer_drawing(session, drawing, question.selected, question.roi, on_progress, cancelled)
            inferred = time.perf_counter()
            ranks = ranks_of(found)
        notes = [*picture.notes, *drawing.notes]
        seconds = {"pre": read - began, "infer": inferred - read, "post": time.perf_counter() - inferred}
        return Answer(ranks, session.image, (question.selected,), notes, seconds)

    def uncertainty(self, images: Sequence[Path], cancelled: IsCancelled | None = None) -> float:
        """The mean entropy of the automatic result, as a share of its largest possible value.

        The session for that is not kept.

        Raises:
            FileError, Cancelled: as of `answer`.
        """
        with self._one_at_a_time:
            self._use_newest_model()
            picture, volume = self._known.picture(images, self._model.plan.reading)
            about = About(picture.digest, None, False)
            known = next((each for each in reversed(self._cached) if each.about == about), None)
            session = known.session.fork(0) if known else self._new_session(images, volume, False)
            return float(session.uncertainty(cancelled=cancelled).mean(dtype="float64"))

    def _use_newest_model(self) -> None:
        model, digest = self._newest
        if getattr(self, "_digest", None) != digest:
            self._cached.clear()
        self._model, self._digest = model, digest

    def _choose(
        self, about: About, order: Sequence[Placed], progress: "_Progress", cancelled: IsCancelled | None
    ) -> Cached | None:
        """A session that needs the fewest passes: one that has clicks to begin with, or a fork of it."""
        best, most = None, (-1, 0)
        for each in reversed(self._cached):
            shared = shared_prefix(each.order, order)
            fit = (shared, shared - len(each.order))
            if each.about == about and fit > most:
                best, most = each, fit
        if best is None:
            return None
        shared, lost = most[0], -most[1]
        if lost == 0 or (lost <= MOST_TAKEN_BACK and set(best.order) & set(order)):
            return best
        self._make_room(sum(best.memory.values()), best)
        return Cached(about, best.session.fork(shared, progress.of_a_call(0), cancelled), best.order[:shared])

    def _open(self, about: About, question: Question, picture: Picture, volume: Volume | None) -> Cached:
        session = self._blank(about, question.images, volume)
        if question.start is not None:
            session.set_segmentation(question.start)
        return Cached(about, session)

    def _blank(self, about: About, images: Sequence[Path], volume: Volume | None) -> InteractiveSession:
        """A session on an image about which nothing was asked; it shares the image of one that is cached."""
        for other in reversed(self._cached):
            if (other.about.image, other.about.tta) == (about.image, about.tta):
                self._make_room(sum(other.memory.values()), other)
                return other.session.fork(None)
        return self._new_session(images, volume, about.tta)

    def _new_session(self, images: Sequence[Path], volume: Volume | None, tta: bool) -> InteractiveSession:
        volume = volume or read_image(images, self._model.plan.reading)
        session = InteractiveSession(self._model, self._amp, tta=tta)
        self._make_room(expected_memory(volume, self._model))
        session.set_image(volume)
        return session

    def _bring(
        self, cached: Cached, order: Sequence[Placed], progress: "_Progress", cancelled: IsCancelled | None
    ) -> np.ndarray:
        """Let a session have these clicks, whatever it has; returns the class indices."""
        session, names = cached.session, self._model.plan.labels.class_names
        shared = shared_prefix(cached.order, order)
        missing = len(order) - shared
        try:
            session.take_back(shared, progress.of_a_call(missing), cancelled)
            # First, as the answers of a session without it would be worked out twice.
            session.classes(progress.of_a_call(missing), cancelled)
            cached.order = cached.order[:shared]
            for label, voxel in order[shared:]:
                missing -= 1
                session.add_click(voxel, names[label], "voxel", progress.of_a_call(missing), cancelled)
                cached.order.append((label, voxel))
        finally:
            del cached.order[len(session.clicks) :]
        return session.classes()

    def _keep(self, cached: Cached, name: str) -> None:
        """Count a session as the one used last, and keep to the limit."""
        cached.memory = cached.session.memory
        self._cached = [each for each in self._cached if each is not cached]
        held = self._held([cached])
        if held <= self._memory:
            self._make_room(0, cached)
            self._cached.append(cached)
        else:
            self._say(
                f"{name}: its session takes {held / 2**30:.3g} GiB of memory and all may take "
                f"{self._memory / 2**30:.3g} GiB, so it is dropped and each click takes longer; give more by --memory"
            )

    def _make_room(self, size: int, besides: Cached | None = None) -> None:
        """Drop the least recently used sessions until so many bytes can be held more, besides one that is needed."""
        kept = [besides] if besides else []
        while self._cached and self._held([*self._cached, *kept]) + size > self._memory:
            others = [each for each in self._cached if each is not besides]
            if not others:
                return
            self._cached = [each for each in self._cached if each is not others[0]]

    @staticmethod
    def _held(cached: Sequence[Cached]) -> int:
        """Bytes that sessions hold together, what they share counted once."""
        memory: dict[int, int] = {}
        for each in cached:
            memory |= each.memory
        return sum(memory.values())


class _Progress:
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
