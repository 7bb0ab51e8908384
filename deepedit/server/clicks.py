"""The order of clicks.

A viewer sends all clicks of all labels with each request, those of one label in order, and none between labels. The
answer depends on that order, so the one that was first seen is kept.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence

from deepedit.inference.history import Triple

Placed = tuple[int, Triple]
"""A click: class index, and voxel of the image's own grid."""

MOST_KEPT = 2**18
"""Clicks in all orders that are kept: about eight bytes each, as successive orders share them."""


class Orders:
    """The orders in which clicks came, for each thing that is clicked on.

    Of the orders that are known the least recently used is forgotten first, of the thing asked about least recently.

    Args:
        most: clicks in all orders that are kept.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most, self._held = most, 0
        self._known: OrderedDict[Hashable, OrderedDict[bytes, tuple[Placed, ...]]] = OrderedDict()

    def order(
        self, about: Hashable, clicks: Mapping[int, Sequence[Triple]], newest: int | None = None
    ) -> tuple[Placed, ...]:
        """All clicks of a request in one order, which is kept: the same clicks get the same order again.

        Clicks that an earlier request had too come as they did there: of the request that shares most clicks with this
        one, of several the one that had fewest others, of those the most recent. Then new ones follow, label by label.

        Args:
            about: what is clicked on.
            clicks: voxels by class index, those of each class in order.
            newest: class index of the label that was clicked last; its new clicks come last.

        Returns:
            Every click as often as it was given, those of each class in the order given.
        """
        clicks = {label: voxels for label, voxels in clicks.items() if voxels}
        key = _digest(clicks)
        orders = self._known.setdefault(about, OrderedDict())
        self._known.move_to_end(about)
        if key not in orders:
            orders[key] = self._derived(orders, clicks, newest)
            self._held += 1 + len(orders[key])
        orders.move_to_end(key)
        found = orders[key]
        self._forget()
        return found

    @staticmethod
    def _derived(
        orders: Mapping[bytes, tuple[Placed, ...]], clicks: Mapping[int, Sequence[Triple]], newest: int | None
    ) -> tuple[Placed, ...]:
        total = sum(map(len, clicks.values()))
        best: tuple[int, int] = (0, 0)
        known: list[Placed] = []
        for order in reversed([*orders.values()]):
            if (min(len(order), total), -max(len(order) - total, 0)) <= best:
                continue
            shared = _shared(order, clicks)
            if (len(shared), len(shared) - len(order)) > best:
                best, known = (len(shared), len(shared) - len(order)), shared
        counts = dict.fromkeys(clicks, 0)
        for label, _ in known:
            counts[label] += 1
        labels = sorted(clicks, key=lambda label: (label == newest, label))
        return (*known, *((label, voxel) for label in labels for voxel in clicks[label][counts[label] :]))

    def _forget(self) -> None:
        """Keep to the bound, but for the order used last."""
        while self._held > self._most:
            about, orders = next(iter(self._known.items()))
            if len(self._known) == len(orders) == 1:
                return
            self._held -= 1 + len(orders.popitem(last=False)[1])
            if not orders:
                del self._known[about]


def shared_prefix(have: Sequence[Hashable], want: Sequence[Hashable]) -> int:
    """How many clicks, or other steps, two orders begin with alike."""
    for number, (one, other) in enumerate(zip(have, want, strict=False)):
        if one != other:
            return number
    return min(len(have), len(want))


def _shared(order: Sequence[Placed], clicks: Mapping[int, Sequence[Triple]]) -> list[Placed]:
    """The clicks of an order that a request has too, as many of the first ones of each label as can be had."""
    reached = dict.fromkeys(clicks, 0)
    shared = []
    for click in order:
        label, voxel = click
        at = reached.get(label)
        if at is not None and at < len(clicks[label]) and clicks[label][at] == voxel:
            reached[label] = at + 1
            shared.append(click)  # the same object, so that successive orders share their memory
    return shared


def _digest(clicks: Mapping[int, Sequence[Triple]]) -> bytes:
    """What tells the clicks of one request from those of another."""
    return hashlib.blake2b(repr(sorted((k, list(v)) for k, v in clicks.items())).encode(), digest_size=16).digest()
