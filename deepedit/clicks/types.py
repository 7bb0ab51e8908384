"""The clicks on a batch of volumes: for each click its sample, its class and its voxel."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Clicks:
    """N clicks on the voxels of a batch of volumes.

    The number of clicks is fixed when they are made, and `valid` says which of them count. So the host never has to
    wait for a GPU to count them.

    Attributes:
        batch: ``[N]`` int64, the sample that was clicked.
        label: ``[N]`` int64, the class index that the click asks for; 0 is the background.
        position: ``[N, 3]`` int64, the voxel (i, j, k).
        valid: ``[N]`` bool; clicks that are not valid are skipped everywhere. By default all are valid.

    Raises:
        ValueError: if the shapes do not fit together or the devices differ.
    """

    batch: Tensor
    label: Tensor
    position: Tensor
    valid: Tensor = None  # type: ignore[assignment]  # a tensor from __post_init__ on

    def __post_init__(self) -> None:
        batch, label, position = (
            torch.as_tensor(entry).to(torch.int64) for entry in (self.batch, self.label, self.position)
        )
        valid = torch.ones_like(batch, dtype=torch.bool) if self.valid is None else torch.as_tensor(self.valid).bool()
        count = batch.numel()
        if not (batch.shape == label.shape == valid.shape == (count,) and position.shape == (count, 3)):
            shapes = ", ".join(str(tuple(entry.shape)) for entry in (batch, label, position, valid))
            raise ValueError(f"N clicks are batch [N], label [N], position [N, 3] and valid [N]; got {shapes}")
        if len({entry.device for entry in (batch, label, position, valid)}) > 1:
            raise ValueError("batch, label, position and valid of clicks must be on one device")
        for name, entry in (("batch", batch), ("label", label), ("position", position), ("valid", valid)):
            object.__setattr__(self, name, entry)

    @classmethod
    def empty(cls, device: torch.device | str = "cpu") -> "Clicks":
        """No clicks."""
        none = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(none, none, none.reshape(0, 3))

    @classmethod
    def cat(cls, parts: Sequence["Clicks"]) -> "Clicks":
        """All clicks of `parts`, in order; without parts, no clicks, on the CPU."""
        if not parts:
            return cls.empty()
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Clicks":
        """The same clicks on `device`; `self` if they are on that device already."""
        if self.batch.device == torch.device(device):
            return self
        entries = (self.batch, self.label, self.position, self.valid)
        return Clicks(*(entry.to(device, non_blocking=non_blocking) for entry in entries))

    def nearness(self, shape: Sequence[int], sigma: float | Sequence[float], batch_size: int = 1) -> Tensor:
        """How near each voxel is to the clicks of its sample, whatever their class.

        Args:
            shape: (X, Y, Z) of the volumes.
            sigma: width of the Gaussian in voxels; one number, or one an axis.
            batch_size: B, number of samples.

        Returns:
            ``[B, X, Y, Z]`` float32 in [0, 1], as `render_guidance` draws them: 1 at a click, falling off as a Gaussian
            of the distance to the nearest one; 0 in a sample without clicks.
        """
        from deepedit.clicks.guidance import render_guidance

        one_class = Clicks(self.batch, torch.zeros_like(self.label), self.position, self.valid)
        return render_guidance(one_class, shape, 1, batch_size, sigma)[:, 0]

    def __len__(self) -> int:
        return self.batch.shape[0]
