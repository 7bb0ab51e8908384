"""Clicks as tensors: finding where a prediction is wrong, simulating clicks there, and rendering clicks as guidance."""

from deepedit.annotator import Annotator
from deepedit.clicks.distance import chessboard_distance
from deepedit.clicks.enforce import enforce_clicks
from deepedit.clicks.guidance import render_guidance
from deepedit.clicks.largest_error import largest_error_click
from deepedit.clicks.sampling import error_regions, sample_clicks
from deepedit.clicks.simulate import simulate_clicks
from deepedit.clicks.types import Clicks

__all__ = [
    "Annotator",
    "Clicks",
    "chessboard_distance",
    "enforce_clicks",
    "error_regions",
    "largest_error_click",
    "render_guidance",
    "sample_clicks",
    "simulate_clicks",
]
