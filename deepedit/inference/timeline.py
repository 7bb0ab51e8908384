"""A segmentation and the steps that led to it, each of which can be taken back."""

from collections.abc import Sequence
from dataclasses import replace

from deepedit.boxes import Box, bounding_box
from deepedit.inference.history import Entry, Locked, Step, clicks_of, without_click
from deepedit.inference.scene import Scene
from deepedit.inference.segmentation import Segmentation
from deepedit.inference.watch import UNWATCHED, Watch

KEPT_BYTES = 2**28
"""What the changes of the newest steps may take in memory, and as much those of steps that are undone, but for the very
newest. Where there are more, the segmentation before the first step is held as well, and to take back an older step
those before it are made anew."""


class Timeline:
    """The segmentation of an image, and what was done to it.

    Whatever fails or is cancelled leaves it as it was.

    Attributes:
        state: None as long as nothing was asked.
        first: the segmentation before the first step; None as long as the changes of all steps are kept.
        done: the steps, in order.
        undone: those that were taken back, the newest of them first.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.state: Segmentation | None = None
        self.first: Segmentation | None = None
        self.done: list[Entry] = []
        self.undone: list[Entry] = []

    @property
    def is_partial(self) -> bool:
        """Whether steps were made while the automatic result of other windows is still missing."""
        return self.state is not None and self.state.known is not None

    def whole(self, watch: Watch = UNWATCHED) -> Segmentation:
        """The segmentation, worked out everywhere; if it was not, the steps are made anew on the automatic result."""
        if self.state is None:
            self.state = Segmentation.begin(self.scene, watch)
        elif self.is_partial:
            steps = [entry.step for entry in self.done]
            watch.expect(sum(self._begun.windows(step) for step in steps))
            first = Segmentation.begin(self.scene, watch)
            state = first.copy()
            self._become(state, self._made(steps, state, [], watch), first)
            for entry in self.undone:  # their changes are those of another automatic result
                entry.change.forget()
        return self.state

    def make(self, step: Step, watch: Watch = UNWATCHED) -> Box | None:
        """Make a step; in a volume of several windows before the automatic result of the others is worked out.

        Returns:
            The box of the image's own grid that changed, None if nothing did; likewise below.
        """
        state = self.state
        if state is None:
            waits = self.scene.initial is None and not self.scene.is_one_window
            state = Segmentation.unasked(self.scene) if waits else Segmentation.begin(self.scene, watch)
        watch.expect(state.windows(step))
        entry = Entry(step, state.apply(step, clicks_of(self.done), watch))
        self._append(entry, state)
        self.undone = []
        return entry.change.redraw

    def undo(self, watch: Watch = UNWATCHED) -> Box | None:
        """Take the newest step back, if there is one."""
        if not self.done:
            return None
        newest, undone = self.done[-1], self.undone
        if newest.change.kept:
            self._begun.swap(newest.change)
            self.done.pop()
            box = newest.change.box
        else:
            state, done = self._before(len(self.done) - 1, watch)
            box = self._become(state, done, self.first)
        self.undone = [*undone, newest]
        _forget_oldest(self.undone)
        return box

    def redo(self, watch: Watch = UNWATCHED) -> Box | None:
        """Make the step again that was taken back last, if there is one."""
        if not self.undone:
            return None
        entry = self.undone[-1]
        if entry.change.kept:
            self._begun.swap(entry.change)
        else:
            watch.expect(self._begun.windows(entry.step))
            entry = Entry(entry.step, self._begun.apply(entry.step, clicks_of(self.done), watch))
        self._append(entry, self._begun)
        self.undone.pop()
        return entry.change.redraw

    def remove(self, number: int, watch: Watch = UNWATCHED) -> Box | None:
        """Take a click away, as if it had never been; the steps after it are made anew."""
        index, steps = without_click([entry.step for entry in self.done], number)
        watch.expect(sum(self._begun.windows(step) for step in steps))
        state, before = self._before(index, watch)
        done = self._made(steps, state, before, watch)
        first = self.first if all(entry.change.kept for entry in done) else self.before_all()
        box = self._become(state, done, first)
        self.undone = []
        return box

    def back_to(self, count: int, watch: Watch = UNWATCHED) -> None:
        """Take all steps but the first so many back, for good. If that fails, or is cancelled, some of them may be."""
        while len(self.done) > count and self.done[-1].change.kept:
            self._begun.swap(self.done[-1].change)
            self.done.pop()
        if len(self.done) > count:
            state, done = self._before(count, watch)
            self._become(state, done, self.first)
        self.undone = []

    def fork(self, count: int, watch: Watch = UNWATCHED) -> "Timeline":
        """Another timeline with the first so many steps, which goes on by itself; what never changes is shared."""
        other = Timeline(self.scene)
        if self.state is not None and (count or not self.is_partial):
            state, done = self._before(count, watch)
            other.state, other.done = state, [Entry(entry.step, replace(entry.change)) for entry in done]
            kept = all(entry.change.kept for entry in done)
            other.first = None if kept or self.first is None else self.first.copy()
        return other

    def reset(self) -> None:
        """Take all steps back, for good."""
        self.state = None if self.state is None or self.is_partial else self.before_all()
        self.first, self.done, self.undone = None, [], []

    def before_all(self) -> Segmentation:
        """The segmentation before the first step; a copy, if it is not held."""
        return self.first or self._before(0, UNWATCHED)[0]

    @property
    def _begun(self) -> Segmentation:
        """The segmentation, which is there as soon as a step has been made."""
        assert self.state is not None
        return self.state

    def _before(self, index: int, watch: Watch) -> tuple[Segmentation, list[Entry]]:
        """The segmentation before a step, a copy, and the steps before that."""
        if all(entry.change.kept for entry in self.done[index:]):
            state = self._begun.copy()
            for entry in reversed(self.done[index:]):
                state.swap(replace(entry.change))
            return state, self.done[:index]
        assert self.first is not None  # which is held from when the change of a step is forgotten
        state, steps = self.first.copy(), [entry.step for entry in self.done[:index]]
        watch.expect(sum(map(state.windows, steps)))
        return state, self._made(steps, state, [], watch)

    @staticmethod
    def _made(steps: Sequence[Step], state: Segmentation, before: Sequence[Entry], watch: Watch) -> list[Entry]:
        """Make steps on a state after others; returns all of them."""
        # Copies, as those that are there stay if this fails.
        done = [Entry(entry.step, replace(entry.change)) for entry in before]
        for step in steps:
            if isinstance(step, Locked):  # what has the label by now is locked as well
                step = Locked.of(step.label, step.voxels | (state.result == step.label))
            done.append(Entry(step, state.apply(step, clicks_of(done), watch)))
            _forget_oldest(done)
        return done

    def _become(self, state: Segmentation, done: list[Entry], first: Segmentation | None) -> Box | None:
        """Go on from another segmentation, with the one before its first step."""
        changed = bounding_box(state.result != self._begun.result)
        self.state, self.done = state, done
        self.first = None if all(entry.change.kept for entry in done) else first
        return changed

    def _append(self, entry: Entry, state: Segmentation) -> None:
        """Count a step that was made on a state, and forget the changes of the oldest steps where all take too much."""
        earlier, self.state = self.state, state
        self.done.append(entry)
        try:
            if self.first is None and len(self.done) > 1 and sum(each.change.bytes for each in self.done) > KEPT_BYTES:
                self.first = self.before_all()
        except BaseException:
            state.swap(self.done.pop().change)
            self.state = earlier
            raise
        _forget_oldest(self.done)


def _forget_oldest(entries: Sequence[Entry]) -> None:
    """Keep the changes of the newest entries, as far as the bound goes, and of the last one."""
    held = 0
    for number, entry in enumerate(reversed(entries)):
        held += entry.change.bytes
        if held > KEPT_BYTES and number > 0:
            entry.change.forget()
