"""The folder of a server: added to, and nothing in it lost."""

import os
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deepedit.errors import DeepEditError, FileError
from deepedit.server.errors import NotFound, TooLarge
from deepedit.server.studies import Studies
from tests.server.studies_folder import HOSTILE, LABELS, image, label_map, save, segments, studies, submit, voxels


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Submitting


def test_a_submit_has_the_models_values_and_the_images_header(root):
    affine = np.array([[0, -1.5, 0.1, 9], [2, 0, 0, -4], [0, 0.1, 3, 2], [0, 0, 0, 1.0]])
    path = image(root / "a.nii.gz", affine=affine)
    found = studies(root)
    file = label_map(root.parent / "sent.nii.gz", 1, 2, 2, affine=affine)
    assert found.submit("a", file, ".nii.gz", segments("liver", "spleen")) == "a"
    written = nib.load(found.label("a"))
    assert np.asarray(written.dataobj).flat[:4].tolist() == [7, 3, 3, 0]
    for field in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units"):
        assert_array_equal(written.header[field], nib.load(path).header[field], field)


def test_submits_never_touch_the_dataset(root):
    found = studies(root, "imagesTr/a.nii.gz")
    label = label_map(root / "labelsTr" / "a.nii.gz", 3)
    before = label.read_bytes()
    assert found.label("a") == label
    assert submit(found, "a", 2) == root / "labels" / "final" / "a.nii.gz"
    assert label.read_bytes() == before
    found.remove_label("a", "final")
    assert found.label("a") == label
    with pytest.raises(DeepEditError, match="lies in labelsTr"):
        found.remove_label("a", "final")
    assert label.read_bytes() == before


@pytest.mark.parametrize("link", ["folder", "file"])
def test_submits_do_not_reach_the_dataset_through_a_link(root, link):
    found = studies(root, "imagesTr/a.nii.gz")
    label = label_map(root / "labelsTr" / "a.nii.gz", 3)
    before = label.read_bytes()
    if link == "folder":
        (root / "labels").mkdir()
        (root / "labels" / "final").symlink_to("../labelsTr")
        with pytest.raises(FileError, match="is a link to labelsTr"):
            submit(found, "a", 2)
    else:
        (root / "labels" / "final").mkdir(parents=True)
        (root / "labels" / "final" / "a.nii.gz").symlink_to("../../labelsTr/a.nii.gz")
        assert voxels(submit(found, "a", 2)).flat[0] == 7
        (kept,) = (root / "labels" / "replaced").iterdir()
        assert kept.read_bytes() == before
    assert label.read_bytes() == before


def test_everything_that_is_replaced_is_kept(root):
    found = studies(root, "a.nii.gz")
    label_map(root / "labels" / "final" / "a.nii", 9)
    for values in ((1,), (2,), (1, 2), (2, 1)):
        submit(found, "a", *values)
    kept = [voxels(path).flat[:2].tolist() for path in (root / "labels" / "replaced").iterdir()]
    assert sorted(kept) == [[3, 0], [3, 7], [7, 0], [9, 0]]
    assert [path.name for path in (root / "labels" / "final").iterdir()] == ["a.nii.gz"]
    assert all(path.name.startswith("a.20") for path in (root / "labels" / "replaced").iterdir())


def test_the_same_submit_again_replaces_nothing(root):
    found = studies(root, "a.nii.gz")
    submit(found, "a", 1)
    before = everything(root)
    submit(found, "a", 1)
    assert everything(root) == before


def test_versions_do_not_meet(root):
    found = studies(root, "a.nii.gz")
    submit(found, "a", 1)
    submit(found, "a", 2, tag="version_1")
    submit(found, "a", 1, tag="version_1")
    assert voxels(found.label("a")).flat[0] == 3
    assert [path.name.split(".")[1] for path in (root / "labels" / "replaced").iterdir()] == ["version_1"]
    found.remove_label("a", "version_1")
    assert found.label("a", "version_1") is None
    assert len(list((root / "labels" / "replaced").iterdir())) == 2
    with pytest.raises(NotFound):
        found.remove_label("a", "version_1")


def test_a_submit_that_fails_changes_nothing(root):
    found = studies(root, "a.nii.gz")
    submit(found, "a", 1)
    before = everything(root)
    other = label_map(root.parent / "other.nii.gz", 1, shape=(4, 5, 7))
    for file, names in ((other, ("spleen",)), (root.parent / "sent.nii.gz", ("kidney",)), (root, ("spleen",))):
        with pytest.raises(DeepEditError, match="a"):
            found.submit("a", file, ".nii.gz", segments(*names))
    with pytest.raises(DeepEditError, match=r"choose .nii.gz"):
        found.submit("a", root.parent / "sent.nii.gz", ".exe", segments("spleen"))
    with pytest.raises(NotFound):
        found.submit("b", root.parent / "sent.nii.gz", ".nii.gz", segments("spleen"))
    assert everything(root) == before


def test_a_disk_that_fails_is_told_in_one_sentence(root, monkeypatch):
    found = studies(root, "a.nii.gz")
    submit(found, "a", 1)
    before = everything(root)

    def fail(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deepedit.server.durable.os.replace", fail)
    with pytest.raises(DeepEditError, match=r"labels/final/a.nii.gz: cannot be written") as caught:
        submit(found, "a", 2)
    assert ".deepedit" not in str(caught.value)
    assert everything(root).items() >= before.items()
    assert not list((root / "labels" / "final").glob(".*"))


def test_a_name_too_long_to_submit_is_told(root):
    name = "a" * 250
    found = studies(root, f"{name}.nii")
    with pytest.raises(FileError, match="cannot be written"):
        submit(found, name, 1)


def test_submits_at_once_are_all_kept_and_the_last_one_acknowledged_is_there(root):
    found = studies(root, "a.nii.gz", "b.nii.gz")
    files = [label_map(root.parent / f"{number}.nii.gz", *[1] * (number + 1)) for number in range(8)]
    errors = []

    def run(file):
        try:
            for name in ("a", "b"):
                found.submit(name, file, ".nii.gz", segments("spleen"))
                found.info()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for name in ("a", "b"):
        paths = [found.label(name), *(root / "labels" / "replaced").glob(f"{name}.*")]
        assert sorted(int((voxels(path) == 3).sum()) for path in paths) == list(range(1, 9))


# Adding images


@settings(max_examples=60, deadline=None)
@given(names=st.lists(st.text(min_size=1, max_size=30).filter(str.strip) | st.sampled_from(HOSTILE[:3]), max_size=6))
def test_added_images_are_found_by_the_names_they_came_under(tmp_path_factory, names):
    top = tmp_path_factory.mktemp("top")
    (top / "root").mkdir()
    found = Studies(top / "root", LABELS)
    files: dict[str, bytes] = {}
    for number, name in enumerate(names):
        file = image(top / "sent.nii.gz", number)
        try:
            found.add_image(name, file, ".nii.gz")
        except DeepEditError as error:
            assert "another image of this name" in str(error)  # noqa: PT017
        else:
            files[name] = file.read_bytes()
    for name, content in files.items():
        assert found.images(name)[0].read_bytes() == content
        assert found.images(found.id_of(name))[0].read_bytes() == content
        assert found.images(name)[0].parent == top / "root"
    assert sorted(os.listdir(top)) == (["root", "sent.nii.gz"] if names else ["root"])


def test_the_same_image_again_is_the_same_and_another_is_refused(root):
    found = studies(root, "imagesTr/a.nii.gz")
    submit(found, "a", 1)
    before = everything(root)
    again = nib.load(root / "imagesTr" / "a.nii.gz")
    file = save(root.parent / "sent.nii", np.asarray(again.dataobj), again.affine)
    assert found.add_image("a", file, ".nii") == "a"
    for other in (image(file, seed=1), image(file, affine=np.diag([1, 1, 2, 1.0])), image(file, shape=(4, 5, 7))):
        with pytest.raises(DeepEditError, match="rename yours"):
            found.add_image("a", other, ".nii")
    assert everything(root) == before


def test_an_added_image_breaks_no_case_of_several_channels(root):
    found = studies(root, "ct_0000.nii.gz", "ct_0001.nii.gz")
    with pytest.raises(DeepEditError, match="rename yours"):
        found.add_image("ct", image(root.parent / "sent.nii.gz", 5), ".nii.gz")
    first = found.add_image("mr_0000", image(root.parent / "sent.nii.gz", 6), ".nii.gz")
    second = found.add_image("mr_0001", image(root.parent / "sent.nii.gz", 7), ".nii.gz")
    assert first != second
    assert len(found.images("mr_0000")) == len(found.images("mr_0001")) == 1
    assert len(found.images("ct")) == 2


def test_an_added_image_has_the_ending_of_its_content(root):
    found = studies(root)
    plain = image(root.parent / "sent.nii")
    assert found.images(found.add_image("a", plain, ".nii.gz"))[0].name == "a.nii"


@pytest.mark.parametrize("content", [b"", b"no image", b"\x1f\x8b\x08 cut short"])
def test_what_is_no_image_is_not_added(root, content):
    found = studies(root)
    file = root.parent / "sent.nii.gz"
    file.write_bytes(content)
    with pytest.raises(FileError, match="the image x") as caught:
        found.add_image("x", file, ".nii.gz")
    assert "sent" not in str(caught.value)
    assert not everything(root)


def test_dicom_files_are_put_aside(root):
    found = studies(root)
    file = root.parent / "sent"
    file.write_bytes(b"DICM")
    found.add_image("../1.2.840", file, ".dcm")
    assert found.ids() == []
    assert [name.startswith(".deepedit/dicom/") for name in everything(root)] == [True]


# Facts


def test_facts_are_remembered(root):
    found = studies(root, "a.nii.gz")
    found.set_image_info("a", {"status": "good", "ts": "never"})
    submit(found, "a", 1)
    found.set_label_info("a", "final", {"level": "easy"})
    again = Studies(root, LABELS)
    assert again.image_info("a")["status"] == "good"
    assert isinstance(again.image_info("a")["ts"], int)
    assert again.label_info("a", "final")["level"] == "easy"
    objects = again.listing()["objects"]
    assert objects["a"]["labels"]["final"]["info"]["level"] == "easy"
    submit(again, "a", 2)
    assert "level" not in again.label_info("a", "final")


@pytest.mark.parametrize(
    "facts",
    [
        *([1], "x", None, {"a": {1, 2}}, {"a": float("nan")}, {"a": "\ud800"}, {"a": 10**2000}, {"a": 10**5000}),
        {"1": 2, 1: 2},
    ],
)
def test_facts_that_are_no_json_are_refused(root, facts):
    with pytest.raises(DeepEditError, match="facts"):
        studies(root, "a.nii.gz").set_image_info("a", facts)


def test_facts_have_a_limit(root):
    with pytest.raises(TooLarge):
        studies(root, "a.nii.gz").set_image_info("a", {"x": "y" * 10**5})


def test_damaged_facts_are_put_aside(root):
    (root / ".deepedit").mkdir()
    (root / ".deepedit" / "facts.json").write_text('{"half')
    said = []
    found = studies(root, "a.nii.gz", say=said.append)
    found.set_image_info("a", {"x": 1})
    assert found.image_info("a")["x"] == 1
    assert "not valid JSON" in said[0]
    assert len(list((root / ".deepedit").glob("*.damaged"))) == 1
