"""Files of images are read as often as they have to be, and not once more."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.server import images
from deepedit.server.images import Handover, read_image
from deepedit.volume import DEFAULT_READING
from tests.server.live import model_that_obeys, named, serving, write_image
from tests.server.page_client import ask


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read, in order."""
    found, read_case = [], images.read_case

    def counting(case, reading):
        found.append(case.image[0].name)
        return read_case(case, reading)

    monkeypatch.setattr(images, "read_case", counting)
    return found


@pytest.fixture
def files(tmp_path):
    return [(write_image(tmp_path / f"{name}.nii.gz", seed=seed),) for seed, name in enumerate("ab")]


def test_what_is_left_is_taken_once(files, reads):
    handover = Handover(2**30)
    left = handover.leave(files[0], DEFAULT_READING)
    assert handover.take(files[0], DEFAULT_READING) is left
    assert len(reads) == 1
    assert_array_equal(handover.take(files[0], DEFAULT_READING).data, left.data)
    assert len(reads) == 2


def test_another_image_or_the_same_file_with_another_content_is_read(files, reads):
    handover = Handover(2**30)
    handover.leave(files[0], DEFAULT_READING)
    other = handover.take(files[1], DEFAULT_READING)
    assert_array_equal(other.data, read_image(files[1], DEFAULT_READING).data)
    files[0][0].write_bytes(files[1][0].read_bytes())
    assert_array_equal(handover.take(files[0], DEFAULT_READING).data, other.data)
    assert reads[:3] == ["a.nii.gz", "b.nii.gz", "b.nii.gz"]


def test_an_image_that_is_too_large_is_not_held(files, reads):
    handover = Handover(100)
    handover.leave(files[0], DEFAULT_READING)
    handover.take(files[0], DEFAULT_READING)
    assert len(reads) == 2


def test_of_many_who_take_at_once_one_gets_what_was_left_and_all_the_same(files, reads):
    handover, barrier = Handover(2**30), threading.Barrier(4)
    left = handover.leave(files[0], DEFAULT_READING)

    def take(_):
        barrier.wait(60)
        return handover.take(files[0], DEFAULT_READING)

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take, range(4)))
    assert sum(each is left for each in taken) == 1
    assert len(reads) == 4
    assert all(np.array_equal(each.data, left.data) for each in taken)


def test_a_page_that_opens_a_case_has_its_file_read_once(tmp_path, reads):
    studies = tmp_path / "studies"
    studies.mkdir()
    for seed, name in enumerate("ab"):
        write_image(studies / f"{name}.nii.gz", seed=seed)
    with serving(named(model_that_obeys(), tmp_path), studies, trains=False) as live:
        for name in "ab":
            assert ask(live.url, "GET", "/api/image", image=name).status == 200
            assert ask(live.url, "GET", "/api/image", image=name, part="voxels").status == 200
            assert ask(live.url, "POST", "/api/segment", json.dumps({"image": name})).status == 200
    assert reads == ["a.nii.gz", "b.nii.gz"]
