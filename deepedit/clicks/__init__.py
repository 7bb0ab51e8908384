"""Clicks as tensors: finding where a prediction is wrong, simulating clicks there, and rendering clicks as guidance."""

from deepedit.clicks.distance import chessboard_distance
from deepedit.clicks.guidance import render_guidance
from deepedit.clicks.largest_error import largest_error_click
from deepedit.clicks.obey import obey_clicks
from deepedit.clicks.sampling import error_regions, sample_clicks
from deepedit.clicks.simulate import Annotator, simulate_clicks
from deepedit.clicks.types import Clicks

__all__ = [
    "Annotator",
    "Clicks",
    "chessboard_distance",
    "error_regions",
    "largest_error_click",
    "obey_clicks",
    "render_guidance",
    "sample_clicks",
    "simulate_clicks",
]
