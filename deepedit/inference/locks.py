"""Labels that are approved: no answer takes a voxel from them or gives them one."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepedit.boxes import Box
from deepedit.transforms.geometry import GridMap


@dataclass(frozen=True, eq=False)
class Locks:
    """Locked labels and their voxels; never changed in place.

    Attributes:
        classes: the class indices that are locked.
        voxels: on the image's own grid, the class index plus 1 where a voxel is locked, else 0.
        on_network: the same on the network's grid.
    """

    classes: frozenset[int]
    voxels: np.ndarray
    on_network: Tensor

    @staticmethod
    def dtype(num_classes: int) -> type[np.uint8] | type[np.int16]:
        """The integer type of `voxels`."""
        return np.uint8 if num_classes < 256 else np.int16

    @classmethod
    def of(cls, classes: frozenset[int], voxels: np.ndarray, grid: GridMap, num_classes: int, like: Tensor) -> "Locks":
        """Locks by their voxels on the image's own grid, for a network on the device of `like`."""
        return cls(classes, voxels, grid.labels_to_network(torch.from_numpy(voxels).to(like.device), num_classes + 1))

    @classmethod
    def of_labels(
        cls, classes: frozenset[int], shown: np.ndarray, grid: GridMap, num_classes: int, like: Tensor
    ) -> "Locks":
        """Locks of all voxels that have certain classes on the image's own grid; otherwise as `of`."""
        table: np.ndarray = np.zeros(num_classes, cls.dtype(num_classes))
        table[list(classes)] = np.array(list(classes)) + 1
        return cls.of(classes, table[shown], grid, num_classes, like)

    def keep(self, shown: np.ndarray, wanted: np.ndarray, box: Box) -> np.ndarray:
        """The classes that are wanted in a box of the image's own grid, or shown where a lock forbids them."""
        closed = np.isin(wanted, list(self.classes)) & (wanted != shown)
        return np.where((self.voxels[box] > 0) | closed, shown, wanted)
