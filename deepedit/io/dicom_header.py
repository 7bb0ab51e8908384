"""The header of a DICOM file: the few elements that say where a slice lies and how its voxels are stored.

No other element is looked at: what a file says of a patient is passed over, and so cannot get into a message or a file.
Source: DICOM PS3.5, section 7 and annex A, https://dicom.nema.org/medical/dicom/current/output/html/part05.html.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deepedit.errors import FileError
from deepedit.files import one_line, open_for_reading

AGAIN = "export the series again"
PREAMBLE = 128
MAGIC = b"DICM"
IMPLICIT, BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
NATIVE = (IMPLICIT, "1.2.840.10008.1.2.1", BIG_ENDIAN)
"""Transfer syntaxes in which the voxels are not compressed."""

LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
"""Value representations whose length takes four bytes."""

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
FRAME_GROUPS, FLOATS, DOUBLES, VOXELS = 0x52009229, 0x7FE00008, 0x7FE00009, 0x7FE00010
UNKNOWN_LENGTH = 0xFFFFFFFF
MAX_DEPTH = 32
MAX_TEXT = 2**16

SYNTAX = 0x00020010
TEXTS = {
    0x00080008: "image_type",
    0x00080016: "sop_class",
    0x00080018: "instance",
    0x00080060: "modality",
    0x00180050: "slice_thickness",
    0x00180088: "spacing_between_slices",
    0x0020000E: "series",
    0x00200011: "series_number",
    0x00200032: "position",
    0x00200037: "orientation",
    0x00200052: "frame_of_reference",
    0x00280004: "photometric",
    0x00280008: "frames",
    0x00280030: "pixel_spacing",
    0x00281052: "intercept",
    0x00281053: "slope",
    0x00282110: "lossy",
}
NUMBERS = {
    0x00280002: "samples",
    0x00280010: "rows",
    0x00280011: "columns",
    0x00280100: "bits_allocated",
    0x00280101: "bits_stored",
    0x00280102: "high_bit",
    0x00280103: "signed",
}
MODALITY_LUT = 0x00283000


@dataclass(frozen=True)
class SliceHeader:
    """What one file says. Texts are as they stand there, without the blanks around them; None where there are none.

    Attributes:
        path: the file.
        syntax: the transfer syntax.
        samples, rows, columns, bits_allocated, bits_stored, high_bit, signed: numbers of the image pixel module.
        has_lut: whether values are mapped by a table.
        has_frame_groups: whether it is one of the enhanced formats, in which one file holds many slices.
        voxels: bytes of the voxels; None if there are none, and -1 if they are compressed.
    """

    path: Path
    syntax: str
    voxels: int | None = None
    has_lut: bool = False
    has_frame_groups: bool = False
    image_type: str | None = None
    sop_class: str | None = None
    instance: str | None = None
    modality: str | None = None
    slice_thickness: str | None = None
    spacing_between_slices: str | None = None
    series: str | None = None
    series_number: str | None = None
    position: str | None = None
    orientation: str | None = None
    frame_of_reference: str | None = None
    photometric: str | None = None
    frames: str | None = None
    pixel_spacing: str | None = None
    intercept: str | None = None
    slope: str | None = None
    lossy: str | None = None
    samples: int | None = None
    rows: int | None = None
    columns: int | None = None
    bits_allocated: int | None = None
    bits_stored: int | None = None
    high_bit: int | None = None
    signed: int | None = None


def is_dicom(path: str | os.PathLike) -> bool:
    """Whether a file can be read and begins as those of DICOM do."""
    try:
        with open_for_reading(path) as stream:
            return stream.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC
    except (FileError, OSError):
        return False


def read_header(path: Path) -> SliceHeader:
    """The header of a DICOM file; its voxels are not read.

    Raises:
        FileError: if the file cannot be read or is damaged.
    """
    name = one_line(path)
    with open_for_reading(path) as stream:
        try:
            return _Parser(stream, name).header(path)
        except struct.error as error:
            raise FileError(f"{name}: cut short in its header; {AGAIN}") from error
        except OSError as error:
            raise FileError(f"{name}: cannot be read: {error.strerror}") from error


class _Parser:
    """Walks over the elements of a file."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream, self.name = stream, name
        self.size = os.fstat(stream.fileno()).st_size
        self.order, self.implicit = "<", False

    def header(self, path: Path) -> SliceHeader:
        self.stream.seek(PREAMBLE + len(MAGIC))
        syntax = self._meta()
        if syntax == DEFLATED:
            raise FileError(f"{self.name}: its header is compressed (deflated); export it without")
        self.order, self.implicit = ">" if syntax == BIG_ENDIAN else "<", syntax == IMPLICIT
        found: dict[str, object] = {"path": path, "syntax": syntax}
        while self.stream.tell() < self.size:
            tag, vr, length = self._element()
            if tag in (VOXELS, FLOATS, DOUBLES):
                known = length != UNKNOWN_LENGTH
                if known and self.stream.tell() + length > self.size:
                    raise FileError(f"{self.name}: cut short in its voxels; {AGAIN}")
                # Voxels that are real numbers have elements of their own, which count as none: no image is stored so.
                found["voxels"] = None if tag != VOXELS else length if known else -1
                break
            if tag in TEXTS:
                found[TEXTS[tag]] = self._value(tag, length).decode("latin-1").strip(" \0") or None
            elif tag in NUMBERS:
                value = self._value(tag, length)
                if len(value) != 2:
                    raise FileError(f"{self.name}: its {NUMBERS[tag]} is no number of two bytes; {AGAIN}")
                found[NUMBERS[tag]] = struct.unpack(f"{self.order}H", value)[0]
            else:
                found["has_lut"] = found.get("has_lut", False) or tag == MODALITY_LUT
                found["has_frame_groups"] = found.get("has_frame_groups", False) or tag == FRAME_GROUPS
                self._skip(vr, length)
        return SliceHeader(**found)

    def _meta(self) -> str:
        """The transfer syntax, by the first group, which is written in one way in all files."""
        syntax = None
        while self.stream.tell() < self.size:
            start = self.stream.tell()
            group = struct.unpack("<H", self.stream.read(2))[0]
            self.stream.seek(start)
            if group != 2:
                break
            tag, vr, length = self._element()
            if tag == SYNTAX:
                syntax = self._value(tag, length).decode("latin-1").strip(" \0")
            else:
                self._skip(vr, length)
        if not syntax:
            raise FileError(f"{self.name}: does not say how it is encoded (its transfer syntax); {AGAIN}")
        return syntax

    def _element(self) -> tuple[int, bytes, int]:
        """Tag, value representation and length of the next element; the stream is then at its value."""
        group, element = struct.unpack(f"{self.order}HH", self.stream.read(4))
        tag = group << 16 | element
        if self.implicit or group == 0xFFFE:
            return tag, b"", struct.unpack(f"{self.order}I", self.stream.read(4))[0]
        vr = self.stream.read(2)
        if vr in LONG:
            return tag, vr, struct.unpack(f"{self.order}2xI", self.stream.read(6))[0]
        if not (vr.isalpha() and vr.isupper()):
            raise FileError(f"{self.name}: its header is damaged; {AGAIN}")
        return tag, vr, struct.unpack(f"{self.order}H", self.stream.read(2))[0]

    def _value(self, tag: int, length: int) -> bytes:
        if length > MAX_TEXT or len(value := self.stream.read(length)) < length:
            raise FileError(f"{self.name}: its element {tag >> 16:04x},{tag & 0xFFFF:04x} is damaged; {AGAIN}")
        return value

    def _skip(self, vr: bytes, length: int, depth: int = 0) -> None:
        if length != UNKNOWN_LENGTH:
            if self.stream.tell() + length > self.size:
                raise FileError(f"{self.name}: cut short in its header; {AGAIN}")
            # Buffered bytes are kept where a value is short, as most are.
            self.stream.seek(length, os.SEEK_CUR)
            return
        if depth > MAX_DEPTH:
            raise FileError(f"{self.name}: its header is nested too deeply; {AGAIN}")
        # A sequence of unknown type is written without value representations.
        before, self.implicit = self.implicit, self.implicit or vr == b"UN"
        while (found := self._element())[0] != SEQUENCE_END:
            tag, _, length = found
            if tag != ITEM:
                raise FileError(f"{self.name}: its header is damaged in a sequence; {AGAIN}")
            if length != UNKNOWN_LENGTH:
                self._skip(b"", length)
                continue
            while (found := self._element())[0] != ITEM_END:
                self._skip(found[1], found[2], depth + 1)
        self.implicit = before
