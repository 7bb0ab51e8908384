"""Segmentations of 3D Slicer: their names and layers, where they lie, and datasets that have some."""

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.colours import PALETTE
from deepedit.errors import DatasetError, FileError
from deepedit.io import nifti
from deepedit.io.msd import find_dataset, read_case
from deepedit.io.volumes import read_label, read_label_on, write_label
from deepedit.volume import DEFAULT_READING, Volume
from tests.io.itk_files import OBLIQUE, PLACES, refused, save_itk

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed, which reads and writes these formats")

fixture_is_fine = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


@pytest.fixture
def save(tmp_path):
    def save(data, affine=PLACES["RAS"], name="image.nrrd", compressed=True, **fields):
        return save_itk(tmp_path / name, data, affine, compressed, **fields)

    return save


def segmentation(*segments):
    """Fields of a segmentation as 3D Slicer writes them, of the name, value and layer of each segment."""
    fields = {"Segmentation_ReferenceImageExtentOffset": "0 0 0"}
    for number, (name, value, layer) in enumerate(segments):
        key = f"Segment{number}_"
        fields |= {key + "ID": f"Segment_{number}", key + "Name": name, key + "LabelValue": str(value)}
        fields[key + "Layer"] = str(layer)
    return fields


class TestSegmentations:
    NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)

    @fixture_is_fine
    @given(names=st.lists(NAMES, min_size=1, max_size=9, unique=True), seed=st.integers(0, 99))
    def test_come_back_with_voxels_values_and_names(self, tmp_path, names, seed):
        rng = np.random.default_rng(seed)
        values = sorted(rng.choice(np.arange(1, 40), len(names), replace=False).tolist())
        named = dict(zip(values, names, strict=True))
        labels = rng.choice([0, *values[:-1]] if len(values) > 1 else [0, *values], (5, 4, 3))
        path = tmp_path / "a.seg.nrrd"
        write_label(path, labels, Volume(np.zeros(labels.shape), OBLIQUE), named)
        label = read_label(path)
        assert_array_equal(label.data, labels)
        assert label.names == named

    def test_are_described_as_slicer_expects(self, tmp_path):
        labels = np.zeros((5, 4, 3), int)
        labels[1:4, 2, 0:2] = 6
        write_label(tmp_path / "a.seg.nrrd", labels, Volume(labels), {1: "spleen", 6: "liver"})
        image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
        fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
        assert fields["Segmentation_SourceRepresentation"] == "Binary labelmap"
        assert fields["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
        assert [fields[f"Segment1_{key}"] for key in ("ID", "Name", "LabelValue", "Layer", "Extent")] == [
            *("Segment_6", "liver", "6", "0", "1 3 2 2 0 1")
        ]
        assert fields["Segment0_Extent"] == "0 -1 0 -1 0 -1"
        for number in range(2):
            colour = np.array(fields[f"Segment{number}_Color"].split(), float)
            assert_allclose(colour * 255, PALETTE[number], atol=0.01)

    def test_of_values_without_a_name_are_called_by_their_value(self, tmp_path):
        write_label(tmp_path / "a.seg.nrrd", np.full((3, 3, 3), 7), Volume(np.zeros((3, 3, 3))), {1: "one"})
        assert read_label(tmp_path / "a.seg.nrrd").names == {1: "one", 7: "label_7"}

    def test_of_several_layers_become_one_map(self, save):
        layers = np.zeros((2, 5, 4, 3), np.uint8)
        layers[0, :2], layers[1, 3] = 1, 4
        fields = segmentation(("a", 1, 0), ("b", 4, 1))
        label = read_label(save(layers, name="a.seg.nrrd", **fields))
        assert_array_equal(label.data, layers.max(0))
        assert label.names == {1: "a", 4: "b"}
        layers[1, 1, 0, 0] = 4
        with pytest.raises(
            FileError, match="1 voxels are of several segments at once, and a voxel has one label; in 3D"
        ):
            read_label(save(layers, name="a.seg.nrrd", **fields))
        fields = segmentation(("a", 1, 0), ("b", 1, 1))
        with pytest.raises(FileError, match="the segments a and b both have the value 1; in 3D Slicer's module"):
            read_label(save(layers, name="a.seg.nrrd", **fields))

    def test_that_make_no_sense_are_refused(self, save):
        data = np.zeros((3, 3, 3), np.uint8)
        fields = segmentation(("a", "x", 0))
        refused(read_label, save(data, name="a.seg.nrrd", **fields), "segment a has no value")
        fields = segmentation(("a", 1, 0)) | {"Segmentation_SourceRepresentation": "Fractional labelmap"}
        refused(read_label, save(data, name="a.seg.nrrd", **fields), "holds fractions, not labels")

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("start", [(0, 0, 0), (2, 1, 3), (-2, 0, -1)])
    def test_of_a_part_of_the_image_are_placed_voxel_by_voxel(self, save, place, start):
        image = Volume(np.zeros((9, 8, 7), np.float32), PLACES[place])
        shift = np.eye(4)
        shift[:3, 3] = start
        labels = np.zeros((5, 4, 3), np.uint8)
        inside = tuple(slice(max(-first, 0), None) for first in start)
        labels[inside] = np.random.default_rng(0).integers(1, 5, labels[inside].shape)
        path = save(labels, image.affine @ shift, "a.seg.nrrd")
        label = read_label_on(image, path, DEFAULT_READING)
        expected = np.zeros(image.shape)
        for voxel in np.argwhere(labels):
            expected[tuple(voxel + start)] = labels[tuple(voxel)]
        assert_array_equal(label.data, expected)
        assert_array_equal(label.affine, image.affine)
        assert [note for note in label.notes if f"from voxel {', '.join(map(str, start))} on" in note]

    def test_of_a_part_of_an_image_with_two_affines(self, save):
        image = Volume(np.zeros((9, 8, 7), np.float32), PLACES["RAS"], other_affines=(PLACES["oblique"],))
        shift = np.eye(4)
        shift[:3, 3] = 1, 2, 3
        label = read_label_on(
            image, save(np.ones((5, 4, 3), np.uint8), PLACES["oblique"] @ shift, "a.seg.nrrd"), DEFAULT_READING
        )
        assert label.data[1:6, 2:6, 3:6].all()
        assert label.data.sum() == 60
        assert_array_equal(label.affine, image.affine)

    def test_that_are_elsewhere_are_not_placed(self, save):
        image, labels = Volume(np.zeros((9, 8, 7), np.float32), PLACES["RAS"]), np.ones((5, 4, 3), np.uint8)
        half = np.eye(4)
        half[0, 3] = 0.5
        assert read_label_on(image, save(labels, image.affine @ half, "a.seg.nrrd"), DEFAULT_READING).shape == (5, 4, 3)
        outside = np.eye(4)
        outside[0, 3] = 6
        with pytest.raises(FileError, match="24 of its labelled voxels lie outside of its image; crop it"):
            read_label_on(image, save(labels, image.affine @ outside, "a.seg.nrrd"), DEFAULT_READING)
        # Other formats have no such habit: there a shift is an error.
        assert read_label_on(image, save(labels, image.affine, "a.nrrd"), DEFAULT_READING).shape == (5, 4, 3)


class TestDatasets:
    @pytest.fixture
    def dataset(self, save, tmp_path):
        """Three cases, whose images and labels are of formats of their own."""
        rng = np.random.default_rng(0)
        for name, image, label in (("a", ".nrrd", ".seg.nrrd"), ("b", ".mhd", ".nii.gz"), ("c", ".nii.gz", ".mha")):
            grid = Volume(rng.random((6, 5, 4)).astype(np.float32), PLACES["LPS"])
            labels = np.resize([0, 1, 2], (6, 5, 4))
            if image == ".nii.gz":
                nifti.write_volume(self.room(tmp_path, "imagesTr") / f"{name}{image}", grid.data, grid)
            else:
                save(grid.data, grid.affine, f"imagesTr/{name}{image}")
            write_label(self.room(tmp_path, "labelsTr") / f"{name}{label}", labels, grid, {1: "liver", 2: "tumour"})
        return tmp_path

    @staticmethod
    def room(folder, name):
        (folder / name).mkdir(exist_ok=True)
        return folder / name

    def test_of_mixed_formats_are_paired_by_name(self, dataset):
        found = find_dataset(dataset)
        assert [case.name for case in found.cases] == ["a", "b", "c"]
        assert (found.labels.names, found.labels.values) == (("liver", "tumour"), (1, 2))
        assert found.warnings == ()
        for case in found.cases:
            assert read_case(case).shape == (6, 5, 4)

    def test_with_a_segmentation_beside_its_image(self, dataset):
        (dataset / "labelsTr" / "a.seg.nrrd").rename(dataset / "imagesTr" / "a.seg.nrrd")
        with pytest.raises(DatasetError) as caught:
            find_dataset(dataset)
        assert "imagesTr/a.nrrd: has no label of its name in labelsTr" in str(caught.value)
        assert "imagesTr: left out a.seg.nrrd, as only images are read here" in str(caught.value)

    def test_with_a_case_twice(self, dataset, save):
        save(np.zeros((6, 5, 4), np.uint8), name="labelsTr/a.nrrd")
        with pytest.raises(DatasetError, match=r"labelsTr/a is there as \.nrrd and as \.seg\.nrrd; keep one"):
            find_dataset(dataset)

    def test_with_a_cropped_segmentation(self, dataset, save):
        shift = np.eye(4)
        shift[:3, 3] = 1, 2, 0
        fields = segmentation(("liver", 1, 0), ("tumour", 2, 0))
        save(np.resize([1, 2], (4, 3, 4)).astype(np.uint8), PLACES["LPS"] @ shift, "labelsTr/a.seg.nrrd", **fields)
        found = find_dataset(dataset)
        assert found.warnings == (
            "labelsTr/a.seg.nrrd: its grid is a part of its image's; it is placed there voxel by voxel, from voxel "
            "1, 2, 0 on",
        )
        shift[:3, 3] = 0.5, 2, 0
        save(np.resize([1, 2], (4, 3, 4)).astype(np.uint8), PLACES["LPS"] @ shift, "labelsTr/a.seg.nrrd", **fields)
        with pytest.raises(
            DatasetError, match=r"labelsTr/a.seg.nrrd does not lie on the grid of imagesTr/a.nrrd: shape"
        ):
            find_dataset(dataset)

    def test_whose_segments_contradict_their_labels(self, dataset):
        grid = Volume(np.zeros((6, 5, 4)), PLACES["LPS"])
        write_label(
            dataset / "labelsTr" / "a.seg.nrrd", np.resize([0, 1, 2], (6, 5, 4)), grid, {1: "tumour", 2: "liver"}
        )
        assert find_dataset(dataset).labels.names == ("tumour", "liver")
        with pytest.raises(
            DatasetError, match=r"a.seg.nrrd: its segment tumour has the value 1, and tumour is 2; give"
        ):
            find_dataset(dataset, {"liver": 1, "tumour": 2})
        (dataset / "labelsTr" / "c.mha").unlink()
        write_label(
            dataset / "labelsTr" / "c.seg.nrrd", np.resize([0, 1, 2], (6, 5, 4)), grid, {1: "liver", 2: "tumour"}
        )
        with pytest.raises(DatasetError, match=r"c.seg.nrrd: its segment liver has the value 1, and liver is 2"):
            find_dataset(dataset)

    def test_whose_segments_have_other_names_than_their_labels(self, dataset):
        grid = Volume(np.zeros((6, 5, 4)), PLACES["LPS"])
        found = find_dataset(dataset, {"leber": 1, "tumour": 2})
        said = "label files name values otherwise: 1 is liver, and here it is leber; both are taken for the same"
        assert said in found.warnings
        (dataset / "labelsTr" / "c.mha").unlink()
        write_label(
            dataset / "labelsTr" / "c.seg.nrrd", np.resize([0, 1, 2], (6, 5, 4)), grid, {1: "leber", 2: "tumour"}
        )
        with pytest.raises(
            DatasetError, match=r"c.seg.nrrd: its segment leber .*, which labelsTr/a.seg.nrrd calls liver"
        ):
            find_dataset(dataset, {"leber": 1, "tumour": 2})

    def test_without_simpleitk_say_so_for_each_file(self, dataset, monkeypatch):
        monkeypatch.setitem(sys.modules, "SimpleITK", None)
        with pytest.raises(DatasetError) as caught:
            find_dataset(dataset)
        for name in ("imagesTr/a.nrrd", "labelsTr/a.seg.nrrd", "imagesTr/b.mhd", "labelsTr/c.mha"):
            assert f"{name}: files of this format need SimpleITK" in str(caught.value)
