"""What a viewer asks for, read from the parameters that it sends."""

import json
from collections.abc import Mapping
from typing import Any

from deepedit.boxes import three
from deepedit.errors import ClickError, DeepEditError
from deepedit.files import one_line
from deepedit.plan import BACKGROUND, Labels

Triple = tuple[int, int, int]

RESERVED = frozenset(
    {"label", "model", "image", "session", "device", "roi", "slice", "client_id", "tta", "start_from", "reset_state"}
    | {"result_extension", "result_dtype", "result_compress", "restore_label_idx", "label_info", "foreground"}
    | {"selected_label_name"}
)
"""Keys that viewers send beside the names of labels; a label that is called so cannot be clicked."""
STARTS = ("automatic", "submitted label", "original label")
"""What clicks may correct, as the viewer's list offers it; the first is what it takes unless told otherwise."""
LARGEST_VOXEL = 2**31


def read_params(text: object) -> dict[str, Any]:
    """The parameters of a request, sent as JSON text.

    Raises:
        DeepEditError: unless they are an object.
    """
    if text is None or text == "":
        return {}
    try:
        params = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        params = None
    if not isinstance(params, dict):
        raise DeepEditError("the parameters of the request are no JSON object")
    return params


def clicks_by_label(params: Mapping[str, Any], labels: Labels) -> tuple[dict[str, list[Triple]], str | None]:
    """All clicks, and the label whose last click is the newest.

    Args:
        params: of the request; the clicks are lists of voxels under the names of the labels. A viewer that knows one
            label only sends them as ``foreground``.
        labels: of the model.

    Returns:
        Voxels of the image's own grid by label, in the order of the labels, those without clicks left out; and the
        name of the label that was clicked last, None where that is not told.

    Raises:
        ClickError: if a label is unknown, or a click is not three whole numbers.
    """
    newest = params.get("label")
    newest = None if not isinstance(newest, str) or not newest else newest
    if newest is not None:
        labels.index(newest)  # raises where the viewer has a label of its own
    given = {name: params.get(name) for name in labels.class_names if name not in RESERVED}
    for name, value in params.items():
        if name not in given and name not in RESERVED and _holds_voxels(value):  # others are options of other servers
            given[labels.class_names[labels.index(name)]] = value
    clicks = {name: _voxels(name, value) for name, value in given.items()}
    if "foreground" in params and "foreground" not in labels.names:
        meant = newest if newest not in (None, BACKGROUND) else labels.names[0] if len(labels.names) == 1 else None
        if meant is None and params["foreground"]:
            raise ClickError(
                f"clicks for the foreground, and no label for them; choose one of {', '.join(labels.names)}"
            )
        if meant is not None:
            clicks[meant] = clicks.get(meant, []) + _voxels("foreground", params["foreground"])
    return {name: voxels for name, voxels in clicks.items() if voxels}, newest


def _holds_voxels(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(each, list) for each in value)


def _voxels(name: str, value: object) -> list[Triple]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ClickError(f"the clicks for {one_line(name, 60)} are no list of voxels")
    return [_voxel(name, each) for each in value]


def _voxel(name: str, value: object) -> Triple:
    if isinstance(value, list) and len(value) == 3:
        numbers = [each for each in value if isinstance(each, int | float) and not isinstance(each, bool)]
        if len(numbers) == 3 and all(abs(each) < LARGEST_VOXEL and each == int(each) for each in numbers):
            return three(int(each) for each in numbers)
    raise ClickError(f"a click for {one_line(name, 60)} is not three whole numbers, the indices of a voxel")


def chosen_start(params: Mapping[str, Any]) -> str:
    """What the clicks are to correct, one of `STARTS`."""
    start = params.get("start_from") or STARTS[0]
    if start not in STARTS:
        raise DeepEditError(f"start_from is one of {', '.join(STARTS)}; got {one_line(str(start), 60)!r}")
    return start


def scribbles_of(params: Mapping[str, Any]) -> tuple[list[Any], str, list[Any]]:
    """The segments of a viewer in its order, the name of the one that is scribbled about, and a region of interest.

    Raises:
        DeepEditError: if they are not told.
    """
    segments, selected, roi = params.get("label_info"), params.get("selected_label_name"), params.get("roi") or []
    if not isinstance(segments, list) or not isinstance(selected, str) or not isinstance(roi, list):
        raise DeepEditError("scribbles come with label_info, a list of segments, and selected_label_name, one of them")
    return segments, selected, roi


def wants_tta(params: Mapping[str, Any]) -> bool:
    """Whether to answer with test-time augmentation; a viewer's option table sends a bool, or text."""
    value = params.get("tta", False)
    if isinstance(value, str):
        value = {"true": True, "1": True, "false": False, "0": False, "": False}.get(value.strip().lower())
    if not isinstance(value, bool | int):
        raise DeepEditError("tta is true or false")
    return bool(value)


def unreachable_labels(labels: Labels) -> list[str]:
    """Names of labels that cannot be clicked from a viewer, because it sends something else under them."""
    return [name for name in labels.names if name in RESERVED]
