"""What was tried and is not in the package: each change replaces functions of the package in this process.

The settings of a run, such as the width of the loss around the clicks, need nothing of this; see `__main__`.
"""

from collections.abc import Callable

from benchmarks.tries.answers import answer_twice, answers_count_near_clicks, loss_around_the_newest_click
from benchmarks.tries.guidance import change_guidance, cone, newest_is_higher, two_widths
from benchmarks.tries.networks import average_of_the_end, deep_supervision, dropout, guidance_in_the_last_block
from benchmarks.tries.results import newest, novices
from benchmarks.tries.samples import error_bank, half_start_from, harder_cases, mirror_anyway, whole_labels_wrong
from benchmarks.tries.truths import bent, grown, level_set, of_networks, plain, redraw_by


def novice_edits() -> None:
    networks = novices()
    redraw_by(of_networks(networks, noisy=True))
    half_start_from(lambda samples, slot, generator: networks.segment(samples, slot, generator, noisy=True))


CHANGES: dict[str, Callable[[str], None]] = {
    "cone": lambda value: change_guidance(cone(float(value))),
    "two-widths": lambda value: change_guidance(two_widths(*map(float, value.split("+")))),
    "newest-higher": lambda value: change_guidance(newest_is_higher(float(value))),
    "guidance-last": lambda value: guidance_in_the_last_block(),
    "newest-loss": loss_around_the_newest_click,
    "reach": answers_count_near_clicks,
    "twice": answer_twice,
    "bent": lambda value: redraw_by(bent(float(value))),
    "plain+bent": lambda value: redraw_by(plain, bent(float(value))),
    "novice": lambda value: redraw_by(of_networks(novices())),
    "plain+novice": lambda value: redraw_by(plain, of_networks(novices())),
    "plain+grown": lambda value: redraw_by(plain, grown(float(value))),
    "plain+level": lambda value: redraw_by(plain, level_set),
    "novice-edits": lambda value: novice_edits(),
    "spoiled-edits": lambda value: half_start_from(newest().segment_spoiled),
    "whole-edits": lambda value: half_start_from(whole_labels_wrong()),
    "bank": lambda value: error_bank(int(value)),
    "mirror-anyway": lambda value: mirror_anyway(),
    "harder": lambda value: harder_cases(float(value)),
    "dropout": lambda value: dropout(float(value)),
    "deep": lambda value: deep_supervision(),
    "average": lambda value: average_of_the_end(float(value)),
}
"""By name: each is called once, with the text behind its ``=``."""
