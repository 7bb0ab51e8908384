"""A folder of studies with DICOM series and DICOM SEG: viewers get NIfTI of them, without a word on the patient."""

import gzip
import hashlib
import shutil

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.io.msd import read_case
from deepedit.io.studies import find_labelled_studies
from deepedit.io.volumes import read_label, read_volume, write_label
from deepedit.server.images import Known
from deepedit.server.studies import Studies
from deepedit.volume import DEFAULT_READING
from tests.io.dicom_files import PATIENT, PLACES, pydicom, save_series
from tests.server.live import model_that_obeys, named, serving
from tests.server.studies_folder import LABELS, label_map, segments

pytest.importorskip("highdicom", reason="highdicom is not installed, which reads and writes DICOM SEG")
SHAPE = (9, 8, 6)


def noise(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    save_series(folder / "a", noise(), PLACES["oblique"])
    save_series(folder / "imagesTr/b", noise(1))
    return folder


def sent(path):
    """The bytes of a file that a viewer gets, unpacked."""
    return gzip.decompress(path.read_bytes())


def test_folders_with_a_series_are_cases(root):
    (root / "filling").mkdir()
    (root / "other").mkdir()
    (root / "other/notes.txt").write_text("something")
    found = Studies(root, LABELS)
    assert found.ids() == ["a", "b"]
    assert found.images("a") == (root / "a",)
    objects = found.listing()["objects"]
    assert [(each, entry["image"]["ext"], entry["image"]["info"]["name"]) for each, entry in objects.items()] == [
        ("a", ".nii.gz", "a.nii.gz"),
        ("b", ".nii.gz", "b.nii.gz"),
    ]
    shutil.copytree(root / "a", root / "filling", dirs_exist_ok=True)
    assert found.ids() == ["a", "b", "filling"]


def test_of_a_file_and_a_folder_of_one_name_the_file_is_taken(root):
    nib.save(nib.Nifti1Image(noise(), np.eye(4)), root / "a.nii.gz")
    said = []
    found = Studies(root, LABELS, said.append)
    assert found.images("a") == (root / "a.nii.gz",)
    assert said == ["a: left out: has the same name as a.nii.gz; rename one"]


@pytest.mark.parametrize("slope", [1, 0.3])
def test_a_viewer_gets_the_voxels_and_nothing_of_the_patient(root, slope):
    for path in (root / "a").iterdir():
        file = pydicom.dcmread(path)
        file.RescaleSlope = slope
        file.save_as(path)
    found, series = Studies(root, LABELS), read_volume(root / "a")
    path = found.image_file("a")
    assert path.name == "a.nii.gz"
    volume = read_volume(path)
    assert_array_equal(volume.data, series.data)
    assert_allclose(volume.affine, series.affine, atol=1e-5)
    assert found.checksum("a") == f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert not [text for text in PATIENT.values() if len(text) > 1 and text.encode() in sent(path)]
    before = path.stat().st_mtime_ns
    assert found.image_file("a").stat().st_mtime_ns == before


def test_a_series_that_changes_is_read_anew(root):
    found, known = Studies(root, LABELS), Known()
    key, (picture, volume) = found.content_key(found.images("a")), known.picture(found.images("a"), DEFAULT_READING)
    assert volume is not None
    assert known.picture(found.images("a"), DEFAULT_READING) == (picture, None)
    assert_array_equal(read_volume(found.image_file("a")).data, noise())
    path = read_volume(root / "a").slices[0]
    file = pydicom.dcmread(path)
    file.RescaleIntercept = 100
    file.save_as(path)
    assert found.content_key(found.images("a")) != key
    other, volume = known.picture(found.images("a"), DEFAULT_READING)
    assert other.digest != picture.digest
    assert_array_equal(read_volume(found.image_file("a")).data, volume.data)
    assert (volume.data[:, :, 0] == noise()[:, :, 0] + 100).all()


def test_a_label_is_submitted_on_the_grid_of_the_series(root, tmp_path):
    found, series = Studies(root, LABELS), read_volume(root / "a")
    file = label_map(tmp_path / "sent.nii.gz", 1, 2, 2, affine=series.affine, shape=SHAPE)
    found.submit("a", file, ".nii.gz", segments("spleen", "liver"))
    label = read_label(found.label("a"))
    assert label.data[0, 0, :3].tolist() == [3, 7, 7]
    assert_allclose(label.affine, series.affine, atol=1e-5)
    dataset = find_labelled_studies(root, {"spleen": 3, "liver": 7})
    assert [case.name for case in dataset.cases] == ["a"]
    assert_array_equal(read_case(dataset.cases[0]).data, series.data)


def test_a_dicom_seg_is_sent_as_a_label_map_of_the_whole_image(root):
    series = read_volume(root / "imagesTr/b")
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 3:6, 2:4], labels[6:8, 3:6, 3] = 3, 7
    for room in ("labelsTr", "labels/original"):
        (root / room).mkdir(parents=True)
        write_label(root / room / "b.dcm", labels, series, {3: "spleen", 7: "liver"})
    found = Studies(root, LABELS)
    assert found.info()["completed"] == 1
    final, original = found.label_file("b"), found.label_file("b", "original")
    assert_array_equal(read_label(final).data, labels)
    assert_array_equal(read_label(original).data, LABELS.to_classes(labels))
    for path in (final, original):
        assert not [text for text in PATIENT.values() if len(text) > 1 and text.encode() in sent(path)]


def test_a_viewer_works_on_a_series_as_on_any_image(tmp_path):
    client = pytest.importorskip("monailabel.client.client", reason="the client of MONAI Label is not installed")
    root = tmp_path / "root"
    save_series(root / "a", np.abs(noise(shape=(16, 14, 12))), PLACES["oblique"])
    with serving(named(model_that_obeys(), tmp_path), root) as live:
        user = client.MONAILabelClient(live.url, str(tmp_path), "user-xyz")
        sample = user.next_sample("first", {})
        assert (sample["id"], sample["name"]) == ("a", "a.nii.gz")
        volume = read_volume(sample["path"])
        result, _ = user.infer("deepedit", "a", {"left": [[3, 4, 5]], "result_extension": ".nii.gz"})
        label = read_label(result)
        assert_allclose(label.affine, volume.affine, atol=1e-4)
        assert label.data[3, 4, 5] == 1
        assert not [text for text in PATIENT.values() if len(text) > 1 and any(text in line for line in live.said)]
