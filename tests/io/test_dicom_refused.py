"""DICOM series that make no grid, or say of themselves what cannot be: refused in one sentence, or read right."""

import shutil
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import FileError
from deepedit.io.volumes import read_geometry, read_volume
from tests.io.dicom_files import LPS, PATIENT, PLACES, SHAPE, datasets, edited, noise, pydicom, save, save_series
from tests.io.itk_files import refused

CONTRADICTIONS = [
    ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "its slices are of 2 orientations"),
    ({"ImageOrientationPatient": [0.98, 0.199, 0, -0.199, 0.98, 0]}, "its slices are of 2 orientations"),
    ({"PixelSpacing": [0.9, 0.9]}, "its slices are of 2 sizes of pixels"),
    ({"FrameOfReferenceUID": "1.2.3"}, "its slices are of 2 frames of reference"),
    ({"Rows": 3, "PixelData": bytes(42)}, "its slices are of 2 sizes"),
]
"""What one slice may say otherwise than the others, and words of the message."""

FAULTS = [
    ({"ImagePositionPatient": None}, "does not say where it lies (ImagePositionPatient)"),
    ({"ImageOrientationPatient": None}, "does not say how it lies (ImageOrientationPatient)"),
    ({"PixelSpacing": None}, "does not say how large its pixels are (PixelSpacing)"),
    ({"PixelSpacing": [0.8, 0]}, "pixels of 0 x 0.8 mm cannot be right"),
    ({"ImageOrientationPatient": [1, 0, 0, 0.5, 0.5, 0]}, "are not at right angles"),
    ({"Rows": 60}, "has 84 bytes of voxels, its header promises 840"),
    ({"Columns": 4}, "has 84 bytes of voxels, its header promises 48"),
    ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, "has 84 bytes of voxels, its header promises 42"),
    ({"BitsAllocated": 12}, "its values take 16 of 12 bits"),
    ({"PhotometricInterpretation": "MONOCHROME1"}, "its largest values are meant to be dark (MONOCHROME1)"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "its pixels are colours or alike (PALETTE COLOR)"),
    ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "its pixels are colours or alike (RGB)"),
    ({"NumberOfFrames": 2}, "holds several frames in one file; convert it to .nii.gz"),
    ({"RescaleSlope": 0}, "its values cannot be scaled"),
    ({"RescaleSlope": None, "ModalityLUTSequence": [pydicom.Dataset()]}, "its values stand in a table"),
    ({"SeriesInstanceUID": None}, "does not say which series it is of"),
]
"""What a slice may not say, and words of the message."""


def read_or_message(folder):
    """The volume in a folder and None, or None and the message of the error."""
    try:
        return read_volume(folder), None
    except FileError as error:
        return None, str(error)


class TestRefusing:
    def test_several_series_are_listed_and_one_can_be_chosen(self, tmp_path):
        folder = tmp_path / "series"
        one, other = datasets(noise(), PLACES["axial"]), datasets(noise((4, 5, 6), 1), PLACES["sagittal"])
        save(folder, one + other)
        uids = [files[0].SeriesInstanceUID for files in (one, other)]
        with pytest.raises(FileError) as caught:
            read_volume(folder)
        message = str(caught.value)
        assert message.startswith(f"{folder}: holds 2 series: ")
        assert f"{uids[0]} (series 3, CT, 5 files of 7 x 6)" in message
        assert f"{uids[1]} (series 3, CT, 6 files of 4 x 5)" in message
        assert "choose one by its UID with `series`" in message
        assert_array_equal(read_volume(folder, series=uids[0]).data, noise())
        assert_array_equal(read_volume(folder, series=uids[1]).data, noise((4, 5, 6), 1))
        assert read_geometry(folder, series=uids[1]).shape == (4, 5, 6)
        with pytest.raises(FileError, match=r"has no series 1\.2; it holds "):
            read_volume(folder, series="1.2")

    def test_one_file_is_no_series(self, tmp_path):
        path = tmp_path / "slice.dcm"
        shutil.copy(save_series(tmp_path / "series", noise()) / "IM00000", path)
        refused(read_volume, path, "one file of DICOM is no image here; give the folder that its series lies in")
        refused(read_geometry, path, "give the folder")
        with pytest.raises(FileError, match="`series` chooses among DICOM series in a folder, and this is none"):
            read_volume(path, series="1.2")
        shutil.copytree(tmp_path / "series", tmp_path / "series.nii.gz")
        assert read_volume(tmp_path / "series.nii.gz").shape == SHAPE
        (tmp_path / "empty").mkdir()
        refused(read_volume, tmp_path / "empty", "holds no slices of a DICOM series; give the folder that they lie in")

    def test_without_simpleitk_one_line_says_what_to_install(self, tmp_path, monkeypatch):
        folder = save_series(tmp_path / "series", noise())
        monkeypatch.setitem(sys.modules, "SimpleITK", None)
        for read in (read_volume, read_geometry):
            refused(read, folder, "pip install 'deepedit[formats]'")

    @pytest.mark.parametrize("removed", [1, 2, 3])
    def test_missing_slices(self, tmp_path, removed):
        files = datasets(noise(), PLACES["oblique"])
        del files[removed]
        words = "1 slice is missing, the first between", "where slices lie 2.5 mm apart"
        refused(read_volume, save(tmp_path / "series", files), *words)

    def test_slices_at_uneven_places(self, tmp_path):
        def move(file, number):
            file.ImagePositionPatient = [0, 0, number**1.5]

        refused(read_volume, edited(tmp_path / "a", move), "its slices lie 1 to 2.804 mm apart, which no grid has")

        def shift(file, number):
            file.ImagePositionPatient = [3 * (number == 2), 0, 2.5 * number]

        refused(read_volume, edited(tmp_path / "b", shift), "do not lie behind each other but are shifted")

    def test_slices_that_lie_a_little_off_are_taken_as_even_with_a_note(self, tmp_path):
        def move(file, number):
            file.ImagePositionPatient = [-12, -10, -40 + 2.5 * number + 0.1 * (number == 2)]

        volume = read_volume(edited(tmp_path / "series", move))
        assert volume.notes == ("its slices lie up to 0.04 voxels off an even grid; they are taken as even",)
        assert_allclose(volume.affine, PLACES["axial"])

    @pytest.mark.parametrize(
        ("elements", "words", "of"),
        [
            *((elements, words, [1]) for elements, words in (*CONTRADICTIONS, *FAULTS)),
            *((elements, words, None) for elements, words in FAULTS),
        ],
    )
    def test_a_header_that_says_otherwise(self, tmp_path, elements, words, of):
        def bend(file, number):
            for key, value in elements.items():
                if value is None:
                    delattr(file, key)
                else:
                    setattr(file, key, value)

        folder = edited(tmp_path / "series", bend, of)
        with pytest.raises(FileError) as caught:
            read_volume(folder)
        message = str(caught.value)
        assert message.startswith(str(folder))
        assert words in message
        assert "\n" not in message
        assert not [each for each in PATIENT.values() if len(each) > 2 and each in message]

    def test_several_images_at_one_place(self, tmp_path):
        files = datasets(noise(), PLACES["axial"])
        echoes = datasets(noise(seed=1), PLACES["axial"], SeriesInstanceUID=files[0].SeriesInstanceUID)
        for file in echoes:
            file.FrameOfReferenceUID = files[0].FrameOfReferenceUID
        refused(
            read_volume, save(tmp_path / "series", files + echoes), "several images lie at one place (5 of 5 places)"
        )

    def test_two_files_that_are_one_image_and_differ(self, tmp_path):
        folder = save_series(tmp_path / "series", noise())
        content = (folder / "IM00000").read_bytes()
        (folder / "copy").write_bytes(content[:-2] + b"ab")
        with pytest.raises(FileError, match="is the same image as IM00000, and yet another one; keep one"):
            read_volume(folder)

    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
    def test_a_file_that_is_cut_short(self, tmp_path, kept):
        folder = save_series(tmp_path / "series", noise())
        content = (folder / "IM00000").read_bytes()
        (folder / "IM00000").write_bytes(content[: max(int(len(content) * kept), 140)])
        with pytest.raises(FileError, match="IM00000: ") as caught:
            read_volume(folder)
        assert "export the series again" in str(caught.value)


def test_a_hundred_mutated_series_are_right_or_refused(tmp_path):
    """Slices removed, shuffled, doubled; headers bent: what is read has each slice where its file says."""
    rng = np.random.default_rng(5)
    outcomes = {True: 0, False: 0}
    bent = {
        "ImagePositionPatient": lambda: list(rng.normal(0, 30, 3).round(3)),
        "ImageOrientationPatient": lambda: [[0, 1, 0, 0, 0, -1], [1, 0, 0, 0, -1, 0], [1, 0, 0, 0, 1]][rng.integers(3)],
        "PixelSpacing": lambda: [[0.8, 0.9], [-1, 1], [0.8]][rng.integers(3)],
        "Rows": lambda: int(rng.integers(0, 12)),
        "RescaleSlope": lambda: [0, 3, 0.5][rng.integers(3)],
        "RescaleIntercept": lambda: float(rng.integers(-9, 9)),
        "SliceThickness": lambda: float(rng.integers(0, 9)),
        "SpacingBetweenSlices": lambda: float(rng.integers(-9, 9)),
        "InstanceNumber": lambda: int(rng.integers(0, 9)),
        "SeriesInstanceUID": lambda: "1.2.3",
        "BitsStored": lambda: int(rng.integers(1, 17)),
    }
    for trial in range(100):
        place = list(PLACES.values())[trial % 3]
        files = datasets(noise(seed=trial), place)
        for _ in range(rng.integers(1, 3)):
            kind = rng.integers(4)
            if kind == 0 and len(files) > 2:
                del files[rng.integers(len(files))]
            elif kind == 1:
                files = [files[index] for index in rng.permutation(len(files))]
            elif kind == 2:
                files.append(files[rng.integers(len(files))])
            else:
                chosen = files if rng.random() < 0.4 else [files[rng.integers(len(files))]]
                key = list(bent)[rng.integers(len(bent))]
                value = bent[key]()
                for file in chosen:
                    setattr(file, key, value)
        folder = save(tmp_path / str(trial), files)
        volume, message = read_or_message(folder)
        outcomes[volume is not None] += 1
        if volume is None:
            assert message.startswith(str(folder))
            assert "\n" not in message
            continue
        places = {tuple(file.ImagePositionPatient) for file in files}
        assert len(volume.slices) == volume.shape[2] == len(places)
        for index, path in enumerate(volume.slices):
            file = pydicom.dcmread(path)
            stored = file.pixel_array.T.astype(np.float64)
            assert_allclose(volume.data[:, :, index], stored * file.RescaleSlope + file.RescaleIntercept, rtol=1e-6)
            row, column = np.reshape(file.ImageOrientationPatient, (2, 3)).astype(float)
            for i, j in ((0, 0), (6, 0), (0, 5)):
                y, x = (float(each) for each in file.PixelSpacing)
                there = np.array(file.ImagePositionPatient, float) + i * x * row + j * y * column
                ours = (LPS @ volume.affine @ [i, j, index, 1])[:3]
                assert_allclose(ours, there, atol=0.1 * min(volume.spacing))
    assert min(outcomes.values()) > 20, outcomes
