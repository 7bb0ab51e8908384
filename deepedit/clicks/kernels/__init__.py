"""Click simulation on a GPU in few kernels, written in Triton.

Each operator here is one kernel launch. They are registered with torch, each with the shapes that it returns, so that
``torch.compile`` and fake tensors follow them. What they compute is promised by the functions that call them, such as
`error_regions`, `chessboard_distance`, `sample_clicks`, `render_guidance` and `largest_errors`.

A kernel's first grid axis counts blocks of voxels that are neighbours in memory, its second one samples (or channels),
so that no index within a sample reaches 2**31. Neighbours along any axis are then read in whole blocks, too.
"""

from deepedit.clicks.kernels.components import largest_error_voxels
from deepedit.clicks.kernels.drawing import clicks_at_keys, draw
from deepedit.clicks.kernels.launch import NO_VOXEL
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
]
