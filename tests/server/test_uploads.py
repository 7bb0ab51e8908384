"""Files that clients send."""

import gzip
import io

import numpy as np
import pytest

from deepedit.errors import FileError
from deepedit.server import uploads
from deepedit.server.errors import TooLarge
from deepedit.server.uploaded import IMAGES_SENT, LABELS_SENT
from deepedit.server.uploads import KeptImages, refuse_bomb, suffix_of


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("case.nii.gz", ".nii.gz"),
        ("My Scan.NRRD", ".nrrd"),
        ("tmp1.seg.nrrd", ".seg.nrrd"),
        ("post_from_mitk.nii.gz", ".nii.gz"),
        ("x.mha", ".mha"),
        ("a.nii", ".nii"),
    ],
)
def test_only_the_suffix_of_a_name_is_used(name, suffix):
    assert suffix_of(name, LABELS_SENT) == suffix
    assert suffix_of(name, IMAGES_SENT) == (".nrrd" if suffix == ".seg.nrrd" else suffix)


@pytest.mark.parametrize("name", ["a.exe", "", "nii.gz/", "a.mhd", "nii"])
@pytest.mark.parametrize("endings", [IMAGES_SENT, LABELS_SENT])
def test_other_files_are_refused(name, endings):
    with pytest.raises(FileError, match=r"only \.nii\.gz"):
        suffix_of(name, endings)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_what_grows_too_large_when_it_is_decompressed_is_refused_whatever_its_name_says(tmp_path, suffix):
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(gzip.compress(bytes(10_000)))
    refuse_bomb(path, suffix, "bomb", largest=10_000)
    with pytest.raises(TooLarge, match="bomb: holds more than"):
        refuse_bomb(path, suffix, "bomb", largest=9_999)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FileError, match="damaged"):
        refuse_bomb(path, suffix, "bomb", largest=10_000)


def test_a_header_that_announces_too_much_is_refused(tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    path = tmp_path / "image.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(path))
    refuse_bomb(path, ".nrrd", "image")
    path.write_bytes(path.read_bytes().replace(b"sizes: 6 5 4", b"sizes: 60000 50000 40000"))
    with pytest.raises(TooLarge, match="GiB"):
        refuse_bomb(path, ".nrrd", "image")
    path.write_bytes(b"nothing")
    with pytest.raises(FileError, match="damaged"):
        refuse_bomb(path, ".nrrd", "image")


@pytest.fixture
def images():
    kept = KeptImages()
    yield kept
    kept.close()


def keep(images, content, name="scan", **options):
    with images.receive(io.BytesIO(content), ".nii.gz") as path:
        return images.keep(path, ".nii.gz", name, **options)


def test_an_image_is_kept_under_a_key_that_nobody_guesses(images):
    one = keep(images, b"one", "../../etc/passwd\n")
    assert images.find(one.key).path.read_bytes() == b"one"
    assert one.path.parent == images.folder
    assert len(one.key) >= 20
    assert images.find("other") is None


def test_the_same_content_is_kept_once(images):
    assert keep(images, b"one").key == keep(images, b"one").key
    assert keep(images, b"two").key != keep(images, b"one").key
    assert len(list(images.folder.iterdir())) == 2


def test_what_is_not_used_goes(images, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(uploads.time, "time", lambda: now)
    one, two = keep(images, b"one"), keep(images, b"two", expiry=20_000)
    now += 3000
    assert images.find(one.key)
    now += 3000
    assert images.find(one.key)
    now += 3601
    assert images.find(one.key) is None
    assert images.find(two.key)
    now += 20_001
    assert images.find(two.key) is None
    assert list(images.folder.iterdir()) == []


def test_the_oldest_go_where_all_take_too_much_but_never_the_newest():
    images = KeptImages(largest=10)
    one, two = keep(images, b"12345"), keep(images, b"67890")
    three = keep(images, b"a" * 20)
    assert [images.find(each.key) is not None for each in (one, two, three)] == [False, False, True]
    images.close()
    assert not images.folder.exists()


def test_an_image_that_is_given_up_while_a_request_uses_it_stays_until_that_is_done(images, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(uploads.time, "time", lambda: now)
    one, two = keep(images, b"one", expiry=5), keep(images, b"two", expiry=5)
    with images.using(one.key) as first, images.using(one.key) as second, images.using(two.key) as third:
        now += 6
        assert images.find(one.key) is None
        assert [each.path.read_bytes() for each in (first, second, third)] == [b"one", b"one", b"two"]
    assert list(images.folder.iterdir()) == []
    with images.using(one.key) as gone:
        assert gone is None
    three = keep(images, b"three", expiry=5)
    with images.using(three.key):
        now += 4
    now += 4
    assert images.find(three.key)


def test_an_image_can_be_given_up_and_an_upload_that_is_not_kept_leaves_nothing(images):
    one = keep(images, b"one")
    assert images.remove(one.key)
    assert not images.remove(one.key)
    with pytest.raises(RuntimeError), images.receive(io.BytesIO(b"x"), ".nii"):
        raise RuntimeError
    assert list(images.folder.iterdir()) == []
