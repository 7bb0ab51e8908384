"""What is not NIfTI: written by SimpleITK and, as NIfTI, by nibabel, it is read alike; and the way back."""

import os
import re
import sys
import threading

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from deepedit.errors import FileError
from deepedit.io.volumes import read_geometry, read_label, read_volume, write_label, write_volume
from deepedit.volume import Volume
from tests.io.itk_files import OBLIQUE, PLACES, affine_of, refused, save_itk
from tests.io.test_nifti import affines

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed, which reads and writes these formats")

IMAGES = (".nrrd", ".nhdr", ".mha", ".mhd")
WRITTEN = (".nrrd", ".seg.nrrd", ".mha")
TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
fixture_is_fine = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


@pytest.fixture
def save(tmp_path):
    def save(data, affine=PLACES["RAS"], name="image.nrrd", compressed=True, **fields):
        return save_itk(tmp_path / name, data, affine, compressed, **fields)

    return save


def nrrd(path, header, voxels=bytes(range(120))):
    """A NRRD file whose header has these lines."""
    path.write_bytes(("NRRD0004\nencoding: raw\n" + header + "\n\n").encode() + voxels)
    return path


SPACE = "type: uchar\ndimension: 3\nsizes: 4 5 6\nspace: {}\nspace directions: {}\nspace origin: (1,2,3)"


class TestReading:
    @pytest.mark.parametrize("ending", [*IMAGES, ".hdr"])
    @pytest.mark.parametrize("place", PLACES)
    def test_is_what_nibabel_writes_as_nifti(self, save, tmp_path, ending, place):
        data = np.random.default_rng(0).integers(-1000, 3000, (5, 4, 3)).astype(np.int16)
        nib.save(nib.Nifti1Image(data, PLACES[place]), tmp_path / "image.nii.gz")
        ours, other = read_volume(tmp_path / "image.nii.gz"), save(data, PLACES[place], f"image{ending}")
        volume, geometry = read_volume(other), read_geometry(other)
        assert_array_equal(volume.data, ours.data)
        assert_allclose(volume.affine, ours.affine, atol=1e-5)  # NIfTI holds it in float32
        assert volume.data.dtype == np.float32
        assert (geometry.shape, geometry.channels) == (volume.shape, 1)
        assert_array_equal(geometry.affine, volume.affine)
        assert volume.notes == ()

    @fixture_is_fine
    @given(affine=affines(), ending=st.sampled_from(IMAGES), seed=st.integers(0, 99), dtype=st.sampled_from(TYPES))
    def test_of_any_grid_and_type(self, save, affine, ending, seed, dtype):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers(1, 6, 3))
        data = rng.integers(0, 120, shape).astype(dtype)
        path = save(data, affine, f"image{ending}", compressed=bool(seed % 2))
        volume, label = read_volume(path), read_label(path)
        assert_array_equal(volume.data, data.astype(np.float32))
        assert_array_equal(label.data, data)
        assert label.data.dtype == np.uint8
        assert_allclose(volume.affine, affine, rtol=1e-12, atol=1e-9)
        assert_array_equal(label.affine, volume.affine)

    @pytest.mark.parametrize("space", ["right-anterior-superior", "LPS", "left-anterior-superior"])
    def test_of_the_spaces_of_nrrd(self, tmp_path, space):
        path = nrrd(tmp_path / "a.nrrd", SPACE.format(space, "(1,0,0) (0,2,0) (0,0,3)"))
        flip = {"r": 1, "L": -1, "l": -1}[space[0]], -1 if space == "LPS" else 1, 1, 1
        assert_array_equal(
            read_volume(path).affine, np.diag(flip) @ [[1, 0, 0, 1], [0, 2, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]]
        )

    @pytest.mark.parametrize("ending", IMAGES)
    def test_of_channels(self, save, ending):
        data = np.random.default_rng(0).random((2, 5, 4, 3)).astype(np.float32)
        path = save(data, OBLIQUE, f"image{ending}")
        assert_array_equal(read_volume(path).data, data)
        assert read_geometry(path).channels == 2
        with pytest.raises(FileError, match="2 channels"):
            read_label(path)

    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize("kind", ["vector", "list"])
    def test_of_the_component_axis_of_nrrd(self, tmp_path, kind, last):
        sides, ways, kinds = ["3", "4", "5"], ["(1,0,0)", "(0,1,0)", "(0,0,1)"], ["domain"] * 3
        for parts, part in ((sides, "2"), (ways, "none"), (kinds, kind)):
            parts.insert(3 if last else 0, part)
        text = (" ".join(parts) for parts in (sides, ways, kinds))
        header = "type: uchar\ndimension: 4\nspace: RAS\nsizes: {}\nspace directions: {}\nkinds: {}"
        path = nrrd(tmp_path / "a.nrrd", header.format(*text))
        expected = np.arange(120, dtype=np.float32)
        expected = expected.reshape(2, 5, 4, 3).transpose(0, 3, 2, 1) if last else expected.reshape(5, 4, 3, 2).T
        assert_array_equal(read_volume(path).data, expected)

    def test_of_a_fourth_axis(self, tmp_path):
        path = nrrd(tmp_path / "a.nrrd", "type: uchar\ndimension: 4\nsizes: 3 4 5 2\nspacings: 1 2 3 9")
        volume = read_volume(path)
        assert_array_equal(volume.data, np.arange(120).reshape(2, 5, 4, 3).transpose(0, 3, 2, 1))
        assert_array_equal(volume.affine, np.diag([-1, -2, 3, 1]))
        assert volume.notes == (
            "its header names no space; its axes are taken as left, posterior, superior, as ITK takes them",
        )

    def test_of_an_analyze_pair_that_does_not_say_where_it_lies(self, tmp_path):
        data = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
        nib.save(nib.AnalyzeImage(data, np.diag([-2, 3, 4, 1.0])), tmp_path / "a.hdr")
        for name in ("a.hdr", "a.img"):
            volume = read_volume(tmp_path / name)
            assert_array_equal(volume.data, data)
            assert volume.spacing == (2, 3, 4)
            assert "does not say which side is right" in volume.notes[0]

    def test_of_a_nifti_pair_follows_the_rules_of_nifti(self, tmp_path):
        image = nib.Nifti1Pair(np.arange(60, dtype=np.int16).reshape(5, 4, 3), None)
        image.header.set_sform(PLACES["RAS"], 1)
        image.header.set_qform(PLACES["LPS"], 1)
        image.header.set_slope_inter(2, 1)
        nib.save(image, tmp_path / "a.hdr")
        for form, place in (("sform", "RAS"), ("qform", "LPS")):
            volume = read_volume(tmp_path / "a.hdr", affine=form)
            assert_allclose(volume.affine, PLACES[place])
            assert "its qform and its sform lie up to" in volume.notes[0]
        assert_array_equal(volume.data, nib.load(tmp_path / "a.hdr").get_fdata())

    def test_of_large_and_odd_values(self, save):
        large = np.full((3, 3, 3), 2**31 - 1, np.int64)
        assert read_label(save(large)).data.max() == 2**31 - 1
        for bad, said in ((2**31, r"2\.14748e\+09"), (-1, "-1")):
            with pytest.raises(FileError, match=f"labels must be whole numbers from 0 on, it has {said}"):
                read_label(save(np.full((3, 3, 3), bad, np.int64)))
        for bad in (np.nan, np.inf, 1e300):
            data = np.zeros((3, 3, 3))
            data[1, 1, 1] = bad
            for name in ("image.nrrd", "image.mha"):
                with pytest.raises(FileError, match="1 of 27 voxels are NaN, infinite or beyond float32"):
                    read_volume(save(data, name=name))
        with pytest.raises(FileError, match=r"it has 0\.5"):
            read_label(save(np.full((3, 3, 3), 0.5)))

    def test_by_several_threads_keeps_itk_quiet_and_leaves_it_as_it_was(self, tmp_path, capfd):
        nib.save(nib.AnalyzeImage(np.zeros((5, 4, 3), np.int16), np.eye(4)), tmp_path / "a.hdr")
        before = sitk.ProcessObject.GetGlobalWarningDisplay()
        threads = [threading.Thread(target=read_geometry, args=(tmp_path / "a.hdr",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sitk.ProcessObject.GetGlobalWarningDisplay() == before
        assert capfd.readouterr() == ("", "")


class TestRefused:
    """One line that names the file, the problem and the mend, and nothing from ITK on the terminal."""

    @pytest.fixture(autouse=True)
    def quiet(self, capfd):
        yield
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("ending", [*IMAGES, ".seg.nrrd", ".hdr", ".img"])
    def test_what_is_missing_empty_or_something_else(self, tmp_path, ending):
        path = tmp_path / f"image{ending}"
        refused(read_volume, path, "no such file")
        path.mkdir()
        with pytest.raises(FileError, match="this is a folder"):
            read_volume(path)
        path.rmdir()
        for content in (b"", b"something else\n" * 40):
            path.write_bytes(content)
            refused(read_volume, path)

    @pytest.mark.parametrize("ending", [".nrrd", ".mha"])
    @pytest.mark.parametrize("compressed", [True, False])
    def test_what_is_cut_short_anywhere(self, save, ending, compressed):
        path = save(
            np.random.default_rng(0).integers(0, 99, (9, 8, 7)).astype(np.int16),
            name=f"a{ending}",
            compressed=compressed,
        )
        whole = path.read_bytes()
        for length in (20, 60, 120, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            refused(read_volume, path)

    @pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nhdr", ".mhd"])
    def test_what_is_damaged_in_its_compressed_voxels(self, save, tmp_path, ending):
        path = save(np.random.default_rng(0).integers(0, 99, (9, 8, 7)).astype(np.int16), name=f"a{ending}")
        voxels = next((each for each in tmp_path.iterdir() if each.suffix in (".gz", ".zraw")), path)
        content = bytearray(voxels.read_bytes())
        content[-len(content) // 4] ^= 0x10
        voxels.write_bytes(content)
        refused(read_volume, path, "damaged", "copy or export it again")

    @pytest.mark.parametrize("change", [lambda size: 0, lambda size: size // 2, lambda size: size + 50])
    def test_a_metaimage_of_another_compressed_size(self, save, change):
        path = save(np.arange(60, dtype=np.int16).reshape(5, 4, 3), name="a.mha")
        content = path.read_bytes()
        size = re.search(rb"CompressedDataSize = (\d+)", content)
        path.write_bytes(content.replace(size[0], b"CompressedDataSize = %d" % change(int(size[1]))))
        refused(read_volume, path, f"{size[1].decode()} bytes of compressed voxels, its header promises")
        path.write_bytes(content.replace(size[0] + b"\n", b""))
        refused(read_volume, path, f"{size[1].decode()} bytes of compressed voxels, its header promises no size")

    @pytest.mark.parametrize(("ending", "other"), [(".nhdr", "a.raw"), (".mhd", "a.raw"), (".hdr", "a.img")])
    def test_voxels_that_are_not_beside_their_header(self, save, tmp_path, ending, other):
        path = save(np.zeros((3, 3, 3), np.int16), name=f"a{ending}", compressed=False)
        content = (tmp_path / other).read_bytes()
        (tmp_path / other).write_bytes(content[:-9])
        refused(read_volume, path)
        (tmp_path / other).unlink()
        refused(read_volume, path, f"its voxels should be in {other}, which is not", "put it there")

    def test_an_img_without_its_header(self, save, tmp_path):
        path = save(np.zeros((3, 3, 3), np.int16), name="a.hdr")
        path.unlink()
        refused(read_volume, tmp_path / "a.img", "its header a.hdr is not beside it")

    def test_names_of_other_formats(self, save, tmp_path):
        source = save(np.zeros((3, 3, 3), np.int16), name="a.mha")
        (tmp_path / "a.nrrd").write_bytes(source.read_bytes())
        refused(read_volume, tmp_path / "a.nrrd", "this is not a NRRD file; it seems to hold MetaImage: name it .mha")
        nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
        for name in ("b.nrrd", "b.mha", "b.hdr"):
            (tmp_path / name).write_bytes((tmp_path / "a.nii.gz").read_bytes())
            refused(read_volume, tmp_path / name, "it seems to hold NIfTI: name it .nii or .nii.gz")
        (tmp_path / "c.nii.gz").write_bytes(save(np.zeros((3, 3, 3), np.int16)).read_bytes())
        refused(read_volume, tmp_path / "c.nii.gz", "this is not a NIfTI file; it seems to hold NRRD: name it .nrrd")

    @pytest.mark.parametrize(
        ("directions", "said"),
        [
            ("(1,0,0) (0,0,0) (0,0,3)", "its affine"),
            ("(1,0,0) (1,0,0) (0,0,3)", "its affine is singular"),
            ("(1,0,0) (0,nan,0) (0,0,3)", "cannot be read"),
            ("(1,0,0) (0,1e9,0) (0,0,3)", "cannot be right"),
            ("(1,0,0) (0,1e-9,0) (0,0,3)", "cannot be right"),
            ("(1,0,0) (0,1,0)", "cannot be read"),
        ],
    )
    def test_directions_that_are_none(self, tmp_path, directions, said):
        path = nrrd(tmp_path / "a.nrrd", SPACE.format("LPS", directions))
        refused(read_volume, path, said)
        refused(read_geometry, path, said)

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ("DimSize = 4 5 6\nElementType = MET_UCHAR\nElementSpacing = 1 0 3", "singular"),
            ("DimSize = 4 5 6\nElementType = MET_UCHAR\nTransformMatrix = 1 0 0 1 0 0 0 0 1", "singular"),
            ("DimSize = 4 5 6\nElementType = MET_FOO", "MET_FOO"),
            ("DimSize = 4 -5 6\nElementType = MET_UCHAR", "damaged"),
            ("DimSize = 4 5\nElementType = MET_UCHAR", "damaged"),
            (f"DimSize = 4 5 {5000 * '9'}\nElementType = MET_UCHAR", "damaged"),
            ("ElementType = MET_UCHAR", "does not say DimSize"),
            ("DimSize = 40000 50000 60000\nElementType = MET_UCHAR", "GiB of memory"),
        ],
    )
    def test_headers_of_metaimage(self, tmp_path, lines, said):
        path = tmp_path / "a.mha"
        path.write_bytes(f"ObjectType = Image\nNDims = 3\n{lines}\nElementDataFile = LOCAL\n".encode() + bytes(120))
        refused(read_volume, path, said)

    def test_what_is_no_image_of_real_numbers(self, tmp_path):
        flat = nrrd(tmp_path / "flat.nrrd", "type: uchar\ndimension: 2\nsizes: 10 12")
        refused(read_volume, flat, "this is a 2D image (10 x 12)")
        header = "type: uchar\ndimension: 4\nspace: LPS\nsizes: 3 2 4 5\nspace directions: none (1,0,0) (0,1,0) (0,0,1)"
        for kind in ("RGB-color", "HSV-color"):
            colours = nrrd(tmp_path / "rgb.nrrd", f"{header}\nkinds: {kind} domain domain domain")
            refused(read_volume, colours, "voxels of type colour; convert them")
        sitk.WriteImage(sitk.Image([3, 3, 3], sitk.sitkComplexFloat32), str(tmp_path / "complex.nrrd"))
        refused(read_volume, tmp_path / "complex.nrrd", "voxels of type complex")
        sitk.WriteImage(sitk.Image([3, 3, 3, 2], sitk.sitkVectorUInt8), str(tmp_path / "five.nrrd"))
        refused(read_volume, tmp_path / "five.nrrd", "this is a 5D image")

    def test_files_where_simpleitk_is_not_installed(self, save, tmp_path, monkeypatch):
        path, grid = save(np.zeros((3, 3, 3), np.int16)), Volume(np.zeros((3, 3, 3)))
        monkeypatch.setitem(sys.modules, "SimpleITK", None)
        words = "files of this format need SimpleITK; install it with: pip install 'deepedit[formats]'"
        for read in (read_volume, read_label, read_geometry):
            refused(read, path, words)
        refused(lambda path: write_label(path, grid.data.astype(int), grid), tmp_path / "b.seg.nrrd", words)
        assert [each.name for each in tmp_path.iterdir()] == ["image.nrrd"]
        write_label(tmp_path / "b.nii", grid.data.astype(int), grid)


class TestWriting:
    @fixture_is_fine
    @given(
        affine=affines(), ending=st.sampled_from(WRITTEN), seed=st.integers(0, 99), top=st.sampled_from([1, 255, 70000])
    )
    def test_of_labels_is_what_itk_reads(self, tmp_path, affine, ending, seed, top):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 3, rng.integers(1, 6, 3)) * top
        path = tmp_path / f"a{ending}"
        write_label(path, labels, Volume(np.zeros(labels.shape, np.float32), affine))
        image = sitk.ReadImage(str(path))
        assert_array_equal(sitk.GetArrayFromImage(image).T, labels)
        assert_allclose(affine_of(image), affine, rtol=1e-12, atol=1e-9)
        volume = read_label(path)
        assert_array_equal(volume.data, labels)
        assert_allclose(volume.affine, affine, rtol=1e-12, atol=1e-9)
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
        path.unlink()

    @pytest.mark.parametrize("ending", [".nrrd", ".mha"])
    def test_of_numbers(self, tmp_path, ending):
        for shape in ((5, 4, 3), (2, 5, 4, 3)):
            data = np.random.default_rng(0).random(shape).astype(np.float32)
            write_volume(tmp_path / f"a{ending}", data, Volume(data, OBLIQUE))
            volume = read_volume(tmp_path / f"a{ending}")
            assert_array_equal(volume.data, data)
            assert_allclose(volume.affine, OBLIQUE, rtol=1e-12)

    def test_on_the_grid_of_an_image_of_another_format(self, tmp_path):
        data = np.random.default_rng(0).integers(0, 9, (5, 4, 3))
        nib.save(nib.Nifti1Image(data.astype(np.int16), OBLIQUE), tmp_path / "a.nii.gz")
        write_label(tmp_path / "a.mha", data, read_volume(tmp_path / "a.nii.gz"))
        write_label(tmp_path / "b.nii.gz", data, read_volume(tmp_path / "a.mha"))
        assert_allclose(nib.load(tmp_path / "b.nii.gz").affine, OBLIQUE, atol=1e-5)
        assert_array_equal(nib.load(tmp_path / "b.nii.gz").get_fdata(), data)

    @pytest.mark.parametrize("ending", WRITTEN)
    def test_gives_equal_bytes_for_equal_labels(self, tmp_path, ending):
        grid, labels = Volume(np.zeros((5, 4, 3))), np.arange(60).reshape(5, 4, 3) % 3
        for name in ("a", "b"):
            write_label(tmp_path / f"{name}{ending}", labels, grid)
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()

    @pytest.mark.parametrize("ending", WRITTEN)
    def test_that_fails_leaves_the_earlier_file(self, tmp_path, monkeypatch, ending):
        path, grid, labels = tmp_path / f"a{ending}", Volume(np.zeros((5, 4, 3))), np.ones((5, 4, 3), int)
        write_label(path, labels, grid)
        before = path.read_bytes()
        written = sitk.ImageFileWriter.Execute

        def short(writer, image):
            written(writer, image)
            os.truncate(writer.GetFileName(), os.path.getsize(writer.GetFileName()) - 12)

        monkeypatch.setattr(sitk.ImageFileWriter, "Execute", short)
        refused(lambda path: write_label(path, 2 * labels, grid), path, "cannot be written (it is not whole")
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == [path.name]
        refused(
            lambda path: write_label(path, labels, grid), tmp_path / "none" / path.name, "its folder does not exist"
        )

    def test_of_names_that_are_not_written(self, tmp_path):
        grid = Volume(np.zeros((3, 3, 3)))
        for name in ("a.nhdr", "a.mhd", "a.hdr", "a.img", "a"):
            refused(lambda path: write_label(path, grid.data.astype(int), grid), tmp_path / name, "should end in")
        refused(lambda path: write_volume(path, grid.data, grid), tmp_path / "a.seg.nrrd", "should end in")
