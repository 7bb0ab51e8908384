"""MONAI's DeepEdit as its users call it: network, guidance, and the way from a file and its clicks to labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.apps.deepedit.transforms import (
    AddGuidanceFromPointsDeepEditd,
    AddGuidanceSignalDeepEditd,
    ResizeGuidanceMultipleLabelDeepEditd,
)
from monai.networks.nets import DynUNet
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, Resized, ScaleIntensityRanged
from torch import Tensor

SIGMA = 3
WINDOW = (-175.0, 250.0)

Clicks = Mapping[str, Sequence[Sequence[int]]]


def network(labels: int, filters: Sequence[int], seed: int) -> DynUNet:
    """The tutorial's network with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    strides = [1, 2, 2, 2, 2, [2, 2, 1]]
    return DynUNet(
        spatial_dims=3,
        in_channels=labels + 2,
        out_channels=labels + 1,
        kernel_size=[3] * 6,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=list(filters),
        norm_name="instance",
        res_block=True,
    ).eval()


def guidance(clicks: Clicks, shape: Sequence[int]) -> np.ndarray:
    """``[len(clicks), *shape]``: a channel a name, from voxels of that shape."""
    render = AddGuidanceSignalDeepEditd(keys="image", guidance="guidance", sigma=SIGMA, number_intensity_ch=1)
    data = render({"image": np.zeros((1, *shape), np.float32), "guidance": dict(clicks)})
    return np.asarray(data["image"])[1:]


def network_input(path: Path, clicks: Clicks, shape: Sequence[int]) -> Tensor:
    """``[1, 1 + len(clicks), *shape]`` from a file and clicks at its voxels, by the reference's inference transforms.

    The channels are in the order of the names in `clicks`.
    """
    window = {"a_min": WINDOW[0], "a_max": WINDOW[1], "b_min": 0.0, "b_max": 1.0, "clip": True}
    prepare = Compose(
        [
            LoadImaged(keys="image", reader="NibabelReader"),
            EnsureChannelFirstd(keys="image"),
            Orientationd(keys="image", axcodes="RAS"),
            ScaleIntensityRanged(keys="image", **window),
            AddGuidanceFromPointsDeepEditd(ref_image="image", guidance="guidance", label_names=dict.fromkeys(clicks)),
            Resized(keys="image", spatial_size=list(shape), mode="area"),
            ResizeGuidanceMultipleLabelDeepEditd(guidance="guidance", ref_image="image"),
            AddGuidanceSignalDeepEditd(keys="image", guidance="guidance", sigma=SIGMA, number_intensity_ch=1),
        ]
    )
    data = prepare({"image": str(path), **clicks})
    return torch.as_tensor(np.asarray(data["image"]), dtype=torch.float32)[None]


def to_native(logits: Tensor, shape: Sequence[int]) -> np.ndarray:
    """``[*shape]``: decided on the network's grid, then brought back voxel by nearest voxel."""
    decided = logits.argmax(1, keepdim=True).float()
    return torch.nn.functional.interpolate(decided, tuple(shape), mode="nearest")[0, 0].long().numpy()
