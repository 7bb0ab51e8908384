"""Defaults that the library and the command lines share: ``--help`` tells them, and must not wait for torch."""

MAX_CLICKS = 10
"""Clicks for each case of an evaluation."""

OVERLAP = 0.5
"""Of the windows of a large volume, as a share of their sides."""

TOLERANCE = 2.0
"""Of the surface distance, in mm."""
