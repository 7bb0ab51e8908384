"""What a run tells while it goes on."""

import pytest

from deepedit.errors import FileError
from deepedit.training.board import Board
from deepedit.training.loop import Progress


def test_curves_that_cannot_be_written_end_the_run_with_the_folder_and_the_mend(tmp_path, monkeypatch):
    board = Board(tmp_path, Progress(), talks=False, say=print)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(board.writer, "add_scalar", full)
    with pytest.raises(FileError, match=r"No space left on device; make room, then `resume`") as raised:
        board.step(Progress(step=1, share=1.0, loss={"automatic": 0.5}))
    assert str(tmp_path) in str(raised.value)
    board.close()


def test_lines_are_told_where_no_bar_shows_the_steps(tmp_path):
    said = []
    board = Board(tmp_path, Progress(), talks=True, say=said.append)
    board.step(Progress(step=1, share=0.1))
    assert said == []
    board.step(Progress(step=2, share=1.0, loss={"automatic": 0.5, "clicks": 0.25}, timings={"data": 4.0}))
    board.close()
    assert said == ["100%  step 2  loss automatic 0.500, clicks 0.250  seconds a step: data 2.000"]
