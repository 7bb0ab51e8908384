"""Who may speak to a server."""

import pytest

from deepedit.errors import FileError
from deepedit.server import access as module
from deepedit.server.access import Access, accepted_hosts, is_loopback, name_of_host, read_token

TOKEN = "correct-horse-battery"


def test_on_loopback_only_names_of_this_machine_are_taken():
    access = Access(hosts=accepted_hosts("127.0.0.1", []))
    assert all(map(access.knows_host, ["127.0.0.1:8000", "localhost", "[::1]:8000", "LocalHost:1"]))
    assert not any(map(access.knows_host, ["evil.example", "127.0.0.1.evil.example:8000", "", "localhost.evil"]))


def test_further_names_can_be_given_and_elsewhere_all_are_taken_without():
    assert "pacs.example" in accepted_hosts("127.0.0.1", ["PACS.example:80"])
    assert accepted_hosts("0.0.0.0", []) is None
    assert accepted_hosts("0.0.0.0", ["pacs.example"]) == {"pacs.example"}


@pytest.mark.parametrize(
    ("origin", "known"),
    [
        (None, True),
        ("http://127.0.0.1:8000", True),
        ("http://127.0.0.1:8001", False),
        ("http://evil.example", False),
        ("https://viewer.example", True),
        ("https://viewer.example.evil", False),
        ("null", False),
        ("", False),
        ("file://127.0.0.1:8000", False),
    ],
)
def test_pages_of_other_origins_may_not_speak_to_it(origin, known):
    access = Access(origins=frozenset({"https://viewer.example"}))
    assert access.knows_origin(origin, "127.0.0.1:8000") == known


def test_without_a_token_everybody_may_come():
    assert Access().admits(None, "a")


def test_an_address_that_has_shown_the_token_is_remembered_for_an_hour(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    access = Access(TOKEN)
    assert not access.admits(None, "a")
    assert not access.admits("x" * 20, "a")
    assert not access.admits("ä", "a")
    assert not access.is_remembered("a")
    assert access.admits(TOKEN, "a")
    assert access.is_remembered("a")
    assert not access.is_remembered("b")
    now += 3601
    assert not access.is_remembered("a")


def test_a_token_cannot_be_guessed_by_trying(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    access = Access(TOKEN)
    for _ in range(module.ATTEMPTS):
        assert access.may_try("a")
        access.count_wrong("a")
    assert not access.may_try("a")
    assert access.may_try("b")
    now += 61
    assert access.may_try("a")


def test_what_is_remembered_of_addresses_does_not_grow_without_bounds(monkeypatch):
    monkeypatch.setattr(module, "MOST_ADDRESSES", 10)
    access = Access(TOKEN)
    for number in range(100):
        access.count_wrong(str(number))
        access.admits(TOKEN, str(number))
    assert len(access._wrong) == len(access._seen) == 10


def test_a_token_comes_from_a_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    assert read_token(path) == TOKEN


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 20, b"two lines of\ntext here", "ä".encode() * 20])
def test_a_file_that_holds_no_token_is_refused(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(FileError, match="token"):
        read_token(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_token(tmp_path / "token")


def test_addresses_of_this_machine_alone():
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.1", "example.org")] == [False] * 4
    assert name_of_host("[::1]:8000") == "::1"
