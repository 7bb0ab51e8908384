"""Forms with files, as clients send them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException

from deepedit.errors import DeepEditError, FileError
from deepedit.files import one_line
from deepedit.server.uploaded import refuse_sent
from deepedit.server.uploads import DICOM, KeptImages, refuse_bomb, suffix_of

LARGEST_TEXT = 2**24
"""Bytes of a field that is no file: ten thousand clicks and more."""


@dataclass(frozen=True)
class Received:
    """A file that came with a form, for as long as the request lasts.

    Attributes:
        path: where it lies.
        suffix: of its format.
        name: as the client called it, without the folders on its system.
    """

    path: Path
    suffix: str
    name: str


@dataclass(frozen=True)
class Form:
    """The fields and files of a form."""

    data: FormData
    files: dict[str, Received]

    def text(self, name: str) -> str | None:
        """A field that is no file; None without it."""
        value = self.data.get(name)
        return value if isinstance(value, str) else None


@asynccontextmanager
async def open_form(request: Request, kept: KeptImages, fields: Mapping[str, Sequence[str]]) -> AsyncIterator[Form]:
    """The form of a request, with the files of some fields on the disk until the block ends.

    Args:
        kept: in whose folder they lie.
        fields: for each field with a file the endings that are taken; files of other fields are left alone.

    Raises:
        DeepEditError: if the request holds something else than a form, or a form without any of the known fields.
        FileError: for a file of another format, or whose voxels are in another file.
        TooLarge: for one that holds too much.
    """
    content = request.headers.get("content-type", "")
    if not content.lower().startswith(("multipart/form-data", "application/x-www-form-urlencoded")):
        if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
            raise DeepEditError("the request holds no form; send the parameters in a form, as JSON in its field params")
        yield Form(FormData(), {})
        return
    try:
        data = await request.form(max_files=4, max_fields=100, max_part_size=LARGEST_TEXT)
    except (MultiPartException, UnicodeDecodeError, ValueError) as error:
        raise DeepEditError(f"the form of the request cannot be read: {one_line(str(error), 200)}") from error
    if data and not data.keys() & {"params", *fields}:
        raise DeepEditError(f"the form has none of the fields {', '.join(('params', *fields))}")
    with ExitStack() as stack:
        files = {}
        for name, endings in fields.items():
            part = data.get(name)
            if isinstance(part, UploadFile) and part.filename:
                files[name] = await run_in_threadpool(_receive, part, kept, stack, endings)
        try:
            yield Form(data, files)
        finally:
            await data.close()


def _receive(part: UploadFile, kept: KeptImages, stack: ExitStack, endings: Sequence[str]) -> Received:
    called = PureWindowsPath(PurePosixPath(part.filename or "").name).name
    suffix, name = suffix_of(called, endings), one_line(called, 100)
    path = stack.enter_context(kept.receive(part.file, suffix))
    if suffix != DICOM:  # which is put aside as it is
        try:
            refuse_sent(path, suffix, endings)
        except FileError as error:
            raise FileError(str(error).replace(one_line(path), name)) from error
        refuse_bomb(path, suffix, name)
    return Received(path, suffix, called)
