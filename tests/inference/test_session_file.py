"""A session goes on from a file as if it had never been interrupted."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from deepedit.errors import DeepEditError, FileError
from deepedit.inference.session import InteractiveSession
from deepedit.network.refiner import build_refiner
from deepedit.plan import Labels
from deepedit.volume import Volume
from tests.inference.networks import random_model
from tests.inference.test_session_steps import LABELS, SHAPES, assert_same, new_session, some_clicks

AFFINE = np.array([[-1.3, 0, 0, 5], [0, 0, 1.0, -3], [0, 0.8, 0, 2], [0, 0, 0, 1]])


def image_of(shape):
    return np.random.default_rng(0).uniform(0, 2, shape).astype(np.float32)


def worked_on(shape, initial):
    """A session with clicks alone and together, a lock, and steps that are undone."""
    session = new_session(shape, initial, AFFINE)
    clicks = some_clicks(6, shape)
    session.add_click(*clicks[0])
    session.add_clicks(clicks[1:4])
    session.lock("c")
    for click in clicks[4:]:
        try:
            session.add_click(*click)
        except DeepEditError:
            session.add_click(click[0], LABELS.class_names[LABELS.to_classes(session.predict())[click[0]]])
    session.undo()
    return session


@pytest.fixture
def written(tmp_path):
    session = worked_on(SHAPES["one window"], initial=False)
    session.save_session(tmp_path / "case.session")
    return session, tmp_path / "case.session"


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("initial", [False, True])
def test_all_goes_on_as_it_would_have(shape, initial, tmp_path):
    session = worked_on(shape, initial)
    session.save_session(tmp_path / "case.session")
    other = InteractiveSession(random_model(labels=LABELS, patch=(12, 12, 12)), amp="off")
    other.load_session(tmp_path / "case.session", image_of(shape), AFFINE)
    assert_same(session, other)
    assert session.volumes() == other.volumes()
    assert session.obeyed_alone == other.obeyed_alone
    for act in (
        lambda each: each.redo(),
        lambda each: each.add_click((1, 1, 1), LABELS.class_names[LABELS.to_classes(each.predict())[1, 1, 1]]),
        lambda each: each.undo(),
        lambda each: each.remove_click(1),
        lambda each: each.undo(),
        lambda each: each.undo(),
        lambda each: each.undo(),
        lambda each: each.redo(),
        lambda each: each.reset(),
    ):
        assert act(session) == act(other)
        assert_same(session, other)


def test_asking_for_a_file_before_anything_else_works(tmp_path):
    session = new_session()
    session.save_session(tmp_path / "case.session")
    other = new_session()
    other.load_session(tmp_path / "case.session", image_of(SHAPES["one window"]))
    assert_same(session, other)


@pytest.mark.parametrize(
    ("image", "affine", "model"),
    [
        (image_of(SHAPES["one window"]) + 0.001, AFFINE, random_model(labels=LABELS, patch=(12, 12, 12))),
        (image_of((12, 10, 13)), AFFINE, random_model(labels=LABELS, patch=(12, 12, 12))),
        (image_of(SHAPES["one window"]), np.eye(4), random_model(labels=LABELS, patch=(12, 12, 12))),
    ],
    ids=["other voxels", "other shape", "other affine"],
)
def test_a_session_of_another_image_is_refused_and_all_stays(written, image, affine, model):
    _, path = written
    session = InteractiveSession(model, amp="off")
    session.set_image(np.zeros((12, 12, 12)))
    before = session.predict()
    with pytest.raises(FileError, match="another image"):
        session.load_session(path, Volume(image, affine))
    assert_array_equal(session.predict(), before)


def test_a_session_of_a_model_with_another_refiner_is_refused(written):
    _, path = written
    model = random_model(labels=LABELS, patch=(12, 12, 12))
    for refiner in (None, build_refiner(1, 4, seed=6).eval()):
        session = InteractiveSession(replace(model, refiner=refiner), amp="off")
        with pytest.raises(FileError, match="another model"):
            session.load_session(path, image_of(SHAPES["one window"]), AFFINE)


@pytest.mark.parametrize("form", [np.float64, ">f4", "fortran", "negative zeros"])
def test_an_image_in_another_form_is_the_same_image(written, form):
    session, path = written
    image, affine = image_of(SHAPES["one window"]), AFFINE
    if form == "fortran":
        image = np.asfortranarray(image)
    elif form == "negative zeros":
        affine = np.where(AFFINE == 0, -0.0, AFFINE)
    else:
        image = image.astype(form)
    other = InteractiveSession(random_model(labels=LABELS, patch=(12, 12, 12)), amp="off", tta=True)
    other.load_session(path, image, affine)
    assert_same(session, other)
    session.undo()
    other.undo()  # with the options that the session had
    assert_same(session, other)


def test_the_network_answers_at_the_precision_of_the_session_in_the_file(written, monkeypatch):
    _, path = written
    asked = []

    def at_precision(network, device, amp):
        asked.append(amp)
        return network

    monkeypatch.setattr("deepedit.inference.session_file.at_precision", at_precision)
    for amp in ("off", "auto"):
        other = InteractiveSession(random_model(labels=LABELS, patch=(12, 12, 12)), amp=amp)
        other.load_session(path, image_of(SHAPES["one window"]), AFFINE)
    assert asked == ["off"]


def test_more_than_255_labels_are_kept(tmp_path):
    labels = Labels(tuple(f"l{number}" for number in range(1, 257)), tuple(range(1, 257)))
    sessions = [InteractiveSession(random_model(labels=labels, patch=(8, 8, 8)), amp="off") for _ in range(2)]
    image = image_of((8, 8, 8))
    sessions[0].set_image(image)
    sessions[0].add_click((2, 2, 2), "l256")
    sessions[0].lock("l256")
    sessions[0].save_session(tmp_path / "case.session")
    sessions[1].load_session(tmp_path / "case.session", image)
    assert_same(*sessions)
    assert sessions[1].predict()[2, 2, 2] == 256


def test_a_session_of_another_model_is_refused(written):
    _, path = written
    model = random_model(labels=LABELS, patch=(12, 12, 12))
    with torch.no_grad():
        next(model.network.parameters()).flatten()[0] += 1
    with pytest.raises(FileError, match="another model"):
        InteractiveSession(model, amp="off").load_session(path, image_of(SHAPES["one window"]), AFFINE)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_members(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def told(about):
    return npy(np.frombuffer(json.dumps(about).encode(), np.uint8))


def about_of(entries):
    return json.loads(np.load(io.BytesIO(entries["about.npy"])).tobytes())


DAMAGES = {
    "cut short": lambda entries: None,
    "no logits": lambda entries: entries.pop("logits.npy"),
    "other shape": lambda entries: entries.update({"result.npy": npy(np.zeros((2, 2, 2), np.uint8))}),
    "objects": lambda entries: entries.update({"logits.npy": npy(np.array([{}], dtype=object))}),
    "huge": lambda entries: entries.update({"result.npy": npy(np.zeros(10**6, np.uint8))}),
    "a step of no kind": lambda entries: entries.update(
        {"about.npy": told({**about_of(entries), "done": [{"voxels": [0] * 4, "heard": []}]})}
    ),
    "a click that is none": lambda entries: entries.update(
        {"about.npy": told({**about_of(entries), "done": [{"clicks": [{"label": "a"}], "voxels": [], "heard": []}]})}
    ),
    "a class that is not there": lambda entries: entries.update(
        {"result.npy": npy(np.full(SHAPES["one window"], 9, np.uint8))}
    ),
    "logits that are no numbers": lambda entries: entries.update(
        {"logits.npy": npy(np.full((4, *SHAPES["one window"]), np.nan, np.float16))}
    ),
    "a header that claims too much": lambda entries: entries.update(
        {"result.npy": entries["result.npy"].replace(b"(12, 10, 12)", b"(9**9, 9, 9)")}
    ),
    "an unlock of what is not locked": lambda entries: entries.update(
        {"about.npy": told({**about_of(entries), "done": [{"unlock": "a", "voxels": [0] * 4, "heard": []}]})}
    ),
    "a number beyond all": lambda entries: entries.update(
        {"about.npy": told({**about_of(entries), "done": [{"clicks": [], "voxels": [1e999] * 4, "heard": []}]})}
    ),
    "about nothing": lambda entries: entries.update({"about.npy": npy(np.zeros(3, np.uint8))}),
    "a list": lambda entries: entries.update({"about.npy": told([1])}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_line_and_all_stays(written, damage):
    session, path = written
    entries = members(path)
    DAMAGES[damage](entries)
    with_members(path, entries)
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    before = session.predict(), session.clicks
    with pytest.raises(DeepEditError, match=r"case\.session: ") as error:
        session.load_session(path, image_of(SHAPES["one window"]), AFFINE)
    assert "\n" not in str(error.value)
    assert_array_equal(session.predict(), before[0])
    assert session.clicks == before[1]


def test_a_file_of_a_later_version_says_so(written):
    session, path = written
    entries = members(path)
    entries["about.npy"] = told({**about_of(entries), "version": 2})
    with_members(path, entries)
    with pytest.raises(FileError, match="version 2"):
        session.load_session(path, image_of(SHAPES["one window"]), AFFINE)


def test_a_missing_file_or_folder_is_one_line(tmp_path):
    session = new_session()
    with pytest.raises(FileError, match=r"none\.session"):
        session.load_session(tmp_path / "none.session", image_of(SHAPES["one window"]))
    with pytest.raises(FileError, match="none"):
        session.save_session(tmp_path / "none" / "case.session")
