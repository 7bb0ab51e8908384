"""Atomic replacement and hostile JSON."""

import errno
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepedit.errors import DatasetError, FileError
from deepedit.files import make_folder, one_line, read_json, replace_atomically


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "result.nii"
    path.write_bytes(b"old")
    with replace_atomically(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_what_fails_half_way_leaves_nothing_behind(tmp_path, error):
    path = tmp_path / "result.nii"
    path.write_bytes(b"old")
    expected = FileError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), replace_atomically(path) as stream:  # noqa: PT012
        stream.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named(tmp_path):
    match = r"result\.nii: cannot be written: No space left.*nothing was left"
    with pytest.raises(FileError, match=match), replace_atomically(tmp_path / "result.nii"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failed_write_under_torch_is_named(tmp_path):
    def save(stream):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 62272 vs 62176")

    with pytest.raises(FileError, match="No space left"), replace_atomically(tmp_path / "model.pt") as stream:
        save(stream)
    with pytest.raises(RuntimeError, match="its own"), replace_atomically(tmp_path / "model.pt"):
        raise RuntimeError("its own")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    make_folder(tmp_path / "new" / "newer")
    make_folder(tmp_path / "new" / "newer")
    for path, match in (
        (tmp_path / "file", "there is a file"),
        (tmp_path / "file/x", "there is a file"),
        ("a\0", "null"),
    ):
        with pytest.raises(FileError, match=match):
            make_folder(path)


def test_folders_devices_and_missing_folders_are_not_written(tmp_path):
    for path, match in ((tmp_path, "not a regular file"), ("/dev/null", "not a regular"), (tmp_path / "a/b", "folder")):
        with pytest.raises(FileError, match=match), replace_atomically(path):
            pytest.fail("should not have opened")
    assert not list(tmp_path.iterdir())


def test_a_link_stays_a_link_and_permissions_follow_the_umask(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    before = os.umask(0o027)
    try:
        with replace_atomically(tmp_path / "link") as stream:
            stream.write(b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "not valid JSON"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[]", "object in braces"),
        (b"3", "object in braces"),
        (b'{"a": "' + b"x" * 2**24 + b'"}', "larger than"),
    ],
)
def test_json_that_is_malformed_or_hostile(tmp_path, content, match):
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(DatasetError, match=match) as caught:
        read_json(tmp_path / "dataset.json", DatasetError)
    assert "\n" not in str(caught.value)


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": [1, 2]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, 2]}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=40) | st.text(alphabet='{}[]":,0123456789.eE-+ntfaul\\ ', max_size=40).map(str.encode)
)
def test_any_bytes_are_an_object_or_a_file_error(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    message = ""
    try:
        assert isinstance(read_json(tmp_path / "a.json"), dict)
    except FileError as error:
        message = str(error)
    assert "\n" not in message


@given(st.text())
def test_text_from_outside_fits_on_a_line(text):
    assert one_line(text).isprintable()
    assert len(one_line(text, 20)) <= 20
