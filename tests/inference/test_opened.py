"""What a session takes for an image."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.errors import DeepEditError, FileError
from deepedit.inference.session import InteractiveSession
from deepedit.io.nifti import write_volume
from deepedit.network.checkpoint import save_model
from deepedit.volume import Volume
from tests.inference.networks import random_model
from tests.obedient import obedient_model, two_blocks


def test_a_file_a_volume_and_an_array_are_the_same_image(tmp_path):
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    image = np.random.default_rng(0).uniform(0, 2, (20, 16, 12)).astype(np.float32)
    write_volume(tmp_path / "image.nii.gz", image, Volume(image, affine))
    save_model(tmp_path / "model.pt", random_model())
    results = []
    for each in (tmp_path / "image.nii.gz", str(tmp_path / "image.nii.gz"), Volume(image, affine)):
        session = InteractiveSession.from_checkpoint(tmp_path / "model.pt", device="cpu", amp="off")
        session.set_image(each)
        results.append(session.predict())
    session.set_image(image, affine)
    for result in (*results, session.predict()):
        assert_array_equal(result, results[0])


def test_a_session_of_a_file_takes_all_options(tmp_path):
    save_model(tmp_path / "model.pt", random_model())
    session = InteractiveSession.from_checkpoint(tmp_path / "model.pt", "cpu", amp="off", tta=False, overlap=0.25)
    session.set_image(np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32))
    assert session.predict().shape == (20, 20, 20)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int64", "float64", ">f4", "bool"])
def test_arrays_of_any_real_type_are_images(dtype):
    session = InteractiveSession(obedient_model(), amp="off")
    image = np.minimum(two_blocks(), 1).astype(dtype)
    session.set_image(image[:, ::-1])
    assert_array_equal(session.predict(), image[:, ::-1])


def test_several_channels_are_seen_and_their_number_is_checked():
    session = InteractiveSession(random_model(channels=2), amp="off")
    image = np.random.default_rng(0).uniform(0, 2, (2, 12, 16, 12)).astype(np.float32)
    session.set_image(image)
    first = session.probabilities()
    session.set_image(np.stack([image[0], 2 - image[1]]))
    assert not np.array_equal(session.probabilities(), first)
    with pytest.raises(FileError, match="1 channel"):
        session.set_image(image[0])


def test_a_new_image_starts_over(session):
    session.add_click((8, 8, 8), "right")
    session.set_image(np.zeros((9, 7, 5)))
    assert session.clicks == []
    assert_array_equal(session.predict(), np.zeros((9, 7, 5)))


def test_without_an_image_there_is_nothing_to_ask():
    session = InteractiveSession(obedient_model())
    for ask in (session.predict, session.reset, session.probabilities, lambda: session.add_click((0, 0, 0), "left")):
        with pytest.raises(DeepEditError, match="set_image"):
            ask()
    assert session.undo() is None
    assert session.redo() is None


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.full((4, 5, 6), np.nan), "the array: 120 of 120 voxels are NaN, infinite or beyond float32"),
        (np.array([[[0.0, np.inf]]]), "1 of 2 voxels are NaN"),
        (np.zeros((4, 5, 6), complex), "values of type complex128; give real numbers"),
        (np.zeros((0, 5, 6)), r"has no voxels: its shape is \(0, 5, 6\)"),
    ],
)
def test_arrays_that_would_be_refused_as_files(image, said):
    session = InteractiveSession(obedient_model())
    for each in (image, Volume(image)):
        with pytest.raises(FileError, match=said):
            session.set_image(each)


def test_an_affine_for_what_has_its_own(tmp_path):
    session, image = InteractiveSession(obedient_model()), np.zeros((4, 5, 6), np.float32)
    write_volume(tmp_path / "image.nii.gz", image, Volume(image))
    for each in (tmp_path / "image.nii.gz", Volume(image)):
        with pytest.raises(DeepEditError, match="`affine` is that of an array"):
            session.set_image(each, np.diag([2.0, 2, 2, 1]))
