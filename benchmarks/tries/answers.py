"""Other answers to a click: where they count, and how often the network is asked."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from deepedit.boxes import Box
from deepedit.clicks import Clicks, enforce_clicks
from deepedit.clicks.nearest import within_reach
from deepedit.devices import upload
from deepedit.inference import merge as merging
from deepedit.inference import segmentation
from deepedit.inference.history import Click
from deepedit.inference.segmentation import Segmentation
from deepedit.training import batch
from deepedit.training.batch import RollingBatch


def loss_around_the_newest_click(_: str) -> None:
    """The loss around the clicks counts around the newest one only."""

    def nearness(self: RollingBatch) -> Tensor:
        clicks = self._clicks()
        newest = torch.zeros(self.wanted.shape, dtype=torch.bool)
        for slot, used in enumerate(self.used):
            newest[slot, used - 1] = used > 0
        valid = clicks.valid & upload(newest.flatten(), self.device)
        clicks = Clicks(clicks.batch, clicks.label, clicks.position, valid)
        return clicks.nearness(self.label.shape[1:], self.config.click_loss_sigma, len(self.label))

    RollingBatch.nearness = nearness


def answers_count_near_clicks(reach: str) -> None:
    """An answer counts within so many voxels of the newest clicks, in training and in sessions alike, also where there
    is no initial segmentation."""
    plain = merging._reach

    def merge(
        before: Tensor,
        answer: Tensor,
        clicks: Clicks,
        newest: Tensor,
        policy: Any,
        *,
        places: Any = None,
        rim: Tensor | None = None,
        initial: Tensor | None = None,
        edited: Tensor | None = None,
        locked: Tensor | None = None,
        closed: Collection[int] = (),
    ) -> Tensor:
        samples = len(answer)
        most = torch.full((samples,), float(reach), device=answer.device)
        if initial is not None:
            own = plain(initial, answer, policy).minimum(most)
            most = own if edited is None else torch.where(edited, own, most)
        table = (each.unflatten(0, (samples, -1)) for each in (clicks.position, clicks.valid & newest))
        weight = within_reach(*table, most, answer.shape[2:], policy.softness)
        weight = weight if rim is None else weight * rim
        after = torch.lerp(before.float(), answer, weight[:, None])
        if policy.enforce:
            enforce_clicks(after, clicks, places, policy.margin, policy.ball)
        return after if locked is None else merging.keep_locked(after, locked, closed, policy.margin)

    segmentation.merge = batch.merge = merge


def answer_twice(_: str) -> None:
    """In sessions, a click is answered a second time, with the first answer as the previous segmentation."""
    once = Segmentation._merged

    def merged(
        self: Segmentation, start: Sequence[int], place: Box, clicks: Sequence[Click], own: Sequence[Click]
    ) -> tuple[Tensor, list[Tensor]]:
        first, alone = once(self, start, place, clicks, own)
        earlier = self._put(place, first)
        try:
            return once(self, start, place, clicks, own)[0], alone
        finally:
            self._put(place, earlier)

    Segmentation._merged = merged
