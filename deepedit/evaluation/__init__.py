"""Evaluation of a model over a dataset: Dice and surface distance against the number of clicks."""

from deepedit.evaluation.oracle import LEAST_GAIN, oracle_dice, repaired_share
from deepedit.evaluation.protocol import evaluate_dataset, redundant_click
from deepedit.evaluation.rows import ClickEffect, Row
from deepedit.evaluation.shared import Outcome, evaluate_shared
from deepedit.evaluation.starts import Corruption, corrupt_to_range
from deepedit.evaluation.summary import ClickSummary, Curve, Summary, summarise

__all__ = [
    "LEAST_GAIN",
    "ClickEffect",
    "ClickSummary",
    "Corruption",
    "Curve",
    "Outcome",
    "Row",
    "Summary",
    "corrupt_to_range",
    "evaluate_dataset",
    "evaluate_shared",
    "oracle_dice",
    "redundant_click",
    "repaired_share",
    "summarise",
]
