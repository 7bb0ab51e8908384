"""Logging in to a DICOM store: by a password at a real one, and by a bearer token that ends at a stand-in before it."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from deepedit.errors import FileError
from deepedit.io.volumes import read_volume
from deepedit.server.dicomweb import DicomStore
from deepedit.server.errors import Unavailable
from deepedit.server.store_login import StoreLogin, read_login
from deepedit.server.studies import Studies
from deepedit_cli import serve
from tests.io.dicom_files import datasets
from tests.server.live import model_that_obeys, named, serving, shown
from tests.server.orthanc import needs_orthanc, orthanc
from tests.server.studies_folder import LABELS, label_map, segments

requests = pytest.importorskip("requests", reason="requests is not installed, which the client of DICOMweb needs")
USER, PASSWORD = "reader", "pass:wört-of-the-store"
TOKENS = ("ya29.the-first-token", "ya29.the-second-token")
HOP = ("host", "connection", "transfer-encoding", "content-length", "content-encoding")


@pytest.fixture(scope="module")
def series():
    return datasets(shown().astype(np.int16), np.diag([-1.0, -1, 1, 1]))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "login.txt"
    path.write_text(f"{USER}:{PASSWORD}\n")
    return path


@pytest.fixture
def studies(tmp_path):
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


def source(url, studies, login):
    return DicomStore(url, studies / ".deepedit" / "dicomweb", 2**30, login=login)


@contextmanager
def listening(answer):
    """The URL of a server on this machine that answers as a function of its handler does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, content = answer(self)
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def bearer_store(url, good):
    """A store that asks for the bearer tokens in a set, and answers as the one at a URL does."""
    asked = []

    def answer(handler):
        asked.append(handler.headers.get("Authorization"))
        if asked[-1] not in {f"Bearer {each}" for each in good}:
            return 401, {"WWW-Authenticate": "Bearer"}, b"who are you?"
        headers = {key: value for key, value in handler.headers.items() if key.lower() not in (*HOP, "authorization")}
        behind = requests.request(
            handler.command, f"{url.removesuffix('/dicom-web')}{handler.path}", headers=headers, data=handler.body
        )
        kept = {key: value for key, value in behind.headers.items() if key.lower() not in HOP}
        return behind.status_code, kept, behind.content

    with listening(answer) as front:
        yield front, asked


@needs_orthanc
def test_a_store_that_asks_for_a_password_gets_it(tmp_path, studies, series, file):
    uid = str(series[0].SeriesInstanceUID)
    with orthanc(tmp_path / "store", series, (USER, PASSWORD)) as url:
        for login, mend in ((None, "start it with --dicomweb-login"), ("wrong", "renew the file of --dicomweb-login")):
            if login:
                file.write_text(f"{USER}:another")
                login = file
            with pytest.raises(Unavailable, match=f"the DICOM store does not let this server in; {mend}"):
                source(url, studies, login).series()
        file.write_text(f"{USER}:{PASSWORD}\n")
        store = source(url, studies, file)
        found = Studies(studies, LABELS, store=store)
        assert uid in found.samples()
        image = read_volume(found.images(uid)[0])
        label = label_map(tmp_path / "sent.nii.gz", 1, affine=image.affine, shape=image.shape)
        found.submit(uid, label, ".nii.gz", segments("spleen"))
        with serving(named(model_that_obeys(), tmp_path), studies, store=store) as live:
            listed = requests.get(f"{live.url}/proxy/dicom/qido/series", params={"Modality": "SEG"}, timeout=60)
            assert len(listed.json()) == 1
            file.write_text(f"{USER}:another")
            store.login = StoreLogin(file, url)
            refused = requests.get(f"{live.url}/proxy/dicom/qido/series", timeout=60)
        assert (refused.status_code, "WWW-Authenticate" in refused.headers) == (503, False)
        assert refused.json()["detail"].startswith("the DICOM store does not let this server in; renew")
        assert not [line for line in live.said if PASSWORD in line]
    assert not [path for path in studies.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]


@needs_orthanc
def test_a_token_that_has_ended_is_read_anew(tmp_path, studies, series, file):
    uid, good = str(series[0].SeriesInstanceUID), {TOKENS[0]}
    file.write_text(TOKENS[0])
    with orthanc(tmp_path / "store", series) as behind, bearer_store(behind, good) as (url, asked):
        store = source(f"{url}/dicom-web", studies, file)
        found = Studies(studies, LABELS, store=store)
        image = read_volume(found.images(uid)[0])
        good.clear()
        with pytest.raises(Unavailable, match="renew the file of --dicomweb-login") as error:
            store.series()
        assert not any(token in str(each) for token in TOKENS for each in (error.value, error.value.__cause__))
        good.add(TOKENS[1])
        file.write_text(f"{TOKENS[1]}\n")
        before = len(asked)
        label = label_map(tmp_path / "sent.nii.gz", 1, affine=image.affine, shape=image.shape)
        found.submit(uid, label, ".nii.gz", segments("spleen"))
        # The first request was refused and made again; those after it had the new token at once.
        assert asked[before:].count(f"Bearer {TOKENS[0]}") == 1
        assert asked[before:].count(f"Bearer {TOKENS[1]}") == len(asked) - before - 1
        listed = requests.get(f"{behind}/series", params={"Modality": "SEG"}, timeout=60)
        assert len(listed.json()) == 1
        assert TOKENS[1] not in repr(vars(store))
        good.clear()
        file.unlink()
        with pytest.raises(Unavailable, match=r"wants to be logged in to anew: .*login\.txt: no such file"):
            store.fetch("1.2.3")


def test_a_body_is_sent_again_with_the_new_token(file):
    seen = []

    def answer(handler):
        seen.append((handler.headers["Authorization"], handler.body))
        return (200 if seen[-1][0].endswith(TOKENS[1]) else 401), {}, b"said"

    with listening(answer) as url:
        file.write_text(TOKENS[0])
        login = StoreLogin(file, url)
        file.write_text(TOKENS[1])
        answered = requests.post(f"{url}/studies", data=b"voxels", auth=login, timeout=60)
    assert (answered.status_code, answered.content) == (200, b"said")
    assert seen == [(f"Bearer {each}", b"voxels") for each in TOKENS]


def test_nobody_else_is_told_where_the_store_sends_a_request_on(file):
    told = []

    def elsewhere(handler):
        told.append(handler.headers.get("Authorization"))
        return 401, {}, b""

    with listening(elsewhere) as other, listening(lambda handler: (302, {"Location": f"{other}/x"}, b"")) as url:
        assert requests.get(f"{url}/studies", auth=StoreLogin(file, url), timeout=60).status_code == 401
        file.write_text("new:password")
        assert requests.get(f"{other}/y", auth=StoreLogin(file, url), timeout=60).status_code == 401
    assert told == [None, None]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("reader:secret", "Basic cmVhZGVyOnNlY3JldA=="),
        ("reader:a secret: two words\r\n", "Basic cmVhZGVyOmEgc2VjcmV0OiB0d28gd29yZHM="),
        ("reader:", "Basic cmVhZGVyOg=="),
        ("ya29.token\n", "Bearer ya29.token"),
    ],
)
def test_one_line_is_a_password_or_a_token(file, text, header):
    file.write_bytes(text.encode())
    assert read_login(file) == header


@pytest.mark.parametrize(
    "text",
    ["", "\n", ":secret", "Bearer secret", "secret\nsecret", "a:secret\n\n", "sécret", "a:se\0cret", "secret" * 20000],
)
def test_what_is_neither_is_refused_and_not_repeated(file, text):
    file.write_text(text)
    with pytest.raises(FileError, match=r"login\.txt: does not log in to a DICOM store; write one line") as error:
        read_login(file)
    assert "cret" not in str(error.value)


def test_the_command_names_what_is_wrong_with_a_login(tmp_path, studies, file, capsys):
    def refused(*arguments):
        assert serve.main([f"--model={tmp_path / 'no.pt'}", f"--studies={studies}", *arguments]) == 2
        lines = capsys.readouterr()
        return [*lines.out.splitlines(), *lines.err.splitlines()]

    store = "--dicomweb=http://localhost:9/dicom-web"
    assert "--dicomweb URL" in refused(f"--dicomweb-login={file}")[-1]
    assert "no such file" in refused(store, f"--dicomweb-login={tmp_path / 'none'}")[-1]
    file.write_text("Bearer secret")
    assert "write one line" in refused(store, f"--dicomweb-login={file}")[-1]
    file.write_text("reader:secret")
    lines = refused("--dicomweb=http://store.example/dicom-web", f"--dicomweb-login={file}")
    assert "sent without encryption" in lines[0]
    assert not any("secret" in line for line in lines)
    assert "no.pt" in lines[-1]
    assert not any("encryption" in line for line in refused(store, f"--dicomweb-login={file}"))
