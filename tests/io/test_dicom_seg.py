"""DICOM SEG: what is written is read back by highdicom and by dcmqi, to the voxel; what is foreign, or refused."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import FileError
from deepedit.io.codes import ANATOMY, TISSUE, Code, Term, read_codes
from deepedit.io.volumes import check_name, read_label, read_label_on, read_volume, write_label
from deepedit.volume import DEFAULT_READING, Volume
from tests.io.dicom_files import LPS, PATIENT, PLACES, datasets, pydicom, save, save_series
from tests.io.itk_files import refused, sitk

hd = pytest.importorskip("highdicom", reason="highdicom is not installed, which reads and writes DICOM SEG")

SHAPE = (20, 16, 9)
NAMES = {1: "spleen", 2: "liver", 3: "aorta"}
SPLEEN = Term(Code("78961009", "SCT", "Spleen"), ANATOMY)


def noise(shape=SHAPE):
    return np.random.default_rng(0).integers(-1000, 3000, shape).astype(np.int16)


def boxes(values=(1, 2), shape=SHAPE):
    """A label map with a box for each value, in neighbouring slices, and none in the outer ones."""
    labels = np.zeros(shape, np.int32)
    for index, value in enumerate(values):
        labels[2 + 6 * index : 7 + 6 * index, 3 : 9 + index, 2 + index : 5 + index] = value
    return labels


@pytest.fixture(params=PLACES)
def image(tmp_path, request):
    return read_volume(save_series(tmp_path / "series", noise(), PLACES[request.param]))


@pytest.fixture
def axial(tmp_path):
    return read_volume(save_series(tmp_path / "series", noise()))


def frames_by_hand(path, like):
    """The label map of a segmentation on the grid of its image, put together from frames, positions and numbers."""
    file = pydicom.dcmread(path)
    pixels = file.pixel_array.reshape(-1, file.Rows, file.Columns)
    labels = np.zeros(like.shape, np.int64)
    shared = file.SharedFunctionalGroupsSequence[0]
    for frame, own in zip(pixels, file.PerFrameFunctionalGroupsSequence, strict=True):
        group = pydicom.Dataset({**dict(shared), **dict(own)})
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        i, j, k = np.linalg.solve(LPS @ like.affine, [*position, 1])[:3]
        assert_allclose([i, j, k - round(k)], 0, atol=1e-3)
        here = labels[:, :, round(k)]
        if file.SegmentationType == "BINARY":
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            here[frame.T > 0] = number
        else:
            here[...] = frame.T
    return labels


def by_dcmqi(path, folder):
    """The volumes that dcmqi makes of a segmentation, and what it says of its segments."""
    dcmqi = pytest.importorskip("dcmqi", reason="dcmqi is not installed, which reads DICOM SEG in its own way")
    folder.mkdir()
    program = Path(dcmqi.__file__).parent / "bin" / "segimage2itkimage"
    options = ["--inputDICOM", path, "--outputDirectory", folder, "--outputType", "nrrd", "--mergeSegments"]
    subprocess.run([program, *options], check=True, capture_output=True)
    return sorted(folder.glob("*.nrrd")), json.loads((folder / "meta.json").read_text())["segmentAttributes"]


def placed(volume, like):
    """The labels of a volume on the grid of its image."""
    start = np.rint(np.linalg.solve(like.affine, volume.affine)[:3, 3]).astype(int)
    labels = np.zeros(like.shape, np.int64)
    labels[tuple(slice(a, a + n) for a, n in zip(start, volume.shape, strict=True))] = volume.data
    return labels


class TestWriting:
    @pytest.mark.parametrize("values", [(1, 2), (2, 1), (3,), (1, 6), (300, 2)])
    def test_is_read_back_by_each_reader(self, tmp_path, image, values):
        labels, path = boxes(values), tmp_path / "seg.dcm"
        names = NAMES if max(values) <= 3 else {value: f"part {value}" for value in values}
        write_label(path, labels, image, names)
        assert_array_equal(frames_by_hand(path, image), labels)
        ours = read_label(path)
        assert ours.names == names
        assert_array_equal(placed(ours, image), labels)
        on_image = read_label_on(image, path, DEFAULT_READING)
        assert_array_equal(on_image.data, labels)
        assert_array_equal(on_image.affine, image.affine)
        files, segments = by_dcmqi(path, tmp_path / "dcmqi")
        theirs = [read_label(file) for file in files]
        assert_array_equal(sum(placed(volume, image) for volume in theirs), labels)
        for volume in theirs:
            assert_allclose(volume.affine, ours.affine, atol=1e-4)
        assert {each["SegmentLabel"] for group in segments for each in group} == set(names.values())

    def test_says_what_it_is_and_of_which_series(self, tmp_path, axial):
        path = tmp_path / "seg.dcm"
        write_label(path, boxes(), axial, NAMES, {"spleen": SPLEEN})
        file = pydicom.dcmread(path)
        source = pydicom.dcmread(axial.slices[0])
        assert (file.Modality, file.SegmentationType) == ("SEG", "BINARY")
        assert file.Manufacturer == file.ManufacturerModelName == "DeepEdit"
        assert file.StudyInstanceUID == source.StudyInstanceUID
        assert file.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert file.SeriesInstanceUID != source.SeriesInstanceUID
        (series,) = file.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == source.SeriesInstanceUID
        referenced = {each.ReferencedSOPInstanceUID for each in series.ReferencedInstanceSequence}
        assert referenced == {pydicom.dcmread(each).SOPInstanceUID for each in axial.slices}
        assert len(file.PerFrameFunctionalGroupsSequence) == 6  # three slices of each of two labels
        terms = [
            (each.SegmentedPropertyCategoryCodeSequence[0], each.SegmentedPropertyTypeCodeSequence[0])
            for each in file.SegmentSequence
        ]
        assert [(category.CodeMeaning, type_.CodeMeaning) for category, type_ in terms] == [
            ("Anatomical Structure", "Spleen"),
            ("Tissue", "Tissue"),
            ("Tissue", "Tissue"),
        ]
        assert [each[1].CodeValue for each in terms] == ["78961009", "85756007", "85756007"]
        for number, segment in enumerate(file.SegmentSequence, 1):
            assert (segment.SegmentNumber, segment.SegmentLabel) == (number, NAMES[number])
            assert (segment.SegmentAlgorithmName, segment.SegmentAlgorithmType) == ("DeepEdit", "AUTOMATIC")
            assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion
        for frame in file.PerFrameFunctionalGroupsSequence:
            assert len(frame.DerivationImageSequence[0].SourceImageSequence) == 1

    def test_tells_of_the_patient_what_the_series_tells(self, tmp_path):
        files = datasets(noise(), PLACES["axial"], SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
        image = read_volume(save(tmp_path / "series", files))
        write_label(tmp_path / "seg.dcm", boxes(), image, {1: "Fuß", 2: "Ödem"})
        file = pydicom.dcmread(tmp_path / "seg.dcm")
        assert file.PatientName == "Müller^Jürgen"
        for key in ("PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"):
            assert getattr(file, key) == PATIENT[key]
        assert [each.SegmentLabel for each in file.SegmentSequence] == ["Fuß", "Ödem"]
        assert read_label(tmp_path / "seg.dcm").names == {1: "Fuß", 2: "Ödem"}

    def test_with_no_label_all_frames_are_there(self, tmp_path, axial):
        write_label(tmp_path / "seg.dcm", np.zeros(SHAPE, np.uint8), axial, NAMES)
        label = read_label(tmp_path / "seg.dcm")
        assert label.names == NAMES
        assert label.shape == SHAPE
        assert not label.data.any()
        with pytest.raises(FileError, match="there is no label, nor a name of one"):
            write_label(tmp_path / "other.dcm", np.zeros(SHAPE, np.uint8), axial)

    def test_in_one_slice(self, tmp_path, image):
        labels = np.zeros(SHAPE, bool)
        labels[3:6, 4:9, 7] = True
        write_label(tmp_path / "seg.dcm", labels, image)
        label = read_label(tmp_path / "seg.dcm")
        assert label.shape == (*SHAPE[:2], 1)
        assert label.names == {1: "label_1"}
        assert_allclose(label.spacing, image.spacing, rtol=1e-6)
        assert_array_equal(placed(label, image), labels)

    def test_of_a_series_of_one_slice_and_of_a_tilted_one(self, tmp_path):
        affine = PLACES["axial"].copy()
        affine[1, 2] = 0.7
        for name, shape in (("one", (20, 16, 1)), ("tilted", SHAPE)):
            image = read_volume(save_series(tmp_path / name, noise(shape), affine))
            labels = np.zeros(shape, np.uint8)
            labels[2:5, 3:6, shape[2] // 2 :] = 1
            write_label(tmp_path / f"{name}.dcm", labels, image)
            assert_array_equal(frames_by_hand(tmp_path / f"{name}.dcm", image), labels)
        refused(read_label, tmp_path / "tilted.dcm", "its frames do not lie straight behind each other", "gantry tilt")

    def test_names_that_dicom_cannot_hold_are_cut(self, tmp_path, axial):
        write_label(tmp_path / "seg.dcm", boxes(), axial, {1: "a" * 70, 2: "b\\c"})
        assert read_label(tmp_path / "seg.dcm").names == {1: "a" * 64, 2: "b/c"}

    def test_by_hand_it_is_not_called_automatic(self, tmp_path, axial):
        write_label(tmp_path / "seg.dcm", boxes(), axial, NAMES, automatic=False)
        segments = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
        assert {each.SegmentAlgorithmType for each in segments} == {"SEMIAUTOMATIC"}

    def test_of_what_is_no_series_is_refused(self, tmp_path, axial):
        path = tmp_path / "seg.dcm"
        alone = Volume(axial.data, axial.affine)
        with pytest.raises(FileError, match=r"seg\.dcm: a DICOM SEG belongs to a DICOM series, and this image was not"):
            write_label(path, boxes(), alone)
        moved = Volume(axial.data, PLACES["oblique"], slices=axial.slices)
        with pytest.raises(FileError, match="is not the series any more that was read"):
            write_label(path, boxes(), moved)
        axial.slices[3].unlink()
        with pytest.raises(FileError, match="no such file"):
            write_label(path, boxes(), axial)
        assert not path.exists()

    def test_an_element_that_is_missing_is_named_and_no_other_is_shown(self, tmp_path):
        files = datasets(noise(), PLACES["axial"])
        for file in files:
            del file.StudyInstanceUID
        image = read_volume(save(tmp_path / "series", files))
        with pytest.raises(FileError, match="StudyInstanceUID") as caught:
            write_label(tmp_path / "seg.dcm", boxes(), image)
        assert not [each for each in PATIENT.values() if len(each) > 2 and each in str(caught.value)]

    def test_without_highdicom_one_line_says_what_to_install(self, tmp_path, axial, monkeypatch):
        path = tmp_path / "seg.dcm"
        write_label(path, boxes(), axial)
        monkeypatch.setitem(sys.modules, "highdicom", None)
        words = "DICOM SEG needs highdicom; install it with: pip install 'deepedit[dicom]'"
        refused(read_label, path, words)
        refused(lambda path: write_label(path, boxes(), axial), path, words)
        refused(lambda path: check_name(path, [".dcm", ".nii"]), path, words)


class TestReading:
    def write(self, path, image, pixels, kind, numbers=(1, 2)):
        """A segmentation as another program writes it, by highdicom."""
        sources = [pydicom.dcmread(each) for each in image.slices]
        segments = [
            hd.seg.SegmentDescription(number, f"part {number}", _tissue(), _tissue(), "MANUAL") for number in numbers
        ]
        described = (hd.UID(), 1, hd.UID(), 1, "Other", "Other", "1", "1")
        hd.seg.Segmentation(sources, pixels, kind, segments, *described).save_as(path)
        return path

    def test_segments_that_overlap_are_refused(self, tmp_path, axial):
        pixels = np.zeros((*SHAPE[::-1], 2), np.uint8)
        pixels[2:5, 3:9, 4:8, 0] = 1
        pixels[4:6, 3:9, 6:9, 1] = 1
        refused(read_label, self.write(tmp_path / "seg.dcm", axial, pixels, "BINARY"), "its segments overlap")
        pixels[4:6, 3:9, 6:8, 1] = 0
        label = read_label(self.write(tmp_path / "other.dcm", axial, pixels, "BINARY"))
        assert label.names == {1: "part 1", 2: "part 2"}
        assert_array_equal(placed(label, axial), (pixels * [1, 2]).max(-1).T)

    def test_fractions_are_refused(self, tmp_path, axial):
        pixels = np.zeros(SHAPE[::-1], np.float32)
        pixels[3:6, 4:9, 3:7] = 0.4
        path = self.write(tmp_path / "seg.dcm", axial, pixels, "FRACTIONAL", [1])
        refused(read_label, path, "holds fractions, not labels")

    def test_frames_that_are_missing_between_others_are_empty(self, tmp_path, axial):
        labels = np.zeros(SHAPE, np.uint8)
        labels[3:5, 4:6, [1, 2, 6]] = 1
        label = read_label(self.write(tmp_path / "seg.dcm", axial, labels.T, "BINARY", [1]))
        assert label.shape == (*SHAPE[:2], 6)
        assert_array_equal(placed(label, axial), labels)

    def test_what_is_no_segmentation_is_refused(self, tmp_path, axial):
        refused(read_label, axial.slices[0].rename(tmp_path / "slice.dcm"), "cannot be read as DICOM SEG")
        path = tmp_path / "text.dcm"
        path.write_text("something")
        refused(read_label, path, "this is not a DICOM file")

    @pytest.mark.parametrize("kept", [0.02, 0.2, 0.5, 0.9, 0.999])
    def test_a_file_that_is_cut_short_is_refused(self, tmp_path, axial, kept):
        path = tmp_path / "seg.dcm"
        write_label(path, boxes(), axial)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        refused(read_label, path)

    def test_labels_beyond_the_image_are_refused(self, tmp_path, axial):
        write_label(tmp_path / "seg.dcm", boxes(), axial)
        part = Volume(axial.data[:, :, :4], axial.affine)
        with pytest.raises(FileError, match="of its labelled voxels lie outside of its image"):
            read_label_on(part, tmp_path / "seg.dcm", DEFAULT_READING)

    def test_a_part_is_placed_on_the_image_in_another_format(self, tmp_path, image):
        nib.save(nib.Nifti1Image(noise(), image.affine), tmp_path / "image.nii.gz")
        write_label(tmp_path / "seg.dcm", boxes(), image)
        placed_label = read_label_on(read_volume(tmp_path / "image.nii.gz"), tmp_path / "seg.dcm", DEFAULT_READING)
        assert_array_equal(placed_label.data, boxes())
        assert placed_label.notes[0].startswith("its grid is a part of its image's; it is placed there voxel by voxel")


def _tissue():
    return hd.sr.CodedConcept("85756007", "SCT", "Tissue")


class TestCodes:
    def read(self, folder, content):
        path = folder / "codes.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_codes(path)

    def test_of_a_file_of_their_own_or_of_a_dataset(self, tmp_path):
        spleen = {"value": "78961009", "scheme": "SCT", "meaning": "Spleen"}
        category = {"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Altered Structure"}
        mass = {"value": "4147007", "scheme": "SCT", "meaning": "Mass", "category": category}
        expected = {"spleen": SPLEEN, "mass": Term(Code("4147007", "SCT", "Mass"), Code(**category))}
        assert self.read(tmp_path, {"spleen": spleen, "mass": mass}) == expected
        assert (
            self.read(tmp_path, {"labels": {"0": "background"}, "codes": {"spleen": spleen, "mass": mass}}) == expected
        )
        assert TISSUE.type.scheme == "SCT"

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ({"labels": {"1": "spleen"}}, "names no codes; add them under the key codes"),
            ({"codes": []}, "its codes are []; an object with an entry for each label is needed"),
            ({"spleen": "78961009"}, "the code of spleen is '78961009'; it needs a value, a scheme and a meaning"),
            ({"spleen": {"value": 78961009}}, "the code of spleen has the value 78961009; a text of at most 16"),
            ({"spleen": {"value": "7", "scheme": "S" * 17}}, "has the scheme 'SSSSSSSSSSSSSSSSS'"),
            ({"spleen": {"value": "7", "scheme": "S", "meaning": "a\\b"}}, "has the meaning "),
            (
                {"spleen": {"value": "7", "scheme": "S", "meaning": "a", "category": 1}},
                "the code of spleen, in its category, is 1",
            ),
            ("{", "not"),
        ],
    )
    def test_what_is_none_is_refused(self, tmp_path, content, words):
        with pytest.raises(FileError) as caught:
            self.read(tmp_path, content)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_simpleitk_is_never_asked_for_a_segmentation(tmp_path, axial, monkeypatch):
    write_label(tmp_path / "seg.dcm", boxes(), axial)
    monkeypatch.setattr(sitk, "ImageFileReader", None)
    monkeypatch.setattr(sitk, "ReadImage", None)
    assert_array_equal(placed(read_label(tmp_path / "seg.dcm"), axial), boxes())
