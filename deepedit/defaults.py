"""Defaults that the library and the command lines share: ``--help`` tells them, and must not wait for torch.

Those of training are in `deepedit.training.config`.
"""

LARGEST_PATCH = 128
"""Voxels along each side that a planned patch has at most."""

MAX_CLICKS = 10
"""Clicks for each case of an evaluation."""

OVERLAP = 0.5
"""Of the windows of a large volume, as a share of their sides."""

PERCENTILES = (0.5, 99.5)
"""That count as the ends of the range of an image whose values are not calibrated, as those of CT are."""

TOLERANCE = 2.0
"""Of the surface distance, in mm."""

WINDOW = (-175.0, 250.0)
"""To which CT is clipped, in HU."""
