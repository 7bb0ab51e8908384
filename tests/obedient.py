"""A network whose every answer is known beforehand, and cases to ask it about."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deepedit.io.msd import Case
from deepedit.io.nifti import write_label, write_volume
from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model
from deepedit.plan import Intensity, Labels, Plan
from deepedit.volume import Volume

LABELS = Labels(("left", "right"), (1, 2))


class ObedientNetwork(nn.Module):
    """Sees in the image what to predict, and changes it within a radius of the clicks, nowhere else.

    The image's values are class indices, brought to [0, 1] by a window. Before any click they are the prediction;
    then it is the previous segmentation, where the voxels near a click take its label.

    Args:
        sigma: of the guidance.
        radius: how far a click reaches, in voxels; below 0 it does nothing.
    """

    def __init__(self, num_classes: int, sigma: float, radius: float) -> None:
        super().__init__()
        self.config = UNetConfig(filters=(1, 1), strides=(1, 1), kernels=(1, 1))
        self.head = nn.Conv3d(1, 1, 1)
        self.num_classes = num_classes
        self.threshold = float(np.exp(-((radius + 0.01) ** 2) / (2 * sigma**2))) if radius >= 0 else 2.0

    def forward(self, x: Tensor) -> Tensor:
        image, guidance, previous = x.float().split([1, self.num_classes, self.num_classes - 1], dim=1)
        classes = (image[:, 0] * (self.num_classes - 1)).round().long()
        if guidance.any():
            classes = (previous * torch.arange(1, self.num_classes, device=x.device).view(-1, 1, 1, 1)).sum(1).long()
        clicked, label = guidance.max(1)
        classes = torch.where(clicked >= self.threshold, label, classes)
        return 8 * nn.functional.one_hot(classes, self.num_classes).movedim(-1, 1).float()


def obedient_model(radius: float = 0, training_cases: tuple[str, ...] = ()) -> Model:
    """A model of labels left (1) and right (2), 1 mm, RAS."""
    plan = Plan(LABELS, (1.0, 1.0, 1.0), (16, 16, 16), Intensity("window", 0.0, 2.0), sigma=1.5)
    return Model(ObedientNetwork(3, plan.sigma, radius).eval(), plan, training_cases)


def write_case(
    folder: Path, name: str, predicted: np.ndarray, truth: np.ndarray, affine: np.ndarray | None = None
) -> Case:
    """A case for which an obedient model predicts `predicted`, in a dataset's layout, by default RAS of 1 mm."""
    affine = np.eye(4) if affine is None else affine
    paths = [Path(folder) / room / f"{name}.nii.gz" for room in ("imagesTr", "labelsTr")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(paths[0], predicted, Volume(predicted.astype(np.float32), affine), np.int16)
    write_label(paths[1], truth, Volume(truth, affine))
    return Case(name, (paths[0],), paths[1])


def two_blocks() -> np.ndarray:
    """``[16, 16, 16]``: a left and a right block of 6 x 8 x 8 voxels."""
    truth = np.zeros((16, 16, 16), np.uint8)
    truth[1:7, 4:12, 4:12] = 1
    truth[9:15, 4:12, 4:12] = 2
    return truth
