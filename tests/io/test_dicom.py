"""DICOM series: read as the same image is in other formats, and refused in one sentence where they make no grid."""

import os
import shutil
import sys

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import FileError
from deepedit.io.dicom_series import find_series, is_series
from deepedit.io.msd import case_of_image, find_images
from deepedit.io.volumes import read_geometry, read_grid, read_label, read_volume
from tests.io.dicom_files import LPS, PATIENT, PLACES, datasets, pydicom, save, save_series
from tests.io.itk_files import refused, sitk

SHAPE = (7, 6, 5)

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


def noise(shape=SHAPE, seed=0, dtype=np.int16):
    return np.random.default_rng(seed).integers(0 if dtype == np.uint16 else -1000, 3000, shape).astype(dtype)


def read_or_message(folder):
    """The volume in a folder and None, or None and the message of the error."""
    try:
        return read_volume(folder), None
    except FileError as error:
        return None, str(error)


def edited(folder, change, of=None):
    """A series of five slices, each changed by a function of its file and number; `of` says which."""
    files = datasets(noise(), PLACES["axial"])
    for number, file in enumerate(files):
        if of is None or number in of:
            change(file, number)
    return save(folder, files)


class TestReading:
    @pytest.mark.parametrize("place", PLACES)
    def test_is_what_nibabel_writes_as_nifti(self, tmp_path, place):
        data = noise()
        nib.save(nib.Nifti1Image(data, PLACES[place]), tmp_path / "image.nii.gz")
        ours, folder = read_volume(tmp_path / "image.nii.gz"), save_series(tmp_path / "series", data, PLACES[place])
        volume, geometry, grid = read_volume(folder), read_geometry(folder), read_grid(folder)
        assert_array_equal(volume.data, ours.data)
        assert volume.data.dtype == np.float32
        assert_allclose(volume.affine, ours.affine, atol=1e-5)
        assert (geometry.shape, geometry.channels, grid.shape) == (SHAPE, 1, SHAPE)
        assert_array_equal(geometry.affine, volume.affine)
        assert_array_equal(grid.affine, volume.affine)
        assert volume.notes == ()

    @pytest.mark.parametrize("place", PLACES)
    def test_is_what_simpleitk_reads(self, tmp_path, place):
        folder = save_series(tmp_path / "series", noise(), PLACES[place], RescaleSlope=2, RescaleIntercept=-1024)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        image = reader.Execute()
        volume = read_volume(folder)
        assert_array_equal(volume.data, sitk.GetArrayFromImage(image).T)
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        assert_allclose(volume.affine, LPS @ affine, atol=1e-6)

    def test_slices_are_in_the_order_of_their_files(self, tmp_path):
        volume = read_volume(save_series(tmp_path / "series", noise()))
        for index, path in enumerate(volume.slices):
            assert_array_equal(volume.data[:, :, index], pydicom.dcmread(path).pixel_array.T)

    def test_a_series_that_runs_against_its_normal_is_turned(self, tmp_path):
        data, affine = noise(), PLACES["axial"]
        files = datasets(data, affine)
        against = [file.ImagePositionPatient for file in files[::-1]]
        for file, position in zip(files, against, strict=True):
            file.ImagePositionPatient = position
        volume = read_volume(save(tmp_path / "series", files))
        assert_array_equal(volume.data, data[:, :, ::-1])
        assert_allclose(volume.affine, affine, atol=1e-6)

    @pytest.mark.parametrize("dtype", [np.int16, np.uint16])
    def test_each_slice_is_scaled_as_it_says(self, tmp_path, dtype):
        data = noise(dtype=dtype)
        slopes, intercepts = [0.1234567, 2, 1, 0.001, -1.5], [-1024, 0, 0.5, 3, 7]
        folder = save_series(
            tmp_path / "series", data, RescaleSlope=slopes.__getitem__, RescaleIntercept=intercepts.__getitem__
        )
        assert_allclose(read_volume(folder).data, data * np.array(slopes) + intercepts, rtol=1e-6, atol=1e-4)

    def test_bits_beside_the_stored_ones_do_not_count(self, tmp_path):
        data = np.abs(noise()) % 2048
        folder = save_series(tmp_path / "s", data | 0x7000, BitsStored=12, HighBit=11, PixelRepresentation=0)
        assert_array_equal(read_volume(folder).data, data)

    @pytest.mark.parametrize("syntax", ["RLE", "JPEG2000", "JPEG", "implicit", "big endian"])
    def test_of_other_transfer_syntaxes(self, tmp_path, syntax):
        data = noise((64, 48, 5))  # smaller ones GDCM cannot always decode
        files = datasets(data, PLACES["oblique"], RescaleIntercept=-5)
        folder = tmp_path / "series"
        folder.mkdir()
        for number, file in enumerate(files):
            path = folder / f"{number}.dcm"
            if syntax == "RLE":
                file.compress(pydicom.uid.RLELossless)
            elif syntax == "implicit":
                file.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            elif syntax == "big endian":
                file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
                file["PixelData"].value = data[:, :, number].T.astype(">i2").tobytes()
                file.set_original_encoding(False, False)
            else:
                image = sitk.GetImageFromArray(np.ascontiguousarray(data[:, :, number].T)[None])
                writer = sitk.ImageFileWriter()
                writer.SetImageIO("GDCMImageIO")
                writer.UseCompressionOn()
                writer.SetCompressor(syntax)
                writer.SetFileName(str(path))
                writer.Execute(image)
                packed = pydicom.dcmread(path)
                file.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
                file["PixelData"] = packed["PixelData"]
                file["PixelData"].is_undefined_length = True
            if syntax == "big endian":
                pydicom.dcmwrite(path, file, implicit_vr=False, little_endian=False, enforce_file_format=True)
            else:
                file.save_as(path, enforce_file_format=True)
        volume = read_volume(folder)
        assert_array_equal(volume.data, data.astype(np.float32) - 5)
        assert_allclose(volume.affine, PLACES["oblique"], atol=1e-6)

    def test_a_header_with_sequences_of_every_kind(self, tmp_path):
        def fill(file, number):
            inner, item = pydicom.Dataset(), pydicom.Dataset()
            inner.Rows, inner.ImagePositionPatient = 3, [9, 9, 9]
            inner.add_new("PixelData", "OW", bytes(50))
            item.ReferencedImageSequence = pydicom.Sequence([inner, pydicom.Dataset()])
            for sequence in (item.ReferencedImageSequence, [item]):
                sequence[0].is_undefined_length_sequence_item = bool(number % 2)
            file.IconImageSequence = pydicom.Sequence([item])
            file["IconImageSequence"].is_undefined_length = number > 2
            file.add_new((0x0029, 0x1010), "UN", bytes(99998))

        volume = read_volume(edited(tmp_path / "series", fill))
        assert_array_equal(volume.data, noise())
        assert_allclose(volume.affine, PLACES["axial"])

    def test_a_tilted_gantry_is_a_sheared_grid(self, tmp_path):
        affine = PLACES["axial"].copy()
        affine[1, 2] = 0.7
        volume = read_volume(save_series(tmp_path / "series", noise(), affine))
        assert_allclose(volume.affine, affine, atol=1e-6)
        assert volume.notes == (
            "its slices are tilted by 15.6 degrees (gantry tilt), and so its grid is oblique-angled",
        )

    def test_one_slice_is_as_thick_as_it_says(self, tmp_path):
        volume = read_volume(save_series(tmp_path / "series", noise((7, 6, 1))))
        assert volume.shape == (7, 6, 1)
        assert_allclose(volume.affine, PLACES["axial"], atol=1e-6)
        assert volume.notes == ("it is one slice, taken to be 2.5 mm thick",)

    @pytest.mark.parametrize(
        ("elements", "note"),
        [
            ({"SpacingBetweenSlices": 5}, "its header gives 5 mm between slices, and by their positions it is 2.5, as"),
            ({"SliceThickness": 1.25}, "its slices are 1.25 mm thick and lie 2.5 mm apart; are some missing?"),
            ({"LossyImageCompression": "01"}, "its voxels were compressed with loss"),
            ({"SpacingBetweenSlices": -2.5}, None),
        ],
    )
    def test_what_a_header_says_beside_the_grid_is_noted(self, tmp_path, elements, note):
        volume = read_volume(save_series(tmp_path / "series", noise(), **elements))
        assert_allclose(volume.affine, PLACES["axial"], atol=1e-6)
        assert [each[: len(note or "")] for each in volume.notes] == ([note] if note else [])

    def test_what_is_no_slice_is_left_out_with_a_note(self, tmp_path):
        folder = save_series(tmp_path / "series", noise())
        (folder / "notes.txt").write_text("something")
        (folder / ".hidden").write_bytes(bytes(128) + b"DICM")
        (folder / "within").mkdir()
        report = datasets(noise((7, 6, 1)), PLACES["axial"], SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")[0]
        del report.PixelData
        save(folder / "report", [report])
        shutil.move(folder / "report/IM00000", folder / "report.dcm")
        localizers = datasets(noise((9, 9, 2)), PLACES["sagittal"], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        for number, file in enumerate(localizers):
            file.SeriesInstanceUID = pydicom.dcmread(folder / "IM00000").SeriesInstanceUID
            file.save_as(folder / f"localizer{number}", enforce_file_format=True)
        shutil.copy(folder / "IM00000", folder / "copy")
        volume = read_volume(folder)
        assert_array_equal(volume.data, noise())
        assert volume.notes == (
            "1 file in it is not DICOM and left out",
            "1 DICOM file in it holds no slice; left out",
            "2 localizers among its slices left out",
            "1 file in it is a copy",
        )


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


class TestFolders:
    def test_a_folder_of_a_series_is_an_image(self, tmp_path):
        folder = save_series(tmp_path / "images/case_01", noise())
        assert is_series(folder)
        assert not is_series(folder.parent)
        assert not is_series(tmp_path / "missing")
        assert not is_series(folder / "IM00000")
        assert [(case.name, case.image) for case in find_images(folder.parent)] == [("case_01", (folder,))]
        assert case_of_image(folder).name == "case_01"
        nib.save(nib.Nifti1Image(noise(), np.eye(4)), folder / "a.nii.gz")
        assert not is_series(folder)

    def test_the_name_of_a_case_is_that_of_its_folder_wherever_one_stands(self, tmp_path, monkeypatch):
        monkeypatch.chdir(save_series(tmp_path / "case.v1", noise()))
        assert case_of_image(type(tmp_path)(".")).name == "case.v1"

    def test_channels_are_folders_with_numbers(self, tmp_path):
        for channel in range(2):
            save_series(tmp_path / f"case_000{channel}", noise(seed=channel))
        (case,) = find_images(tmp_path, image_channels=2)
        assert case.name == "case"
        assert [path.name for path in case.image] == ["case_0000", "case_0001"]

    def test_a_folder_beside_a_file_of_its_name_is_told_of(self, tmp_path):
        save_series(tmp_path / "a", noise())
        nib.save(nib.Nifti1Image(noise(), np.eye(4)), tmp_path / "a.nii.gz")
        with pytest.raises(Exception, match=r"a is there as (\.nii\.gz and as )?a folder of DICOM files"):
            find_images(tmp_path)

    def test_a_label_map_is_no_folder(self, tmp_path):
        with pytest.raises(FileError, match="this is a folder, not a file"):
            read_label(save_series(tmp_path / "series", noise()))

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="no permissions to take away")
    def test_a_folder_that_may_not_be_listed(self, tmp_path):
        folder = save_series(tmp_path / "series", noise())
        folder.chmod(0)
        try:
            refused(find_series, folder, "cannot be listed: Permission denied")
        finally:
            folder.chmod(0o700)
