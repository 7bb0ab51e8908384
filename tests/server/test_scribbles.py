"""The segmentation as it is in the viewer, scribbles on it, and one label that comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deepedit.errors import Cancelled, ClickError, DeepEditError, FileError, ModelError
from deepedit.inference.session import InteractiveSession
from deepedit.io.volumes import write_label, write_volume
from deepedit.plan import Labels
from deepedit.server import scribbles
from deepedit.server.scribbles import Drawing, ScribbleQuestion, read_drawing, thinned
from deepedit.server.sessions import Question, Sessions
from deepedit.volume import Volume
from tests.inference.networks import random_model
from tests.obedient import obedient_model, two_blocks

LABELS = Labels(("a", "b", "c"), (2, 5, 300))
AFFINES = {
    "same grid": np.eye(4),
    "other grid": np.array([[0, 0, 1.4, 3], [-1, 0, 0, 5], [0, 0.8, 0, 9], [0, 0, 0, 1.0]]),
}

# What 3D Slicer sends beside the label map: all segments in their order, `id` their place from 1 on.
SEGMENTS = ("left", "right", "background", "background_scribbles", "foreground_scribbles")


def payload(*names):
    return [{"name": name, "id": number} for number, name in enumerate(names, start=1)]


@pytest.fixture(params=[".nii.gz", ".nrrd"])
def case(request, tmp_path):
    """An image of two blocks, as the model segments it, and a way to write what is drawn in the viewer."""
    if request.param == ".nrrd":
        pytest.importorskip("SimpleITK")
    image = tmp_path / f"case{request.param}"
    write_volume(image, two_blocks(), Volume(two_blocks()), np.int16)

    def draw(data, affine=None):
        path = tmp_path / f"drawn{request.param}"
        write_label(path, data, Volume(data, np.eye(4) if affine is None else affine))
        return path

    return image, draw


def test_a_scribble_gives_and_takes_in_the_selected_label_alone(case):
    image, draw = case
    sessions = Sessions(obedient_model(radius=2), 2**30)
    drawn = two_blocks()
    drawn[0:3, 0:3, 0:3] = 1  # edited by hand: only this request tells of it
    drawn[3, 3:6, 1] = 5  # foreground scribble on background
    drawn[2, 4:8, 8] = 4  # background scribble in the left block
    answer = sessions.scribble(ScribbleQuestion((image,), draw(drawn), payload(*SEGMENTS), "left"))
    assert answer.names == ("left",)
    assert set(np.unique(answer.ranks)) == {0, 1}
    assert answer.ranks.flags.f_contiguous
    assert answer.ranks[0:3, 0:3, 0:3].mean() > 0.9
    assert (answer.ranks[3, 3:6, 1] == 1).all()
    assert (answer.ranks[2, 4:8, 8] == 0).all()
    assert answer.ranks[1, 5:7, 8].sum() == 0  # the answer reaches beyond what was painted
    assert not answer.ranks[two_blocks() == 2].any()
    assert not answer.notes


def test_scribbles_in_other_labels_are_left_out_and_told(case):
    image, draw = case
    sessions = Sessions(obedient_model(radius=3), 2**30)
    drawn = two_blocks()
    drawn[11:13, 7, 7] = 5  # in the right block, two voxels
    drawn[7:9, 7, 7] = 5  # beside it
    answer = sessions.scribble(ScribbleQuestion((image,), draw(drawn), payload(*SEGMENTS), "left"))
    assert not answer.ranks[two_blocks() == 2].any()
    assert answer.ranks[8, 7, 7] == answer.ranks[7, 7, 7] == 1
    assert len(answer.notes) == 1
    assert "2 scribbled voxels lie in right" in answer.notes[0] or "3 scribbled voxels lie in right" in answer.notes[0]


def test_scribbles_in_other_labels_alone_are_refused_since_nothing_would_change(case):
    image, draw = case
    drawn = two_blocks()
    drawn[12, 7, 7] = 5
    with pytest.raises(DeepEditError, match="all scribbles lie in right, and only left may change; erase right there"):
        Sessions(obedient_model(), 2**30).scribble(ScribbleQuestion((image,), draw(drawn), payload(*SEGMENTS), "left"))


def test_segments_that_the_model_does_not_know_are_left_alone(case):
    image, draw = case
    sessions = Sessions(obedient_model(radius=3), 2**30)
    drawn = two_blocks()
    drawn[7:9, 5:12, 5:12] = 4
    drawn[6, 7, 7] = 3
    info = payload("left", "right", "foreground_scribbles", "my tumour")
    answer = sessions.scribble(ScribbleQuestion((image,), draw(drawn), info, "left"))
    assert not answer.ranks[drawn == 4].any()
    assert answer.ranks[6, 7, 7] == 1


def test_nothing_changes_beyond_a_region_of_interest(case):
    image, draw = case
    sessions = Sessions(obedient_model(radius=3), 2**30)
    drawn = two_blocks()
    drawn[3, 2, 7:9] = 5
    for roi in ([0, 3, 0, 20, -5, 7], [3, 0, 20, 0, 7, -5]):  # a viewer whose axes run the other way
        answer = sessions.scribble(ScribbleQuestion((image,), draw(drawn), payload(*SEGMENTS), "left", roi))
        before = two_blocks() == 1
        outside = np.ones(before.shape, bool)
        outside[:4, :, :8] = False
        assert_array_equal(answer.ranks[outside], before[outside])
        assert answer.ranks[3, 2, 7] == 1


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@given(seed=st.integers(0, 2**32), share=st.floats(0.002, 0.6))
@settings(max_examples=12, deadline=None)
def test_no_voxel_is_taken_from_others_and_every_scribble_counts(tmp_path_factory, affine, seed, share):
    folder, rng = tmp_path_factory.mktemp("case"), np.random.default_rng(seed)
    shape = (14, 11, 30)
    image = rng.uniform(0, 2, shape)
    write_volume(folder / "image.nii.gz", image, Volume(image, affine))
    names = rng.permutation(["a", "b", "c", "background", "mine", "foreground_scribbles", "background_scribbles"])
    drawn = np.where(rng.random(shape) < share, rng.integers(0, 8, shape), rng.integers(0, 6))
    write_label(folder / "drawn.nii.gz", drawn, Volume(drawn, affine))
    question = ScribbleQuestion((folder / "image.nii.gz",), folder / "drawn.nii.gz", payload(*names), "b")
    model = random_model(labels=LABELS, patch=(12, 12, 12))
    foreground, background = (
        drawn == list(names).index(f"{each}_scribbles") + 1 for each in ("foreground", "background")
    )
    if not (foreground | background).any():
        with pytest.raises(DeepEditError, match="nothing is scribbled"):
            Sessions(model, 2**30).scribble(question)
        return
    try:
        result = Sessions(model, 2**30).scribble(question).ranks > 0
    except DeepEditError as error:
        if not str(error).startswith("all scribbles lie in "):
            raise
        return
    for name in ("a", "c", "mine"):
        assert not result[drawn == list(names).index(name) + 1].any()
    # By hand: a session that gets the same.
    session = InteractiveSession(model)
    session.set_image(folder / "image.nii.gz")
    drawing = read_drawing(question, session.image, LABELS)
    assert result[tuple(drawing.foreground.T)].all()
    assert not result[tuple(drawing.background.T)].any()
    if not drawing.notes:
        assert len(drawing.foreground) + len(drawing.background) == (foreground | background).sum()
    session.set_segmentation(LABELS.to_values(drawing.classes), locked=("a", "c"))
    session.add_clicks(thinned(drawing, session, "b"))
    expected = (session.predict() == 5) & ~drawing.taken
    expected[tuple(drawing.foreground.T)] = True
    expected[tuple(drawing.background.T)] = False
    assert_array_equal(result, expected)


@given(seed=st.integers(0, 2**32), count=st.integers(0, 4000), most=st.integers(1, 300))
@settings(max_examples=20, deadline=None)
def test_thousands_of_scribbled_voxels_become_few_clicks_among_them(seed, count, most):
    rng = np.random.default_rng(seed)
    shape = (40, 30, 20)
    session = InteractiveSession(random_model(labels=LABELS, patch=(12, 12, 12), spacing=(2.0, 1.0, 1.5)))
    session.set_image(rng.uniform(0, 2, shape), AFFINES["other grid"])
    voxels = rng.integers(0, shape, (count, 3))
    half = count // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scribbles, "MOST_CLICKS", most + 1)
        clicks = thinned(Drawing(None, None, voxels[:half], voxels[half:]), session, "a")
    assert len(clicks) <= most + 1
    for name, drawn in (("a", voxels[:half]), ("background", voxels[half:])):
        own = [voxel for voxel, label in clicks if label == name]
        assert set(own) <= set(map(tuple, drawn.tolist()))
        assert bool(own) == bool(len(drawn))
        assert len(set(own)) == len(own)


def test_what_cannot_be_answered_is_refused_in_a_line(case, tmp_path):
    image, draw = case
    sessions = Sessions(obedient_model(), 2**30)
    drawn = two_blocks()
    drawn[0, 0, 0] = 5
    info = payload(*SEGMENTS)
    asked = lambda *given: sessions.scribble(ScribbleQuestion((image,), *given))  # noqa: E731
    with pytest.raises(ClickError, match="'tumour' is not one of"):
        asked(draw(drawn), info, "tumour")
    with pytest.raises(DeepEditError, match="not about the background"):
        asked(draw(drawn), info, "background")
    with pytest.raises(DeepEditError, match="nothing is scribbled"):
        asked(draw(two_blocks()), info, "left")
    with pytest.raises(FileError, match="value 5 and there are 2 segments"):
        asked(draw(drawn), info[:2], "left")
    with pytest.raises(FileError, match="does not lie on the grid"):
        asked(draw(drawn[1:]), info, "left")
    with pytest.raises(FileError, match="does not lie on the grid"):
        asked(draw(drawn, np.diag([1, 1, 1.1, 1])), info, "left")
    with pytest.raises(FileError, match="no such file"):
        asked(tmp_path / "none.nii.gz", info, "left")
    for hostile in (["left"], [{}], [{"name": 3}], [None]):
        with pytest.raises(DeepEditError, match="label_info"):
            asked(draw(drawn), hostile, "left")
    for hostile in ([1, 2, 3], ["a"] * 6, [None] * 6, [float("nan")] * 6, "abcdef", 5, [[1], 2], {"a": 1}):
        with pytest.raises(DeepEditError, match="six numbers"):
            asked(draw(drawn), info, "left", hostile)
    with pytest.raises(Cancelled):
        sessions.scribble(ScribbleQuestion((image,), draw(drawn), info, "left"), cancelled=lambda: True)


def test_the_image_in_memory_is_shared_and_no_session_stays(case, monkeypatch):
    image, draw = case
    sessions = Sessions(obedient_model(), 2**30)
    sessions.answer(Question((image,)))
    monkeypatch.setattr(InteractiveSession, "set_image", None)
    drawn = two_blocks()
    drawn[0, 0, 0] = 5
    sessions.scribble(ScribbleQuestion((image,), draw(drawn), payload(*SEGMENTS), "left"))
    assert len(sessions._cached) == 1


def test_a_model_without_a_previous_segmentation_takes_no_scribbles(case):
    image, draw = case
    model = obedient_model()
    object.__setattr__(model.plan, "previous", False)
    with pytest.raises(ModelError, match="takes no scribbles"):
        Sessions(model, 2**30).scribble(ScribbleQuestion((image,), draw(two_blocks()), payload(*SEGMENTS), "left"))
