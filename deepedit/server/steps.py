"""What was done to a segmentation, in order: clicks that are answered together, and labels that are locked."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepedit.inference.history import Answered, Locked
from deepedit.inference.session import InteractiveSession
from deepedit.inference.watch import IsCancelled, OnProgress
from deepedit.plan import Labels
from deepedit.server.clicks import Placed
from deepedit.server.placing import placed_in_order, refuse_too_many


@dataclass(frozen=True)
class Clicked:
    """Clicks that are answered together."""

    clicks: tuple[Placed, ...]


@dataclass(frozen=True)
class Lock:
    """A label that is locked, by its class index."""

    label: int


@dataclass(frozen=True)
class Unlock:
    """A label that is unlocked, by its class index."""

    label: int


Step = Clicked | Lock | Unlock


def one_by_one(clicks: Sequence[Placed]) -> tuple[Step, ...]:
    """Clicks of which each is answered by itself."""
    return tuple(Clicked((click,)) for click in clicks)


def placed_steps(
    sent: Sequence[Mapping[str, Any]], labels: Labels, shape: Sequence[int]
) -> tuple[tuple[Step, ...], list[str]]:
    """The steps of a request, with class indices for names, and a line on each click that was moved.

    What changes nothing is left out: no clicks, a lock of a label that is locked, an unlock of one that is not.

    Args:
        sent: each with one of ``clicks``, a list of labels and voxels, ``lock`` and ``unlock``, a label.
        shape: of the image.

    Raises:
        ClickError: if a label is unknown, a click lies outside of the image, or there are too many.
    """
    refuse_too_many(sum(len(step.get("clicks") or (0,)) for step in sent))
    steps: list[Step] = []
    notes: list[str] = []
    locked: set[int] = set()
    for step in sent:
        if step.get("clicks") is not None:
            clicks, moved = placed_in_order(step["clicks"], labels, shape)
            notes += moved
            steps += [Clicked(tuple(clicks))] if clicks else []
        elif step.get("lock") is not None:
            label = labels.index(step["lock"])
            steps += [] if label in locked else [Lock(label)]
            locked.add(label)
        else:
            label = labels.index(step["unlock"])
            steps += [Unlock(label)] if label in locked else []
            locked.discard(label)
    return tuple(steps), notes


def make(
    step: Step, session: InteractiveSession, on_progress: OnProgress | None, cancelled: IsCancelled | None
) -> None:
    """Make a step in a session.

    Raises:
        ClickError: if a lock forbids it.
        Cancelled: if `cancelled` said so.
    """
    names = session.model.plan.labels.class_names
    if isinstance(step, Lock):
        session.lock(names[step.label], on_progress, cancelled)
    elif isinstance(step, Unlock):
        session.unlock(names[step.label])
    else:
        clicks = [(voxel, names[label]) for label, voxel in step.clicks]
        session.add_clicks(clicks, "voxel", on_progress, cancelled)


def steps_of(session: InteractiveSession) -> list[dict[str, object]]:
    """The steps of a session as a request sends them."""
    names = session.model.plan.labels.class_names
    steps: list[dict[str, object]] = [{"lock": label} for label in session.start.locked]
    for step in session.steps:
        if isinstance(step, Answered):
            steps.append({"clicks": [[names[click.label], list(click.voxel)] for click in step.clicks]})
        else:
            steps.append({"lock" if isinstance(step, Locked) else "unlock": names[step.label]})
    return steps


def state_of(about: object, steps: Sequence[Step]) -> str:
    """A digest that tells what is shown from anything else: of what is clicked on, and of all steps."""
    return hashlib.blake2b(repr((about, tuple(steps))).encode(), digest_size=16).hexdigest()
