"""What is in the folder of a server, which others change as well."""

import json
import os

import pytest

from deepedit.errors import DeepEditError
from deepedit.server.errors import NotFound, Unavailable
from deepedit.server.watching import WatchedFolder
from tests.server.studies_folder import HOSTILE, image, label_map, studies, submit, voxels


def test_ids_are_in_natural_order(root):
    found = studies(root, "b.nii.gz", "a_10.nii.gz", "a_2.nii.gz", "imagesTs/c.nii.gz")
    assert found.ids() == ["a_2", "a_10", "b", "c"]
    assert found.images("c") == (root / "imagesTs" / "c.nii.gz",)


@pytest.mark.parametrize("name", HOSTILE)
def test_an_unknown_name_is_not_found_in_one_sentence(root, name):
    found = studies(root, "a.nii.gz")
    for ask in (found.images, found.label, found.checksum, found.image_info, found.label_file):
        with pytest.raises(NotFound, match="there is no image") as caught:
            ask(name)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("tag", ["..", "replaced", "../../etc", "Final"])
def test_an_unknown_tag_is_refused(root, tag):
    found = studies(root, "a.nii.gz")
    for ask in (found.label, found.label_file, found.remove_label, found.label_info):
        with pytest.raises(DeepEditError, match="no name of a version"):
            ask("a", tag)
    with pytest.raises(DeepEditError, match="no name of a version"):
        submit(found, "a", 1, tag=tag)


def test_what_info_counts(root):
    found = studies(root, "imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "imagesTs/c.nii.gz", "d.nii.gz")
    assert found.info() == {"total": 4, "completed": 0, "label_tags": {}}
    label_map(root / "labelsTr" / "a.nii.gz", 3)
    label_map(root / "labels" / "original" / "d.nii.gz", 3)
    submit(found, "d", 1)
    submit(found, "a", 1)
    assert found.info() == {"total": 4, "completed": 2, "label_tags": {"final": 2, "original": 1}}
    assert list(found.unlabelled()) == ["b", "c"]


def test_an_unchanged_folder_is_not_listed_again(root, monkeypatch):
    found = studies(root, "a.nii.gz", "labels/final/a.nii.gz")
    for path in [root, *root.rglob("*")]:
        if path.is_dir():
            os.utime(path, (1, 1))
    counts = []
    read = WatchedFolder._list
    monkeypatch.setattr(WatchedFolder, "_list", lambda self: counts.append(1) or read(self))
    for _ in range(5):
        found.info()
    assert len(counts) == 1


def test_a_folder_that_others_change_is_followed(root):
    found = studies(root, "a.nii.gz")
    for step in range(5):  # as fast as it goes: faster than the clock of many file systems
        image(root / f"b{step}.nii.gz")
        assert len(found.ids()) == step + 2
        label_map(root / "labels" / "final" / f"b{step}.nii.gz", 3)
        assert found.info()["completed"] == step + 1
    image(root / "imagesTr" / "c.nii.gz")
    assert "c" in found.ids()
    label_map(root / "labels" / "other" / "c.nii.gz", 3)
    assert found.info()["label_tags"]["other"] == 1
    for path in (root / "b0.nii.gz", root / "labels" / "final" / "b1.nii.gz"):
        path.unlink()
    assert found.info() == {"total": 6, "completed": 3, "label_tags": {"final": 3, "other": 1}}


def test_a_file_that_is_being_copied_becomes_a_case_when_it_has_content(root):
    found = studies(root, "a.nii.gz")
    (root / "b.nii.gz").write_bytes(b"")
    os.utime(root, (1, 1))
    assert found.ids() == ["a"]
    image(root / "c.nii.gz").replace(root / "b.nii.gz")
    os.utime(root, (1, 1))
    assert found.ids() == ["a", "b"]


def test_a_folder_that_is_gone_is_unavailable(root):
    found = studies(root)
    root.rmdir()
    with pytest.raises(Unavailable, match="no such folder"):
        found.info()


def test_what_is_left_out_is_said_once(root):
    said = []
    found = studies(root, "a.nii.gz", "imagesTr/a.nii.gz", say=said.append)
    for _ in range(3):
        image(root / "b.nii.gz")
        found.ids()
    assert said == ["a.nii.gz: left out: has the same name as imagesTr/a.nii.gz; rename one"]


def test_the_checksum_is_that_of_the_file_and_read_once(root, monkeypatch):
    import hashlib

    found = studies(root, "a.nii.gz")
    path = root / "a.nii.gz"
    assert found.checksum("a") == "SHA256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr("deepedit.server.checksums.open_for_reading", None)
    first = found.checksum("a")
    monkeypatch.undo()
    image(path, seed=5)
    assert found.checksum("a") != first
    assert found.checksum("a") == "SHA256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_listing_is_as_slicer_reads_it(root):
    found = studies(root, "a.nii.gz", "b.nii.gz")
    label_map(root / "labels" / "original" / "a.nii.gz", 3, 7)
    objects = json.loads(json.dumps(found.listing()))["objects"]
    assert list(objects) == ["a", "b"]
    assert objects["a"]["image"]["ext"] == ".nii.gz"
    assert objects["a"]["image"]["info"]["name"] == "a.nii.gz"
    assert objects["b"]["labels"] == {}
    assert list(objects["a"]["labels"]["original"]["info"]["params"]["label_names"].items()) == [
        ("spleen", 1),
        ("liver", 2),
    ]


def test_pairs_to_train_on(root):
    found = studies(root, "a.nii.gz", "imagesTr/b_0000.nii.gz", "imagesTr/b_0001.nii.gz", "c.nii.gz")
    label_map(root / "labelsTr" / "b.nii.gz", 3)
    submit(found, "a", 1)
    assert found.train_pairs() == [
        {"image": str(root / "a.nii.gz"), "label": str(root / "labels" / "final" / "a.nii.gz")},
        {
            "image": [str(root / "imagesTr" / f"b_000{channel}.nii.gz") for channel in range(2)],
            "label": str(root / "labelsTr" / "b.nii.gz"),
        },
    ]


def test_an_original_label_is_sent_with_ranks(root):
    found = studies(root, "a.nii.gz", "b.nii.gz")
    path = label_map(root / "labels" / "original" / "a.nii.gz", 3, 7, 0, 9)
    sent = found.label_file("a", "original")
    assert voxels(sent).flat[:4].tolist() == [1, 2, 0, 0]
    assert sent.name == "a.nii.gz"
    assert found.label("a", "original") == path
    label_map(path, 7)
    assert voxels(found.label_file("a", "original")).flat[:2].tolist() == [2, 0]
    assert found.label_file("a", "original") == sent
    with pytest.raises(NotFound, match="has no label of the tag original"):
        found.label_file("b", "original")


def test_copies_for_viewers_go_with_what_they_are_made_of_and_with_the_next_start(root):
    said = []
    found = studies(root, "a.nii.gz", "b.nii.gz", say=said.append)
    for name in ("a", "b"):
        label_map(root / "labels" / "original" / f"{name}.nii.gz", 3)
    first = found.label_file("a", "original")
    (root / "labels" / "original" / "a.nii.gz").unlink()
    second = found.label_file("b", "original")
    assert (first.exists(), second.exists()) == (False, True)
    assert said == ["removed what was made for viewers of a.nii.gz, which is gone"]
    again = studies(root, say=said.append)
    assert not second.exists()
    assert said[1:] == ["removed 1 files that were made for viewers before this start"]
    assert voxels(again.label_file("b", "original")).flat[0] == 1
