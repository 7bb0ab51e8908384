import pytest
import torch

from deepedit.clicks import Clicks


def test_clicks_are_int64_and_valid_unless_said_otherwise():
    clicks = Clicks(torch.tensor([0, 1]), torch.tensor([2, 0], dtype=torch.int32), [[1, 2, 3], [4, 5, 6]])
    assert len(clicks) == 2
    assert clicks.batch.dtype == clicks.label.dtype == clicks.position.dtype == torch.int64
    assert clicks.valid.tolist() == [True, True]


@pytest.mark.parametrize(
    ("batch", "label", "position", "valid"),
    [
        ([0], [1, 1], [[0, 0, 0]], None),
        ([0], [1], [[0, 0]], None),
        ([0], [1], [0, 0, 0], None),
        ([0], [1], [[0, 0, 0]], [True, True]),
        ([[0]], [[1]], [[0, 0, 0]], None),
    ],
)
def test_shapes_that_do_not_fit_are_refused(batch, label, position, valid):
    with pytest.raises(ValueError, match="N clicks are"):
        Clicks(batch, label, position, valid)


def test_cat_keeps_the_order_and_empty_adds_nothing():
    one = Clicks([0], [1], [[1, 2, 3]])
    two = Clicks([1], [0], [[4, 5, 6]], [False])
    both = Clicks.cat([one, Clicks.empty(), two])
    assert both.batch.tolist() == [0, 1]
    assert both.label.tolist() == [1, 0]
    assert both.position.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert both.valid.tolist() == [True, False]
    assert len(Clicks.cat([])) == 0


def test_to_moves_every_part():
    clicks = Clicks([0], [1], [[1, 2, 3]]).to("meta")
    assert {part.device.type for part in (clicks.batch, clicks.label, clicks.position, clicks.valid)} == {"meta"}
