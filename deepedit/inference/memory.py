"""What a segmentation will need, said before it is allocated."""

import math

import torch

from deepedit.errors import DeepEditError
from deepedit.files import available_memory
from deepedit.network.checkpoint import Model
from deepedit.transforms.geometry import GridMap, Shape


def refuse_too_large(grid: GridMap, model: Model) -> None:
    """Raise a DeepEditError with an estimate if the segmentation of an image would not fit into memory."""
    plan, device = model.plan, model.device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    # float32 image, sum of logits and weights; float16 logits; a byte each for what was decided. The sum is made on the
    # CPU where a GPU has no room for it.
    each_class = 6 if device.type == "cpu" else 2
    needed = math.prod(grid.network_shape) * (4 * plan.image_channels + each_class * plan.labels.num_classes + 5)
    needed += math.prod(grid.native_shape) * (4 * plan.image_channels + 2)
    if free is not None and needed > free:
        raise DeepEditError(
            f"an image of {sides(grid.native_shape)} voxels, {sides(grid.network_shape)} at the model's spacing, "
            f"takes about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free; "
            "crop the image or resample it"
        )


def sides(shape: Shape) -> str:
    """A shape as people write it."""
    return " x ".join(map(str, shape))
