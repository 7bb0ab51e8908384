"""Names that are free text: what becomes of them on disk."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deepedit.errors import DeepEditError
from deepedit.server.names import MAX_BYTES, checked_tag, safe_id

HOSTILE = [
    *("2: CT chest/x", "../..", "..", ".", "/etc/passwd", "C:\\x", "a\0b", "a\nb", "-rf", "--", ".hidden", "._x"),
    *(
        "con",
        "NUL.txt",
        "com1",
        "LPT9.nii",
        "aux .x",
        "x.",
        "x ",
        " x",
        "ct_0000",
        "a" * 300,
        "é" * 150,
        "\ud800",
        "\u202e",
    ),
]
texts = st.text(min_size=1).filter(lambda name: name.strip()) | st.sampled_from(HOSTILE)


@given(texts)
@example("a" * 201)
def test_an_id_is_a_harmless_name_of_a_file(name):
    made = safe_id(name)
    assert 0 < len(made.encode()) <= MAX_BYTES
    assert made.isprintable()
    assert not set(made) & set('/\\<>:"|?*')
    assert made[0] not in ".- "
    assert made[-1] not in ". "
    assert made.split(".")[0].strip().lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
    assert unicodedata.is_normalized("NFC", made)


@given(texts)
def test_an_id_is_its_own_id(name):
    assert safe_id(safe_id(name)) == safe_id(name)


@given(texts, texts)
def test_different_names_become_different_ids(one, other):
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    # One name may be the very id of the other; then an image of another content is refused.
    assert (safe_id(one) == safe_id(other)) == same or safe_id(one) in (one, other)


def test_hostile_names_all_differ():
    assert len({safe_id(name) for name in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("name", ["spleen_22", "Fräulein Müller 3", "肝臓", "a.b.nii", "x-1", "(2) CT"])
def test_a_fit_name_stays(name):
    assert safe_id(name) == name


@pytest.mark.parametrize("name", ["", " ", "\n\t"])
def test_no_name_is_refused(name):
    with pytest.raises(DeepEditError, match="has no name"):
        safe_id(name)


@pytest.mark.parametrize("tag", ["final", "original", "version_1"])
def test_tags(tag):
    assert checked_tag(tag) == tag


@pytest.mark.parametrize(
    "tag", ["", "..", "a/b", "Final", "replaced", "x" * 21, "con", "é", None, ".x", "-x", "final\n"]
)
def test_a_tag_that_is_no_folder_is_refused(tag):
    with pytest.raises(DeepEditError, match="no name of a version"):
        checked_tag(tag)
