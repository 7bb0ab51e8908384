"""Click simulation on a GPU in few kernels, written in Triton.

Each operator here is one kernel launch. It is registered with torch together with the shapes that it returns, so that
``torch.compile`` and fake tensors can follow it. What the operators compute is documented at the functions that call
them, such as `error_regions`, `chessboard_distance`, `sample_clicks`, `render_guidance` and `largest_errors`.

The first axis of a kernel's grid counts blocks of voxels that are neighbours in memory. The second axis counts samples
(or channels), so that no index within a sample reaches 2**31. Neighbours along any axis are then read in whole blocks.
"""

from deepedit.clicks.kernels.components import largest_error_voxels
from deepedit.clicks.kernels.drawing import clicks_at_keys, draw
from deepedit.clicks.kernels.launch import NO_VOXEL
from deepedit.clicks.kernels.nearest import within_reach
from deepedit.clicks.kernels.painting import paint_guidance
from deepedit.clicks.kernels.regions import error_codes, line_distance, run_distance

__all__ = [
    "NO_VOXEL",
    "clicks_at_keys",
    "draw",
    "error_codes",
    "largest_error_voxels",
    "line_distance",
    "paint_guidance",
    "run_distance",
    "within_reach",
]
