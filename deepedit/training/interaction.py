"""The conversation between the network and a simulated annotator, for every sample of a batch by itself.

Every pass of the network is both a training step and the prediction that the annotator answers: no pass is spent on
prediction alone. A sample stays in its slot of the batch for a number of passes, the first without clicks (or with a
segmentation from elsewhere and one click), each further one with a click more and with the prediction of the pass
before as its previous segmentation. Then the next sample takes the slot.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deepedit.clicks import Annotator, Clicks, render_guidance, simulate_clicks


class Interaction:
    """The samples of a batch with their clicks so far.

    Attributes:
        image: ``[B, C, X, Y, Z]``.
        label: ``[B, X, Y, Z]`` uint8, the truth.
        previous: ``[B, X, Y, Z]`` uint8, the segmentation that the next pass is given; 0 where there is none.
        position: ``[B, max_clicks, 3]``, a table of clicks: its fixed size needs no count from the device.
        wanted: ``[B, max_clicks]``, their classes.
        valid: ``[B, max_clicks]``.
        used: clicks of each sample so far, on the host.
    """

    def __init__(
        self,
        image: Tensor,
        label: Tensor,
        num_classes: int,
        max_clicks: int,
        sigma: float,
        annotator: Annotator,
    ) -> None:
        self.image, self.label = image, label
        self.num_classes, self.sigma, self.annotator = num_classes, sigma, annotator
        batch, device = len(image), image.device
        self.previous = torch.zeros_like(label)
        self.position = torch.zeros(batch, max_clicks, 3, dtype=torch.int64, device=device)
        self.wanted = torch.zeros(batch, max_clicks, dtype=torch.int64, device=device)
        self.valid = torch.zeros(batch, max_clicks, dtype=torch.bool, device=device)
        self.used = [0] * batch

    def begin(self, slot: int, image: Tensor, label: Tensor, given: Tensor | None = None) -> None:
        """Put a new sample into a slot; `given` is a segmentation from elsewhere that it starts from."""
        self.image[slot], self.label[slot] = image, label
        self.previous[slot] = 0 if given is None else given
        self.valid[slot] = False
        self.used[slot] = 0

    def answer(self, slots: Sequence[int], prediction: Tensor, generators: Sequence[torch.Generator]) -> None:
        """The annotator adds one click to each sample in `slots`, and the prediction becomes its previous segmentation.

        Args:
            prediction: ``[len(slots), X, Y, Z]`` class indices.
            generators: one a slot.
        """
        if not slots:
            return
        rows = torch.tensor(slots).to(self.label.device, non_blocking=True)
        columns = torch.tensor([self.used[slot] for slot in slots]).to(self.label.device, non_blocking=True)
        clicks = simulate_clicks(prediction, self.label[rows], self.num_classes, self.annotator, generators)
        self.previous[rows] = prediction.to(self.previous.dtype)
        self.position[rows, columns] = clicks.position
        self.wanted[rows, columns] = clicks.label
        self.valid[rows, columns] = clicks.valid
        for slot in slots:
            self.used[slot] += 1

    def clicks(self) -> Clicks:
        """All clicks of all samples."""
        batch = torch.arange(len(self.image), device=self.image.device)[:, None].expand_as(self.wanted)
        return Clicks(batch.flatten(), self.wanted.flatten(), self.position.flatten(0, 1), self.valid.flatten())

    def guidance(self) -> Tensor:
        """``[B, L + 1, X, Y, Z]``, see `render_guidance`."""
        return render_guidance(self.clicks(), self.label.shape[1:], self.num_classes, len(self.label), self.sigma)

    def nearness(self, sigma: float) -> Tensor:
        """``[B, X, Y, Z]``: how near a voxel is to the nearest click, as a Gaussian with peak 1; `sigma` in voxels."""
        clicks = self.clicks()
        clicks = Clicks(clicks.batch, torch.zeros_like(clicks.label), clicks.position, clicks.valid)
        return render_guidance(clicks, self.label.shape[1:], 1, len(self.label), sigma)[:, 0]
