"""Who a browser is: the page without a token, cookies that only the page can use, and keys that are good once."""

import json
from http.cookies import SimpleCookie

import pytest

from deepedit.server import cookies, page_files
from deepedit.server.access import Access
from deepedit.server.cookies import Logins
from deepedit.server.dicomweb import DicomStore
from tests.server.live import model_that_obeys, named, serving, write_image
from tests.server.page_client import Page, ask

TOKEN = "a token of more than sixteen signs".replace(" ", "-")
FILES = {"index.html": b"<!doctype html>", "main.js": b"export {};", "page.css": b"a {}", "icon.svg": b"<svg/>"}


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Files of a page, and one beside their folder."""
    folder = tmp_path / "page"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "notes.txt").write_text("of no known type")
    (tmp_path / "secret.js").write_text("secret")
    monkeypatch.setattr(page_files, "FOLDER", folder)


@pytest.fixture
def studies(tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    write_image(studies / "case_0.nii.gz", seed=0)
    return studies


@pytest.fixture(params=["", "/deep/edit"])
def live(page, studies, tmp_path, request):
    with serving(named(model_that_obeys(), tmp_path), studies, Access(TOKEN), request.param, trains=False) as live:
        yield live


def logged_in(live, token=TOKEN, **headers):
    return ask(live.url, "POST", "/login", json.dumps({"token": token}), headers)


def cookie_of(answer):
    """The name, the value and the attributes of the cookie that an answer sets."""
    (found,) = SimpleCookie(answer.headers["Set-Cookie"]).items()
    return found


def headers_with(answer):
    name, cookie = cookie_of(answer)
    return {"Cookie": f"other=1; {name}={cookie.value}"}


def test_the_page_comes_without_a_token_and_nothing_else_does(live):
    for name, content in FILES.items():
        answer = ask(live.url, "GET", f"/page/{name}")
        assert (answer.status, answer.body) == (200, content)
    assert ask(live.url, "GET", "/").body == FILES["index.html"]
    for path in ("/api/", "/api/cases", "/api/image?image=case_0", "/info/", "/openapi.json", "/page", "/logins"):
        assert ask(live.url, "GET", path).status == 401, path


def test_the_pages_files_may_load_nothing_from_elsewhere(live):
    kinds = {
        "index.html": "text/html",
        "main.js": "text/javascript",
        "page.css": "text/css",
        "icon.svg": "image/svg+xml",
    }
    for name, kind in kinds.items():
        headers = ask(live.url, "GET", f"/page/{name}").headers
        assert headers["Content-Type"].split(";")[0] == kind
        policy = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
    assert ask(live.url, "GET", "/").headers["Content-Security-Policy"]
    told = ask(live.url, "GET", "/api/", headers=headers_with(logged_in(live)))
    assert told.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "name", ["../secret.js", "%2e%2e/secret.js", "..%2fsecret.js", "/etc/passwd", "notes.txt", "", "."]
)
def test_no_name_leads_out_of_the_pages_folder(live, name):
    answer = ask(live.url, "GET", f"/page/{name}")
    assert answer.status in (401, 404)
    assert b"secret" not in answer.body


def test_a_cookie_is_as_good_as_the_token(live):
    answer = logged_in(live)
    assert answer.status == 200
    assert TOKEN not in answer.headers["Set-Cookie"]
    page = Page(live.url, {"image": "case_0"}, headers=headers_with(answer))
    assert page.segment([]).any()
    assert ask(live.url, "GET", "/info/", headers=page.headers).status == 200


def test_a_cookie_is_kept_from_scripts_and_from_other_sites_and_covers_the_prefix(live):
    _, cookie = cookie_of(logged_in(live))
    assert cookie["httponly"]
    assert cookie["samesite"].lower() == "strict"
    # Without a path browsers take the folder of the address, as they see it: all that is below the page.
    assert cookie["path"] == ""
    assert not cookie["secure"]
    assert not cookie["domain"]
    assert cookie_of(logged_in(live, **{"X-Forwarded-Proto": "https"}))[1]["secure"]


def test_a_wrong_cookie_is_none(live):
    name, cookie = cookie_of(logged_in(live))
    text, _, signature = cookie.value.rpartition(".")
    number, _, expiry = text.rpartition(".")
    for value in (
        "",
        ".",
        "a.1.b",
        "ä.1.ö",
        f"{text}.{signature[:-1]}",
        f"{number}.{int(expiry) + 1}.{signature}",
        Logins("another token").cookie(),
    ):
        answer = ask(live.url, "GET", "/api/", headers={"Cookie": f"{name}={value}".encode()})
        assert answer.status == 401


def test_a_cookie_ends_after_a_day_and_with_the_token_but_not_with_the_server(monkeypatch):
    logins = Logins(TOKEN)
    header = f"{logins.name}={logins.cookie()}"
    assert Logins(TOKEN).admits(header)
    other = Logins(TOKEN + "x")
    assert not other.admits(header)
    assert not other.admits(header.replace(logins.name, other.name))
    assert cookies.COOKIE_SECONDS == 24 * 3600
    monkeypatch.setattr(cookies, "COOKIE_SECONDS", -1)
    assert not logins.admits(f"{logins.name}={logins.cookie()}")


def test_logging_out_gives_the_cookie_up(live):
    answer = ask(live.url, "POST", "/logout", headers=headers_with(logged_in(live)))
    name, cookie = cookie_of(answer)
    assert name == cookie_of(logged_in(live))[0]
    assert (cookie.value, cookie["max-age"]) == ("", "0")


def test_wrong_tokens_are_counted_and_told_in_a_sentence(live):
    for _ in range(10):
        answer = logged_in(live, "wrong")
        assert (answer.status, answer.detail) == (401, "this is not the server's token")
        assert "Set-Cookie" not in answer.headers
    assert logged_in(live).status == 429
    assert ask(live.url, "GET", "/").status == 200


@pytest.mark.parametrize(
    "body", ["", "[]", "null", '{"token": 7}', '{"token": null}', '{"token": "ä"}', "{", '{"token": "\\ud800"}']
)
def test_what_is_no_token_is_refused(live, body):
    answer = ask(live.url, "POST", "/login", body)
    assert answer.status in (400, 401)
    assert answer.detail
    assert live.said == []


def test_a_key_logs_in_once_and_leaves_the_address(live):
    key = live.service.access.logins.one_time_key()
    answer = ask(live.url, "GET", "/", key=key)
    assert (answer.status, answer.headers["Location"]) == (303, "./")
    assert answer.headers["Cache-Control"] == "no-store"
    assert Page(live.url, {"image": "case_0"}, headers=headers_with(answer)).facts["shape"]
    again = ask(live.url, "GET", "/", key=key)
    assert (again.status, again.headers["Location"]) == (303, "./")
    assert "Set-Cookie" not in again.headers


def test_a_key_is_good_for_ten_minutes_and_wrong_ones_are_counted(live, monkeypatch):
    logins = live.service.access.logins
    assert cookies.KEY_SECONDS == 600
    with monkeypatch.context() as patch:
        patch.setattr(cookies, "KEY_SECONDS", -1)
        assert "Set-Cookie" not in ask(live.url, "GET", "/", key=logins.one_time_key()).headers
    key = logins.one_time_key()
    for _ in range(9):
        ask(live.url, "GET", "/", key="wrong")
    assert "Set-Cookie" not in ask(live.url, "GET", "/", key=key).headers


def test_pages_of_other_addresses_get_nothing_with_the_cookie(live):
    headers = headers_with(logged_in(live))
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null"):
        answer = ask(live.url, "POST", "/api/segment", '{"image": "case_0"}', {**headers, "Origin": origin})
        assert answer.status == 403
        assert ask(live.url, "POST", "/login", json.dumps({"token": TOKEN}), {"Origin": origin}).status == 403
    own = live.url.removesuffix("/deep/edit")
    assert ask(live.url, "POST", "/api/segment", '{"image": "case_0"}', {**headers, "Origin": own}).status == 200


def test_without_a_token_there_is_nothing_to_log_in_to(page, studies, tmp_path):
    with serving(named(model_that_obeys(), tmp_path), studies, trains=False) as live:
        assert not ask(live.url, "GET", "/api/").json["login"]
        answer = logged_in(live, "anything")
        assert answer.status == 200
        assert "Set-Cookie" not in answer.headers
        assert ask(live.url, "GET", "/", key="x").headers["Location"] == "./"
        assert ask(live.url, "POST", "/logout").status == 200


def test_ohif_and_the_store_behind_the_server_want_the_cookie(studies, tmp_path):
    pytest.importorskip("dicomweb_client", reason="dicomweb_client is not installed; the extra dicom brings it")
    pytest.importorskip("highdicom", reason="highdicom is not installed; the extra dicom brings it")
    store = DicomStore("http://127.0.0.1:9/nothing", studies / "kept", 1)
    shown = {"Accept": "text/html,application/xhtml+xml"}
    with serving(named(model_that_obeys(), tmp_path), studies, Access(TOKEN), store=store) as live:
        for path, up in (("/ohif", "./"), ("/ohif/", "../"), ("/ohif/viewer/a", "../../")):
            answer = ask(live.url, "GET", path, headers=shown)
            assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (401, "text/html")
            assert f'<a href="{up}">the page of this server</a>'.encode() in answer.body
        cookie = headers_with(logged_in(live))
        for path in ("/ohif/app-config.js", "/proxy/dicom/qido/studies", "/proxy/dicom/wado/studies/1"):
            assert ask(live.url, "GET", path).detail.startswith("log in first")
            assert ask(live.url, "GET", path, headers=cookie).status in (200, 404, 503)
        assert ask(live.url, "POST", "/proxy/dicom/stow/studies", b"x").status == 401
        assert ask(live.url, "GET", "/ohif/", headers=cookie | shown).status in (200, 404)
