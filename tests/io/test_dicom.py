"""DICOM series: read as the same image is in other formats, also from folders of many."""

import os
import shutil

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import FileError
from deepedit.io.dicom_series import find_series, is_series
from deepedit.io.msd import case_of_image, find_images
from deepedit.io.volumes import read_geometry, read_grid, read_label, read_volume
from tests.io.dicom_files import LPS, PLACES, SHAPE, datasets, edited, noise, pydicom, save, save_series
from tests.io.itk_files import refused, sitk


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
