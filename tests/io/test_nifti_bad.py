"""Bad NIfTI files: one line that names the file and the problem, nothing else, whatever the bytes."""

import gzip
import os
import resource
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deepedit import files
from deepedit.errors import FileError
from deepedit.io import read_geometry, read_label, read_volume

READERS = (read_geometry, read_volume, read_label)


def refused(read, path, match):
    """Reading raises a FileError of one line with the file's name and `match` in it."""
    with pytest.raises(FileError, match=match) as caught:
        read(path)
    message = str(caught.value)
    assert os.path.basename(path) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"not a volume", "not a NIfTI"),
        (b"not a volume" * 100, "not a NIfTI"),
        (b"\x1f\x8b", "cut short|damaged"),
        (b"\x1f\x8b" + b"\x00" * 50, "damaged"),
        (gzip.compress(b"", mtime=0), "not a NIfTI"),
        (gzip.compress(b"x" * 1000, mtime=0), "not a NIfTI"),
        (struct.pack("<i", 348), "cut short"),
        (struct.pack("<i", 540) + bytes(400), "cut short"),
        (struct.pack("<i", 348) + bytes(400), "one piece"),
    ],
)
def test_not_nifti(tmp_path, content, match):
    path = tmp_path / "case_07.nii.gz"
    path.write_bytes(content)
    for read in READERS:
        refused(read, path, match)


def test_missing_folder_pipe_and_impossible_path(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    for read in READERS:
        refused(read, tmp_path / "none.nii", "no such file")
        refused(read, tmp_path, "folder")
        refused(read, tmp_path / "pipe.nii", "regular")
        refused(read, tmp_path / ("long" * 100), "cannot be opened")
        with pytest.raises(FileError, match="path"):
            read("nul\0byte.nii")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(save):
    path = save(np.zeros((3, 3, 3), np.float32))
    path.chmod(0)
    refused(read_volume, path, "permissions")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_cut_short_anywhere(save, ending):
    path = save(np.random.default_rng(0).random((5, 5, 5)), name=f"image{ending}")
    content = path.read_bytes()
    for length in range(0, len(content), 61):
        path.write_bytes(content[:length])
        refused(read_volume, path, "cut short|empty|not a NIfTI|damaged")


@pytest.mark.parametrize("behind", [0, 1, 10**6])
def test_damaged_in_its_compressed_voxels(save, behind):
    path = save(np.random.default_rng(0).random((5, 5, 5)))
    content = bytearray(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(behind), mtime=0))
    content[-6] ^= 0xFF  # in the checksum, so that all voxels inflate
    path.write_bytes(content)
    refused(read_volume, path, "damaged")


@pytest.mark.parametrize(
    ("field", "values", "match"),
    [
        ("dim", (2, 4, 5, 1, 1, 1, 1, 1), "2D"),
        ("dim", (1, 4, 1, 1, 1, 1, 1, 1), "1D"),
        ("dim", (5, 2, 3, 2, 2, 5, 1, 1), "5D"),
        ("dim", (0, 4, 5, 6, 1, 1, 1, 1), "shape"),
        ("dim", (-3, 4, 5, 6, 1, 1, 1, 1), "shape"),
        ("dim", (9, 4, 5, 6, 1, 1, 1, 1), "shape"),
        ("dim", (3, 4, 0, 6, 1, 1, 1, 1), "shape"),
        ("dim", (3, 4, -5, 6, 1, 1, 1, 1), "shape"),
        ("dim", (3, 4, 5, 7, 1, 1, 1, 1), "promises"),
        ("dim", (3, 32767, 32767, 32767, 1, 1, 1, 1), "promises"),
        ("dim", (4, 32767, 32767, 32767, 32767, 1, 1, 1), "promises"),
        ("datatype", (0,), "type"),
        ("datatype", (1,), "type"),
        ("datatype", (32,), "complex"),
        ("datatype", (128,), "colour"),
        ("datatype", (1536,), "type"),
        ("datatype", (9999,), "unknown type"),
        ("vox_offset", (-1.0,), "byte"),
        ("vox_offset", (20.0,), "byte"),
        ("vox_offset", (np.nan,), "byte"),
        ("vox_offset", (np.inf,), "byte"),
        ("vox_offset", (1e9,), "promises"),
        ("scl_inter", (np.nan,), "damaged"),
        ("srow_x", (0, 0, 0, 0), "singular"),
        ("srow_x", (0, 1, 0, 0), "singular"),
        ("srow_x", (np.nan, 0, 0, 0), "not finite"),
        ("srow_x", (1, 0, 0, np.inf), "not finite"),
        ("srow_x", (1e-6, 0, 0, 0), "1e-06"),
        ("srow_x", (1e6, 0, 0, 0), r"1e\+06"),
        ("srow_x", (1, 0, 0, 1e17), r"1e\+17 mm away"),
        ("magic", (b"ni1\0",), "one piece"),
    ],
)
def test_headers_that_make_no_sense(damaged, field, values, match):
    path = damaged(field, *values)
    content = bytearray(path.read_bytes())
    if field == "scl_inter":
        struct.pack_into("<f", content, 112, 2.0)  # an intercept counts where there is a slope
    path.write_bytes(content)
    refused(read_volume, path, match)
    refused(read_label, path, match)


def test_zero_affine_and_zero_spacing(save):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), np.eye(4))
    path = save(np.zeros((3, 3, 3), np.float32), name="zero.nii")
    content = bytearray(path.read_bytes())
    for start in (280, 296, 312):
        struct.pack_into("<4f", content, start, 0, 0, 0, 0)
    path.write_bytes(content)
    refused(read_geometry, path, "singular")
    image.set_sform(None, 0)
    struct.pack_into("<h", content, 254, 0)
    struct.pack_into("<h", content, 252, 0)
    struct.pack_into("<3f", content, 80, 0, 1, 1)
    path.write_bytes(content)
    refused(read_geometry, path, "singular")


def test_a_quaternion_that_is_none(damaged):
    path = damaged("quatern_b", 5.0)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2h", content, 252, 1, 0)
    path.write_bytes(content)
    refused(read_geometry, path, "affine")


def test_images_with_nan_or_infinity_name_how_many(save):
    data = np.zeros((4, 4, 4), np.float32)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    refused(read_volume, save(data), "3 of 64 voxels")
    refused(read_volume, save(np.full((2, 2, 2), 1e300)), "8 of 8")


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (-1.0, "-1"),
        (0.5, r"0\.5"),
        (np.nan, "nan"),
        (np.inf, "inf"),
        (-np.inf, "-inf"),
        (2.0**31, "2.*e"),
        (1e300, "1e"),
    ],
)
def test_labels_that_are_not_whole_numbers_name_them(save, value, match):
    labels = np.ones((3, 3, 3))
    labels[1, 1, 1] = value
    refused(read_label, save(labels), match)


@pytest.mark.parametrize(("dtype", "value"), [("int8", -3), ("int64", 2**40), ("uint64", 2**63), ("uint32", 2**31)])
def test_integers_that_are_no_labels_are_refused(save, dtype, value):
    refused(read_label, save(np.full((2, 2, 2), value, dtype), dtype=dtype), "whole numbers")


def test_labels_of_several_channels_are_refused(save):
    refused(read_label, save(np.zeros((3, 3, 3, 2), np.uint8)), "2 channels")


def test_an_image_larger_than_memory_is_estimated_not_read(save, monkeypatch):
    path = save(np.zeros((64, 64, 64), np.float32))
    monkeypatch.setattr("deepedit.io.values.available_memory", lambda: 2**20)
    refused(read_volume, path, r"64 x 64 x 64 voxels takes about .* GiB")


def test_what_a_header_promises_is_not_allocated(tmp_path):
    header = nib.Nifti2Header()
    header.set_data_dtype(np.float64)
    header["dim"] = (3, 2**20, 2**20, 2**20, 1, 1, 1, 1)
    header["magic"], header["vox_offset"] = header.single_magic, 544
    header["srow_x"], header["srow_y"], header["srow_z"] = np.eye(4)[:3]
    header["sform_code"] = 1
    for name, content in (("image.nii", header.binaryblock), ("image.nii.gz", gzip.compress(header.binaryblock))):
        (tmp_path / name).write_bytes(content + bytes(4))
        refused(read_volume, tmp_path / name, "promises")


def test_free_memory_respects_a_limit_on_the_process(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**30, 2**30))
    assert 0 <= files.available_memory() <= 2**30


def test_free_memory_is_that_of_the_process_where_the_system_does_not_tell_it(monkeypatch):
    monkeypatch.setattr(files.Path, "read_text", lambda self: "MemTotal: 5 kB\n" if self.name == "meminfo" else "1")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert files.available_memory() is None or files.available_memory() >= 0


@pytest.mark.parametrize("version", [1, 2])
def test_free_memory_respects_the_limit_of_a_container_but_for_what_is_kept_of_files(tmp_path, monkeypatch, version):
    names = {
        1: ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),
        2: ("memory.max", "memory.current", "memory.stat", ""),
    }
    limit, used, statistics, prefix = names[version]
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text("1000000\n")
    (tmp_path / used).write_text("999000\n")
    (tmp_path / statistics).write_text(f"anon 5\n{prefix}inactive_file 300000\n{prefix}active_file 200000\n")
    monkeypatch.setattr(files, "CONTROL_GROUP", tmp_path)
    assert files.available_memory() == 501000


REAL = {}


def real_file(ending):
    """The bytes of a small, valid file as nibabel writes it."""
    if ending not in REAL:
        image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([-1.5, 2, 3, 1]))
        content = image.to_bytes()
        REAL[ending] = gzip.compress(content) if ending == ".nii.gz" else content
    return REAL[ending]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ending=st.sampled_from([".nii", ".nii.gz"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=6),
    length=st.floats(0, 1) | st.just(1.0),
)
@example(ending=".nii", flips=[(0.0, 0)], length=1.0)
def test_flipped_bits_and_cut_ends_raise_nothing_but_file_errors(tmp_path, ending, flips, length):
    content = bytearray(real_file(ending))
    for where, bit in flips:
        content[int(where * len(content))] ^= 1 << bit
    path = tmp_path / f"image{ending}"
    path.write_bytes(content[: int(length * len(content))])
    for read in READERS:
        message = ""
        try:
            read(path)
        except FileError as error:
            message = str(error)
        assert "\n" not in message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.integers(0, 347), value=st.binary(min_size=1, max_size=8))
def test_any_bytes_in_the_header_raise_nothing_but_file_errors(tmp_path, field, value):
    content = bytearray(real_file(".nii"))
    content[field : field + len(value)] = value
    path = tmp_path / "image.nii"
    path.write_bytes(content)
    for read in READERS:
        message = ""
        try:
            read(path)
        except FileError as error:
            message = str(error)
        assert "\n" not in message
