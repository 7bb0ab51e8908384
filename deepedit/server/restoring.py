"""A session in a file, as the steps and the start with which a page goes on."""

from pathlib import Path
from typing import Any

import numpy as np

from deepedit.errors import ClickError, DeepEditError
from deepedit.files import one_line
from deepedit.inference.watch import IsCancelled, OnProgress
from deepedit.server.requested import EMPTY, Place
from deepedit.server.sessions import Sessions
from deepedit.server.starts import kept_start
from deepedit.server.steps import steps_of
from deepedit.server.uploads import KeptImages


def restored(
    sessions: Sessions,
    starts: KeptImages,
    images: tuple[Path, ...],
    file: Path,
    on_progress: OnProgress | None = None,
    cancelled: IsCancelled | None = None,
) -> dict[str, Any]:
    """The steps of a session, made anew: that is how the page's requests will be answered from then on.

    Args:
        starts: keeps the initial segmentation, if there is one.
        images: of the image.
        file: as `InteractiveSession.save_session` writes it.

    Returns:
        ``start``, ``steps`` and ``tta`` as in a request, and ``notes``, also on how many voxels are now another than
        when the session was saved.

    Raises:
        FileError: if it is no session, is damaged, or belongs to another image or another model.
        DeepEditError: if its steps cannot be made anew.
    """
    try:
        session = sessions.read_session(images, file)
    except DeepEditError as error:
        raise type(error)(str(error).replace(one_line(file), "the session")) from error
    began, steps, before = session.start, steps_of(session), session.classes().copy()
    notes: list[str] = []
    start: dict[str, str]
    path: str | Path | None
    if began.initial is None:
        start, path = {"kind": "automatic"}, None
    elif not began.initial.any():
        start, path = {"kind": "empty"}, EMPTY
    else:
        key = kept_start(starts, began.initial, session.image, session.model.plan.labels)
        kept = starts.find(key)
        assert kept is not None  # since it is the newest
        start, path = {"kind": "sent", "key": key}, kept.path
    del session
    place = Place(images, steps, path, bool(began.passes["tta"]))
    try:
        differ = sessions.visit(
            place,
            lambda visit: np.count_nonzero(visit.cached.session.classes() != before),
            on_progress,
            cancelled,
        )
    except ClickError as error:
        raise DeepEditError(f"the steps of the session cannot be made anew, one after the other: {error}") from error
    if differ:
        notes.append(
            f"made anew, the steps of the session give another label to {differ} voxels than when it was saved; that "
            "happens where a click was removed before a lock, or where other options or another device answered"
        )
    return {"start": start, "steps": steps, "tta": place.tta, "notes": notes}
