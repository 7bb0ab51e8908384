"""Names from outside, which are free text, as names of files."""

import hashlib
import re
import unicodedata

from deepedit.errors import DeepEditError
from deepedit.files import one_line
from deepedit.io.studies_folder import REPLACED, TAG

MAX_BYTES = 200
"""Longest id in UTF-8, so that an ending, a version and a time fit into the 255 bytes of a file's name."""

DIGEST_LETTERS = 16
FORBIDDEN = '/\\<>:"|?*'
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³")}
"""Names that Windows keeps for devices, whatever ending follows them."""


def safe_id(name: str) -> str:
    """An id that is fit to be a file's name on any system, for a name that may be any text.

    A name that is fit already stays as it is, in composed Unicode. Any other loses what a file's name cannot have and
    gets a digest of all of it, so that names which differ keep ids which differ.

    Raises:
        DeepEditError: if the name is empty.
    """
    name = unicodedata.normalize("NFC", name)
    if not name.strip():
        raise DeepEditError("the image has no name; give it one in the viewer and send it again")
    fit = "".join(each if each.isprintable() and each not in FORBIDDEN else "_" for each in name)
    # A dot in front hides a file, a minus makes an option of it, and Windows drops dots and spaces at the end.
    fit = fit.lstrip(".- ").rstrip(". ")
    # Else it would count as one channel of a case.
    numbered = re.fullmatch(r".+_[0-9]{4}", fit)
    if fit == name and not numbered and fit.split(".")[0].strip().lower() not in RESERVED and _size(fit) <= MAX_BYTES:
        return fit
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_LETTERS]
    if not fit or fit.split(".")[0].strip().lower() in RESERVED:
        fit = f"_{fit}"
    return f"{shortened(fit, MAX_BYTES - DIGEST_LETTERS - 1)}-{digest}"


def short(case_id: str) -> str:
    """An id that leaves room for more in a file's name."""
    return case_id if _size(case_id) <= MAX_BYTES else safe_id(case_id)


def shortened(text: str, limit: int) -> str:
    """The longest beginning of a text that takes at most so many bytes in UTF-8."""
    return text.encode("utf-8", "surrogatepass")[:limit].decode("utf-8", "ignore")


def checked_tag(tag: str) -> str:
    """The name of a version of labels.

    Raises:
        DeepEditError: if it could not be a folder's name.
    """
    if not isinstance(tag, str) or not TAG.fullmatch(tag) or tag == REPLACED or tag in RESERVED:
        raise DeepEditError(
            f"tag {one_line(tag, 60)}: is no name of a version of labels; use final, original, "
            "or up to 20 small letters, digits, - and _"
        )
    return tag


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
