"""The pictures of what a click may change: what they are drawn from, and that they are drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks import click_pictures
from benchmarks.click_pictures import Example, Pair, beside, draw, outline
from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Intensity, Labels, Plan
from deepedit.volume import Volume

SHAPE = (12, 10, 8)


class Panel:
    """Notes the lines that are drawn on it."""

    def __init__(self):
        self.lines = []

    def plot(self, x, y, **options):
        self.lines.append(frozenset(zip(x, y, strict=True)))


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_an_outline_has_each_edge_between_a_voxel_of_the_mask_and_another_once(mask):
    edges = []
    for i, j in np.argwhere(mask):
        for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            inside = 0 <= i + di < mask.shape[0] and 0 <= j + dj < mask.shape[1]
            if not (inside and mask[i + di, j + dj]):
                middle = np.array([i + di / 2, j + dj / 2])
                edges.append(frozenset(tuple(middle + sign * np.array([dj, di]) / 2) for sign in (1, -1)))
    panel = Panel()
    outline(panel, mask, "red")
    assert sorted(map(sorted, panel.lines)) == sorted(map(sorted, edges))


def test_places_beside_a_click_are_near_it_in_its_plane_nearest_first_and_not_its_neighbours():
    places = beside((6, 5, 3), np.ones(SHAPE, bool))
    distances = [(x - 6) ** 2 + (y - 5) ** 2 for x, y, _ in places]
    assert len(places) == click_pictures.CANDIDATES
    assert all(z == 3 for _, _, z in places)
    assert distances == sorted(distances)
    assert min(distances) >= 4


@pytest.mark.parametrize("near", [False, True])
def test_a_picture_is_written(tmp_path, near):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; pip install 'deepedit[plot]' brings it")
    rng = np.random.default_rng(0)
    truth, before, answer, after = rng.integers(0, 3, (4, *SHAPE))
    clicks = [((1, 2, 3), 1), ((11, 9, 3), 0)]
    draw(Example(Volume(rng.normal(size=SHAPE)), truth, clicks, before, answer, after, near), tmp_path / "it.png")
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")


def test_both_sessions_show_the_same_before_the_newest_click_and_only_one_has_to_obey():
    config = UNetConfig(filters=(4, 4), strides=(1, 2), kernels=(3, 3))
    network = build_network(input_channels(1, 3), 3, config, seed=0).eval()
    model = Model(network, Plan(Labels(("one", "two"), (1, 2)), (1, 1, 1), (8, 8, 8), Intensity()))
    pair = Pair(model, Volume(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)))
    before = pair.ruled.classes().copy()
    assert (pair.free.classes() == before).all()
    label = (int(before[6, 5, 3]) + 1) % 3
    answer, after = pair.click((6, 5, 3), label)
    assert after[6, 5, 3] == label
    assert (answer[6, 5, 3] == label) == pair.ruled.obeyed_alone
    pair.undo()
    assert (pair.free.classes() == before).all()
    assert (pair.ruled.classes() == before).all()
