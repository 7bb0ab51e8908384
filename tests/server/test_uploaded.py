"""What viewers send in other formats than NIfTI, written here by SimpleITK as 3D Slicer writes it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import DeepEditError, FileError
from deepedit.io.volumes import read_volume
from deepedit.server.uploaded import IMAGES_SENT, LABELS_SENT, refuse_sent
from tests.server.studies_folder import LABELS, SHAPE, image, segments, studies, voxels

sitk = pytest.importorskip("SimpleITK", reason="the extra formats is not installed")

AFFINE = np.array([[0, -1.2, 1.8, 9], [2, 0, 0, -4], [0, 0.9, 2.4, 2], [0, 0, 0, 1.0]])
"""Oblique, and stored along other axes."""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def send(tmp_path):
    """Write values on the grid of an image file, as a viewer sends them."""

    def send(like, data, suffix, names=None):
        reference = sitk.ReadImage(str(like))
        sent = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
        sent.CopyInformation(reference)
        for number, (value, name) in enumerate((names or {}).items()):
            for key, text in (("ID", f"Segment_{number}"), ("Name", name), ("LabelValue", str(value)), ("Layer", "0")):
                sent.SetMetaData(f"Segment{number}_{key}", text)
        path = tmp_path / f"sent{suffix}"
        sitk.WriteImage(sent, str(path), True)
        return path

    return send


def some_labels(largest):
    return np.random.default_rng(0).integers(0, largest + 1, SHAPE, np.uint8)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha"])
@pytest.mark.parametrize("stored", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_label_maps_of_every_format_are_taken_for_images_of_every_format(root, send, suffix, stored):
    found = studies(root)
    first = image(root.parent / "first.nii", affine=np.diag([1.5, 2, 3, 1]))
    sitk.WriteImage(sitk.ReadImage(str(first)), str(root / stored))
    data = some_labels(2)
    found.submit("a", send(root / stored, data, suffix), suffix, segments("liver", "spleen"))
    assert_array_equal(voxels(found.label("a")), np.array([0, 7, 3])[data])
    assert_allclose(read_volume(found.label("a")).affine, read_volume(root / stored).affine, atol=1e-5)


def test_the_names_in_a_segmentation_count(root, send):
    found = studies(root, "a.nii.gz")
    data = some_labels(4)
    names = {1: "background", 2: "liver", 3: "spleen", 4: "foreground_scribbles"}
    sent = send(root / "a.nii.gz", data, ".seg.nrrd", names)
    found.submit("a", sent, ".seg.nrrd", segments("spleen", "liver"))
    assert_array_equal(voxels(found.label("a")), np.array([0, 0, 7, 3, 0])[data])
    sent = send(root / "a.nii.gz", data, ".seg.nrrd", {**names, 3: "kidney"})
    with pytest.raises(DeepEditError, match="has no label kidney"):
        found.submit("a", sent, ".seg.nrrd", segments("spleen", "liver"))


def test_a_segmentation_that_was_there_gives_way(root, send):
    found = studies(root, "a.nii.gz")
    (root / "labels" / "final").mkdir(parents=True)
    sent = send(root / "a.nii.gz", some_labels(2), ".seg.nrrd", {1: "spleen", 2: "liver"})
    before = sent.read_bytes()
    sent.rename(root / "labels" / "final" / "a.seg.nrrd")
    assert found.label("a")
    found.submit("a", send(root / "a.nii.gz", some_labels(2), ".nrrd"), ".nrrd", segments("spleen", "liver"))
    assert [path.name for path in (root / "labels" / "final").iterdir()] == ["a.nii.gz"]
    (kept,) = (root / "labels" / "replaced").iterdir()
    assert kept.name.endswith("Z.seg.nrrd")
    assert kept.read_bytes() == before


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_images_of_other_formats_are_added_and_recognised(root, send, suffix):
    found = studies(root)
    first = image(root.parent / "first.nii.gz", affine=AFFINE)
    data = read_volume(first).data
    assert found.add_image("2: CT", send(first, data, suffix), suffix) == found.id_of("2: CT")
    assert found.images("2: CT")[0].name.endswith(suffix)
    assert found.listing()["objects"][found.id_of("2: CT")]["image"]["ext"] == suffix
    assert found.add_image("2: CT", first, ".nii.gz") == found.id_of("2: CT")
    with pytest.raises(DeepEditError, match="another image of this name"):
        found.add_image("2: CT", send(first, data + 1, suffix), suffix)


@pytest.mark.parametrize("where", ["../secret.raw", "/etc/passwd", "secret.raw", "LIST", "%d.raw"])
def test_a_header_does_not_show_other_files(root, where):
    found = studies(root, "a.nii.gz")
    size = np.prod(SHAPE)
    for folder in (root.parent, root):
        (folder / "secret.raw").write_bytes(bytes(range(size)))
    sides = " ".join(map(str, SHAPE))
    nrrd = root.parent / "sent.nrrd"
    fields = "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nencoding: raw\n"
    directions = "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
    for key in ("data file", "datafile"):
        nrrd.write_text(f"{fields}sizes: {sides}\n{directions}{key}: {where}\n\n")
        with pytest.raises(FileError, match="its voxels are in another file") as caught:
            found.add_image("x", nrrd, ".nrrd")
        assert "\n" not in str(caught.value)
    meta = root.parent / "sent.mha"
    meta.write_text(f"NDims = 3\nDimSize = {sides}\nElementType = MET_UCHAR\nElementDataFile = {where}\n")
    for refused in (lambda: found.add_image("x", meta, ".mha"), lambda: found.submit("a", meta, ".mha", None)):
        with pytest.raises(FileError, match="its voxels are in another file"):
            refused()
    assert found.ids() == ["a"]
    assert not found.label("a")


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd", ".hdr", ".img", ".seg.nrrd", ".exe", "", "\n" * 99])
def test_formats_of_several_files_and_others_are_refused(tmp_path, suffix):
    with pytest.raises(FileError, match=r"choose .nii.gz") as caught:
        refuse_sent(tmp_path / "x", suffix, IMAGES_SENT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "suffix"), [("x.nrrd", ".nii.gz"), ("x.mha", ".nrrd"), ("x", ".nrrd")])
def test_a_file_goes_by_its_suffix(tmp_path, name, suffix):
    with pytest.raises(ValueError, match="should end in"):
        refuse_sent(tmp_path / name, suffix, LABELS_SENT)


def test_without_a_format_values_stay_whole(root, send):
    found = studies(root, "a.nii.gz")
    with pytest.raises(DeepEditError, match="has the value 2, and names for 1 only"):
        found.submit("a", send(root / "a.nii.gz", some_labels(2), ".nrrd"), ".nrrd", [{"name": LABELS.names[0]}])
