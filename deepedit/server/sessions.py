"""Requests that bear all of their clicks, answered by sessions that bear most of them already."""

import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from deepedit.errors import ImageTooLargeError, ModelError
from deepedit.files import one_line
from deepedit.inference.memory import expected_memory
from deepedit.inference.session import InteractiveSession
from deepedit.inference.session_file import model_digest
from deepedit.inference.watch import IsCancelled, OnProgress
from deepedit.network.checkpoint import Model
from deepedit.plan import Labels
from deepedit.server.answers import Answer, ranks_of
from deepedit.server.cached import About, Cache, Cached, Told, may_take
from deepedit.server.clicks import Orders, shared_prefix
from deepedit.server.images import Known, Picture, Read, read_image
from deepedit.server.placing import placed_clicks
from deepedit.server.progress import Progress
from deepedit.server.requested import EMPTY, Place, Question
from deepedit.server.scribbles import ScribbleQuestion, answer_drawing, read_drawing
from deepedit.server.steps import Clicked, Step, make, one_by_one, placed_steps, state_of
from deepedit.volume import Volume

T = TypeVar("T")


@dataclass
class Visit:
    """A session that has the steps of a request, for as long as it is worked with.

    Attributes:
        cached: the session.
        state: digest of what is clicked on, and of all steps.
        notes: what is worth knowing, a line each.
        seconds: what reading (``pre``) and the session (``infer``) took.
    """

    cached: Cached
    state: str
    notes: list[str]
    seconds: dict[str, float]


class Sessions:
    """The sessions of a model. Several may be of one image, with different clicks.

    Its answers are those of an `InteractiveSession` that gets the clicks of the request one by one, in the order that
    `Orders` tells. One request is answered at a time.

    Args:
        model: in evaluation mode, on the device to use.
        memory: bytes that all sessions may hold together; the least recently used are dropped.
        say: called with a line on what a user of the server should know.
        amp: see `InteractiveSession`.
        read: images by it; from their files unless given.

    Raises:
        ModelError: if the model has more labels than fit into a byte.
    """

    def __init__(
        self,
        model: Model,
        memory: int,
        say: Callable[[str], None] = lambda line: None,
        amp: str = "auto",
        read: Read | None = None,
    ) -> None:
        self._say, self._amp = say, amp
        self._read = read or read_image
        self._one_at_a_time = threading.Lock()
        self._orders, self._known = Orders(), Known(self._read)
        self._cached = Cache(memory)
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

        def order_of(about: About, picture: Picture) -> tuple[tuple[Step, ...], list[str]]:
            clicks, notes = placed_clicks(question.clicks, self._model.plan.labels, picture.shape)
            newest = None if question.newest is None else self._model.plan.labels.index(question.newest)
            return one_by_one(self._orders.order((self._digest, about), clicks, newest)), notes

        with self._visit(question.images, question.start, question.tta, order_of, on_progress, cancelled) as visit:
            began, session = time.perf_counter(), visit.cached.session
            ranks = ranks_of(session.classes())
            seconds = visit.seconds | {"post": time.perf_counter() - began}
            return Answer(ranks, session.image, self._model.plan.labels.names, visit.notes, seconds)

    def visit(
        self,
        place: Place,
        use: Callable[[Visit], T],
        on_progress: OnProgress | None = None,
        cancelled: IsCancelled | None = None,
    ) -> T:
        """What a function makes of the session that has the steps of a request; no other request is answered meanwhile.

        Args:
            use: may look at the session, and leaves it as it is.

        Raises:
            FileError, ClickError, ModelError, Cancelled: as of `answer`; a ClickError also where a lock forbids a
                click.
        """

        def order_of(about: About, picture: Picture) -> tuple[tuple[Step, ...], list[str]]:
            return placed_steps(place.steps, self._model.plan.labels, picture.shape)

        with self._visit(place.images, place.start, place.tta, order_of, on_progress, cancelled) as visit:
            return use(visit)

    def told(self, image: str, state: str | None) -> Told | None:
        """What a page was sent of an image under the name of a state; None if that is not known any more."""
        return self._cached.told(image, state)

    def read_session(self, images: tuple[Path, ...], file: Path) -> InteractiveSession:
        """The session in a file that `InteractiveSession.save_session` wrote, on an image. It is not kept.

        Raises:
            FileError, ClickError: as of `InteractiveSession.load_session`.
        """
        with self._one_at_a_time:
            self._use_newest_model()
            volume = self._read(images, self._model.plan.reading)
            self._cached.make_room(expected_memory(volume, self._model))
            session = self._unopened()
            session.load_session(file, volume)
            return session

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
            known = next((each for each in self._cached if each.about == about), None)
            session = known.session.fork(0) if known else self._new_session(images, volume, False)
            return float(session.uncertainty(cancelled=cancelled).mean(dtype="float64"))

    def _use_newest_model(self) -> None:
        model, digest = self._newest
        if getattr(self, "_digest", None) != digest:
            self._cached.clear()
            self._blueprints: dict[bool, InteractiveSession] = {}
        self._model, self._digest = model, digest

    @contextmanager
    def _visit(
        self,
        images: tuple[Path, ...],
        start: Path | str | None,
        tta: bool,
        order_of: Callable[[About, Picture], tuple[tuple[Step, ...], list[str]]],
        on_progress: OnProgress | None,
        cancelled: IsCancelled | None,
    ) -> Iterator[Visit]:
        """A session that has the steps that `order_of` tells; afterwards it is kept for the next request."""
        began = time.perf_counter()
        with self._one_at_a_time:
            self._use_newest_model()
            progress = Progress(on_progress)
            picture, volume = self._known.picture(images, self._model.plan.reading)
            about = About(picture.digest, self._known.digest(start) if isinstance(start, Path) else start, tta)
            order, moved = order_of(about, picture)
            cached = self._choose(about, order, progress, cancelled) or self._open(about, images, start, volume)
            volume = None
            read = time.perf_counter()
            try:
                self._bring(cached, order, progress, cancelled)
                seconds = {"pre": read - began, "infer": time.perf_counter() - read}
                named = cached.session.notes
                if isinstance(start, Path):  # which is called by its path
                    named = [note.replace(one_line(start), one_line(start.name)) for note in named]
                notes = [*picture.notes, *(note for note in named if note not in picture.notes), *moved]
                yield Visit(cached, state_of((self._digest, about), order), notes, seconds)
            finally:
                self._keep(cached, one_line(images[0].name))

    def _choose(
        self, about: About, order: Sequence[Step], progress: Progress, cancelled: IsCancelled | None
    ) -> Cached | None:
        """A session that needs the fewest passes: one that has clicks to begin with, or a fork of it."""
        found = self._cached.nearest(about, order)
        if found is None or may_take(found[0], order, found[1]):
            return found and found[0]
        best, shared = found
        self._cached.make_room(sum(best.memory.values()), best)
        return Cached(about, best.session.fork(shared, progress.of_a_call(0), cancelled), best.order[:shared])

    def _open(self, about: About, images: Sequence[Path], start: Path | str | None, volume: Volume | None) -> Cached:
        session = self._blank(about, images, volume)
        if start == EMPTY:
            session.set_segmentation(np.zeros(session.image.shape, np.uint8))
        elif start is not None:
            session.set_segmentation(start)
        return Cached(about, session)

    def _blank(self, about: About, images: Sequence[Path], volume: Volume | None) -> InteractiveSession:
        """A session on an image about which nothing was asked; it shares the image of one that is cached."""
        for other in self._cached:
            if (other.about.image, other.about.tta) == (about.image, about.tta):
                self._cached.make_room(sum(other.memory.values()), other)
                return other.session.fork(None)
        try:
            return self._new_session(images, volume, about.tta)
        except ImageTooLargeError:
            # A user waits for this session, and those that are dropped for it can be made again.
            self._cached.clear()
            return self._new_session(images, volume, about.tta)

    def _new_session(self, images: Sequence[Path], volume: Volume | None, tta: bool) -> InteractiveSession:
        volume = volume or self._read(images, self._model.plan.reading)
        session = self._unopened(tta)
        self._cached.make_room(expected_memory(volume, self._model))
        session.set_image(volume)
        return session

    def _unopened(self, tta: bool = False) -> InteractiveSession:
        """A session without an image. On a GPU, all share one copy of the network at the GPU's precision."""
        if tta not in self._blueprints:
            self._blueprints[tta] = InteractiveSession(self._model, self._amp, tta=tta)
        return copy.copy(self._blueprints[tta])

    def _bring(self, cached: Cached, order: Sequence[Step], progress: Progress, cancelled: IsCancelled | None) -> None:
        """Let a session have these steps, whatever it has."""
        session = cached.session
        shared = shared_prefix(cached.order, order)
        missing = sum(isinstance(step, Clicked) for step in order[shared:])
        try:
            session.take_back(shared, progress.of_a_call(missing), cancelled)
            # First, as the answers of a session without it would be worked out twice.
            session.classes(progress.of_a_call(missing), cancelled)
            cached.order = list(cached.order[:shared])
            for step in order[shared:]:
                missing -= isinstance(step, Clicked)
                make(step, session, progress.of_a_call(missing), cancelled)
                cached.order.append(step)
        finally:
            del cached.order[len(session.steps) :]

    def _keep(self, cached: Cached, name: str) -> None:
        """Count a session as the one used last, and keep to the limit."""
        if not self._cached.keep(cached):
            held, limit = Cache.held([cached]) / 2**30, self._cached.limit / 2**30
            self._say(
                f"{name}: its session takes {held:.3g} GiB of memory and all may take {limit:.3g} GiB, so it is "
                "dropped and each click takes longer; give more by --memory"
            )
