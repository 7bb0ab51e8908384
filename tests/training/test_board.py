"""What a run tells while it goes on."""

import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deepedit.errors import FileError
from deepedit.training.board import Board
from deepedit.training.loop import Progress
from deepedit.training.validation import Validation


def test_curves_that_cannot_be_written_end_the_run_with_the_folder_and_the_mend(tmp_path, monkeypatch):
    board = Board(tmp_path, Progress(), talks=False, say=print)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(board.writer, "add_scalar", full)
    with pytest.raises(FileError, match=r"No space left on device; make room, then `resume`") as raised:
        board.step(Progress(step=1, share=1.0, loss={"automatic": 0.5}))
    assert str(tmp_path) in str(raised.value)
    board.close()


@pytest.mark.parametrize("state", [0, 2, 3])
def test_a_run_that_is_resumed_hides_what_came_after_its_state_and_nothing_else(tmp_path, monkeypatch, state):
    first = Board(tmp_path, Progress(), talks=False, say=print)
    for step in (1, 2, 3):
        first.validation(Validation({0: {"spleen": step / 10}}, {}, cases=1), step)
    first.close()
    # Files are read in the order of their names, which begin with their time in seconds.
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10)
    Board(tmp_path, Progress(step=state), talks=False, say=print).close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [each.step for each in events.Scalars("dice_mean/clicks_0")] == list(range(1, state + 1))


def test_lines_are_told_where_no_bar_shows_the_steps(tmp_path):
    said = []
    board = Board(tmp_path, Progress(), talks=True, say=said.append)
    board.step(Progress(step=1, share=0.1))
    assert said == []
    board.step(Progress(step=2, share=1.0, loss={"automatic": 0.5, "clicks": 0.25}, timings={"data": 4.0}))
    board.close()
    assert said == ["100%  step 2  loss automatic 0.500, clicks 0.250  seconds a step: data 2.000"]
