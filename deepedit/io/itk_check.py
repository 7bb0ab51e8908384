"""Checks of NRRD, MetaImage and Analyze files before SimpleITK reads them.

ITK does not compare checksums, so that a damaged file would be read as another image, and it prints part of what it
finds wrong to the terminal. So what can be wrong with a whole file is looked for here and becomes a `FileError`.
"""

import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deepedit.errors import FileError
from deepedit.files import one_line, open_for_reading
from deepedit.io.nifti_header import NIFTI1_SIZE, check_pair, header_size
from deepedit.io.suffixes import READ, ending

MAX_HEADER_BYTES = 16 * 2**20
CHUNK = 2**20
META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}
FORMAT = {".nrrd": "NRRD", ".seg.nrrd": "NRRD", ".nhdr": "NRRD", ".mha": "MetaImage", ".mhd": "MetaImage"}
AGAIN = "copy or export it again"


@dataclass(frozen=True)
class Header:
    """The fields of a header, and where the voxels are.

    Attributes:
        fields: of Analyze none. Keys of NRRD are in lower case and without blanks.
        start: the first bytes of the file.
        voxels: the file with the voxels; None if they are in several.
        offset: where they begin in it.
    """

    fields: Mapping[str, str]
    start: bytes
    voxels: Path | None = None
    offset: int = 0


def check_header(path: Path) -> Header:
    """The header of a file, once it is found to be of the format that its name says, with its voxels there.

    Raises:
        FileError: if it is not.
    """
    name, end = one_line(path), ending(path.name, READ)
    with open_for_reading(path) as stream:
        try:
            start = stream.read(NIFTI1_SIZE)
            stream.seek(0)
            if not start:
                raise FileError(f"{name}: the file is empty; {AGAIN}")
            if end == ".hdr":
                return _analyze(path, start, name)
            kind = FORMAT[end]
            other = held_format(start)
            if other not in (None, kind) or (kind == "NRRD" and other is None):
                raise FileError(f"{name}: this is not a {kind} file; {_mend(other)}")
            return (_nrrd if kind == "NRRD" else _meta)(path, stream, start, name)
        except OSError as error:
            raise FileError(f"{name}: cannot be read: {error.strerror}") from error


def held_format(start: bytes) -> str | None:
    """The format of a file with these first bytes; None if it is none of those that are read."""
    if start[:7] == b"NRRD000":
        return "NRRD"
    if start.split(b"=")[0].strip() in (b"ObjectType", b"NDims", b"Comment", b"ObjectSubType"):
        return "MetaImage"
    return "NIfTI" if (header_size(start) and start[344:347] == b"n+1") or start[:2] == b"\x1f\x8b" else None


def _mend(held: str | None) -> str:
    named = {"NRRD": ".nrrd", "MetaImage": ".mha", "NIfTI": ".nii or .nii.gz"}
    return f"it seems to hold {held}: name it {named[held]}" if held else AGAIN


def check_voxels(header: Header, name: str) -> None:
    """Raise a FileError if compressed voxels are damaged, or raw ones are cut short."""
    if header.voxels is None:
        return
    fields = header.fields
    gzipped = fields.get("encoding") in ("gzip", "gz")
    deflated = fields.get("CompressedData") == "true"
    with open_for_reading(header.voxels) as stream:
        try:
            stream.seek(header.offset)
            if gzipped or deflated:
                found, taken = _stream_bytes(stream, name)
                if deflated and fields.get("CompressedDataSize") != str(taken):
                    said = one_line(fields.get("CompressedDataSize", "no size"), 20)
                    raise FileError(f"{name}: {taken} bytes of compressed voxels, its header promises {said}; {AGAIN}")
            else:
                found = os.fstat(stream.fileno()).st_size - header.offset
            needed = _promised_bytes(header, name)
            if found < needed:
                raise FileError(f"{name}: cut short: {found} bytes of voxels, its header promises {needed}; {AGAIN}")
        except OSError as error:
            raise FileError(f"{name}: cannot be read: {error.strerror}") from error


def _stream_bytes(stream: BinaryIO, name: str) -> tuple[int, int]:
    """The bytes in a gzip or zlib stream, and those that it takes. Its checksum, which is at its end, is compared."""
    found, start = 0, stream.tell()
    inflate = zlib.decompressobj(zlib.MAX_WBITS + 32)
    try:
        while not inflate.eof:
            waiting = inflate.unconsumed_tail or stream.read(CHUNK)
            if not waiting:
                raise FileError(f"{name}: cut short in its compressed voxels; {AGAIN}")
            found += len(inflate.decompress(waiting, 16 * CHUNK))
    except zlib.error as error:
        raise FileError(f"{name}: damaged ({one_line(error, 80)}); {AGAIN}") from error
    return found, stream.tell() - start - len(inflate.unused_data)


def _analyze(path: Path, start: bytes, name: str) -> Header:
    other = held_format(start)
    if other or header_size(start) != NIFTI1_SIZE:
        raise FileError(f"{name}: this is not the header of an Analyze or NIfTI pair; {_mend(other)}")
    if len(start) < NIFTI1_SIZE:
        raise FileError(f"{name}: cut short in its header; {AGAIN}")
    image = path.with_suffix(".IMG" if path.suffix.isupper() else ".img")
    if not image.is_file():
        raise FileError(f"{name}: its voxels should be in {one_line(image.name)}, which is not beside it; put it there")
    check_pair(start, name)
    return Header({}, start, image)


def _nrrd(path: Path, stream: BinaryIO, start: bytes, name: str) -> Header:
    fields: dict[str, str] = {}
    for line in _lines(stream, name):
        key, separator, value = line.partition(":")
        if separator and not line.startswith("#") and not value.startswith("="):
            fields[key.strip().lower().replace(" ", "")] = value.strip()
        elif not line:
            break
    fields["encoding"] = fields.get("encoding", "").lower()
    elsewhere = fields.get("datafile")
    # Bytes or lines to pass over stand before the voxels of files of other programs only; ITK reads them.
    passed_over = any(fields.get(key, "0") != "0" for key in ("byteskip", "lineskip"))
    if elsewhere is None:
        return Header(fields, start, None if passed_over else path, stream.tell())
    if elsewhere.split()[:1] == ["LIST"] or "%" in elsewhere:
        return Header(fields, start)
    voxels = _beside(path, elsewhere, name)
    return Header(fields, start, None if passed_over else voxels)


def _meta(path: Path, stream: BinaryIO, start: bytes, name: str) -> Header:
    fields: dict[str, str] = {}
    for line in _lines(stream, name):
        key, separator, value = line.partition("=")
        if separator:
            fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            break
    missing = [key for key in ("NDims", "DimSize", "ElementType", "ElementDataFile") if not fields.get(key)]
    if missing:
        raise FileError(f"{name}: its header does not say {missing[0]}; {AGAIN}")
    for key in ("CompressedData", "BinaryData"):
        if key in fields:
            fields[key] = fields[key].lower()
    sizes = fields["DimSize"].split()
    if not all(_is_count(size) and int(size) > 0 for size in sizes) or fields["NDims"] != str(len(sizes)):
        raise FileError(
            f"{name}: its header gives {one_line(fields['NDims'], 20)} sides of "
            f"{one_line(fields['DimSize'], 60)} voxels; it is damaged"
        )
    if fields["ElementType"] not in META_BYTES and fields["ElementType"] not in ("MET_LONG", "MET_ULONG"):
        raise FileError(
            f"{name}: voxels of type {one_line(fields['ElementType'], 40)}; "
            "convert them to real numbers (integers, float32 or float64)"
        )
    elsewhere = fields["ElementDataFile"]
    if elsewhere.upper() == "LOCAL":
        return Header(fields, start, path, stream.tell())
    if elsewhere.split()[0].upper() == "LIST" or "%" in elsewhere:
        return Header(fields, start)
    voxels, skipped = _beside(path, elsewhere, name), fields.get("HeaderSize", "0")
    return Header(fields, start, voxels if _is_count(skipped) else None, int(skipped) if _is_count(skipped) else 0)


def _is_count(text: str) -> bool:
    """Whether a text is a whole number of at most 18 digits; Python refuses to read numbers of thousands of digits."""
    return text.isdecimal() and len(text) <= 18


def _lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """The lines of a header, without what ends them, up to the end of the file."""
    left = MAX_HEADER_BYTES
    while line := stream.readline(left):
        left -= len(line)
        if left <= 0:
            raise FileError(f"{name}: its header does not end; it is damaged")
        yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")


def _beside(path: Path, text: str, name: str) -> Path:
    """The file with the voxels, which a header names relative to itself."""
    voxels = path.parent / text
    with suppress(OSError, ValueError):
        if voxels.is_file():
            return voxels
    raise FileError(
        f"{name}: its voxels should be in {one_line(text, 200)}, which is not there; put it there, "
        "or export the image again in one file"
    )


def _promised_bytes(header: Header, name: str) -> int:
    """The bytes that raw voxels take by a header of MetaImage or of a pair; 0 where ITK itself looks for the end."""
    fields = header.fields
    if not fields:
        return check_pair(header.start, name)
    if "DimSize" not in fields or fields.get("BinaryData", "true") != "true":
        return 0
    channels = fields.get("ElementNumberOfChannels", "1")
    count = math.prod(int(size) for size in fields["DimSize"].split()) * (int(channels) if _is_count(channels) else 1)
    return count * META_BYTES.get(fields["ElementType"], 4)
