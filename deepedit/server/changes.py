"""What is sent of a segmentation to a page that shows another one already."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi.responses import StreamingResponse

from deepedit.server.cached import Told
from deepedit.server.display import Axes, counts_of, difference
from deepedit.server.sessions import Visit

PART = 2**20
"""Bytes that are handed over at once, so that a slow client does not have all of an answer copied for it."""
NOTHING = (slice(0, 0),) * 3


@dataclass(frozen=True)
class Shown:
    """What a page gets.

    Attributes:
        header: of the answer.
        voxels: ``[z, y, x]`` uint8, in the order of C.
    """

    header: dict[str, Any]
    voxels: np.ndarray


def changes(visit: Visit, before: Told | None) -> Shown:
    """What differs from what a page shows; afterwards it is taken to show this.

    Args:
        visit: a session that has the steps of the request.
        before: what the page shows; None if that is not known any more: then it is sent all that is no background.
    """
    cached, session = visit.cached, visit.cached.session
    classes, num_classes = session.classes(), session.model.plan.labels.num_classes
    box = difference(None if before is None else before.classes, classes)
    axes = Axes.of(session.image.affine, session.image.shape)
    voxels = axes.copy(classes[box or NOTHING])
    if before is None:
        counts = counts_of(classes, num_classes)
    else:
        counts = before.counts.copy()
        if box is not None:
            counts += counts_of(classes[box], num_classes) - counts_of(before.classes[box], num_classes)
    if before is not None and before is cached.told:
        if box is not None:
            before.classes[box] = classes[box]
        cached.told = Told(visit.state, before.classes, counts)
    else:
        cached.told = Told(visit.state, classes.copy("K"), counts)
    volumes = session.volumes_of(counts)
    header = {
        "state": visit.state,
        "whole": before is None,
        "box": axes.box(box) if box else [[0, 0]] * 3,
        "volumes_ml": {name: volume.ml for name, volume in volumes.items()},
        "changed_ml": {name: volume.change for name, volume in volumes.items()},
        "locked": session.locked,
        "obeyed": session.obeyed_alone,
        "notes": visit.notes,
    }
    return Shown(header, voxels)


def uncertainty(visit: Visit) -> Shown:
    """How uncertain the network is about each voxel: 255 times the entropy's share of its largest possible value."""
    session = visit.cached.session
    axes = Axes.of(session.image.affine, session.image.shape)
    voxels = axes.copy(session.uncertainty(), lambda part: np.rint(255 * part))
    box = [[0, size] for size in axes.display_shape]
    return Shown({"state": visit.state, "whole": True, "box": box, "notes": visit.notes}, voxels)


def framed(header: dict[str, Any], voxels: np.ndarray) -> StreamingResponse:
    """An answer of a header and voxels: the header's length as four bytes, the lowest first, JSON, and the voxels."""
    told = json.dumps(header).encode()
    return streamed([len(told).to_bytes(4, "little") + told, voxels])


def streamed(parts: list[bytes | np.ndarray]) -> StreamingResponse:
    """An answer of bytes and arrays in the order of C, which are not copied as a whole."""
    views = [
        part.reshape(-1).view(np.uint8).data if isinstance(part, np.ndarray) else memoryview(part) for part in parts
    ]

    async def content() -> AsyncIterator[memoryview]:
        for view in views:
            for start in range(0, len(view), PART):
                yield view[start : start + PART]

    headers = {"Content-Length": str(sum(map(len, views)))}
    return StreamingResponse(content(), media_type="application/octet-stream", headers=headers)
