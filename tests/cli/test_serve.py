"""deepedit-serve as a process, and what it refuses to begin with."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest

from deepedit_cli import serve
from deepedit_cli.serve import _name_to_enter
from tests.cli.refusals import refused
from tests.server.page_client import ask, opened
from tests.test_package import loaded_by

SERVER = ("fastapi", "uvicorn", "python_multipart", "SimpleITK")


@pytest.fixture
def extra():
    for package in SERVER:
        pytest.importorskip(package, reason=f"{package} is not installed; the extra server brings it")


@pytest.mark.parametrize("package", SERVER)
def test_without_the_extra_one_line_says_what_to_install(here, call, extra, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    refused(call("serve"), package, "is not installed", "pip install 'deepedit[server]'")


def test_what_is_looked_at_first_needs_no_extra():
    loaded = loaded_by("import deepedit_cli.serve, deepedit.server.access")
    assert not {"starlette", "fastapi", "uvicorn", "python_multipart", "SimpleITK"} & loaded


def test_others_come_in_only_if_somebody_said_so(here, call):
    refused(call("serve", "--host=0.0.0.0"), "--token", "--allow-anyone")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--studies=nowhere"], ["--studies nowhere", "no such folder"]),
        (["--studies=short.txt"], ["--studies short.txt", "not a folder"]),
        (["--token=nowhere"], ["nowhere", "no such file"]),
        (["--token=short.txt"], ["short.txt", "at least 16"]),
        (["--allow-origin=viewer.example/page"], ["--allow-origin", "https://viewer.example"]),
        (["--model=nowhere.pt"], ["nowhere.pt"]),
        (["--model=short.txt"], ["short.txt"]),
        (["--port=70000"], ["--port", "'70000' is not a port from 0 to 65535"]),
        (["--memory=1e300"], ["--memory", "at most 1,000,000"]),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_line(here, call, extra, arguments, words):
    (here / "short.txt").write_text("short\n")
    refused(call("serve", *arguments), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--image=nowhere.nii.gz"], ["--image nowhere.nii.gz", "no such file"]),
        (["--image=data"], ["--image data", "is no file"]),
        (["--image=short.txt"], ["--image short.txt", ".nii.gz"]),
        (["--image=broken.nii.gz"], ["broken.nii.gz"]),
        (["--image", "good.nii.gz", "good.nii.gz"], ["2 channels", "the model takes 1"]),
    ],
)
def test_an_image_that_cannot_be_shown_is_refused_in_a_line(here, capfd, extra, arguments, words):
    (here / "short.txt").write_text("short\n")
    (here / "broken.nii.gz").write_text("no image\n")
    status = serve.main(["--model=model.pt", "--port=0", "--device=cpu", *arguments])
    out, err = capfd.readouterr()
    refused((status, out.splitlines(), err.splitlines()), *words)


@pytest.mark.parametrize("arguments", [[], ["--image=good.nii.gz", "--studies=data"]])
def test_there_is_one_image_or_a_folder(here, extra, arguments, capfd):
    status = serve.main(["--model=model.pt", *arguments])
    refused((status, [], capfd.readouterr().err.splitlines()), "--studies", "--image")


@pytest.mark.parametrize(
    ("platform", "display", "begun"), [("linux", "", False), ("linux", ":0", True), ("darwin", "", True)]
)
def test_a_browser_is_opened_where_there_is_a_display(monkeypatch, capfd, platform, display, begun):
    asked = threading.Event()
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setattr("webbrowser.open", lambda url: asked.set())
    serve._open("http://127.0.0.1:8000/?key=abc")
    assert asked.wait(10 if begun else 0.2) == begun
    out = capfd.readouterr().out
    assert "http://127.0.0.1:8000/?key=abc (this address logs in once" in out
    assert ("no browser was found" in out) == (not begun)


def test_a_port_that_is_taken_is_refused_in_a_line(here, call, extra):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(call("serve", f"--port={port}"), f"port {port}", "choose another --port")


@pytest.mark.parametrize(
    ("host", "names", "shown"),
    [
        ("0.0.0.0", [], socket.gethostname()),
        ("::", ["viewer", "other"], "viewer"),
        ("10.0.0.7", ["viewer"], "10.0.0.7"),
        ("::1", [], "[::1]"),
    ],
)
def test_the_address_to_enter_is_one_that_others_can_reach(host, names, shown):
    assert _name_to_enter(host, names) == shown


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM on Windows")
def test_one_image_is_opened_with_a_key_and_nothing_is_written_beside_it(here, extra):
    (here / "token.txt").write_text("a-token-of-this-test")
    before = sorted(here.rglob("*"))
    command = [sys.executable, "-m", "deepedit_cli.serve", "--model=model.pt", "--image=good.nii.gz", "--port=0"]
    hidden = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    }
    arguments = [*command, "--open", "--token=token.txt"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=hidden) as server:
        lines = [server.stdout.readline() for _ in range(4)]
        assert lines[2] == "no browser was found here; open the page yourself\n"
        url, _, key = lines[3].removeprefix("the page: ").split(" ")[0].partition("?key=")
        answer = ask(url, "GET", "/", key=key)
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        about = ask(url, "GET", "/api/", headers={"Cookie": cookie}).json
        assert (about["image"], about["studies"]) == ("good", False)
        asked = json.dumps({"image": "good", "steps": [{"clicks": [["liver", [3, 3, 3]]]}]})
        header, _ = opened(ask(url, "POST", "/api/segment", asked, {"Cookie": cookie}))
        assert header["volumes_ml"].keys() == {"liver", "spleen", "aorta"}
        server.send_signal(signal.SIGTERM)
        assert server.stdout.read() == ""
        assert server.wait() == 0
    assert sorted(here.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM on Windows")
def test_the_process_tells_its_address_and_ends_at_sigterm(here, extra):
    command = [sys.executable, "-m", "deepedit_cli.serve", "--model=model.pt", "--studies=data", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        lines = [server.stdout.readline(), server.stdout.readline()]
        assert lines[0] == "serving model.pt\n"
        assert "open this address in a browser, or enter it in 3D Slicer" in lines[1]
        url = lines[1].partition("serving at ")[2].partition(";")[0]
        with urllib.request.urlopen(f"{url}info/") as answer:
            assert json.load(answer)["datastore"]["total"] == 3
        server.send_signal(signal.SIGTERM)
        rest = server.stdout.read()
        assert server.wait() == 0
    assert rest == ""


@pytest.mark.slow
def test_a_second_server_on_a_folder_is_refused_until_the_first_has_ended_however_it_does(here, call, extra):
    command = [sys.executable, "-m", "deepedit_cli.serve", "--model=model.pt", "--studies=data", "--port=0"]
    first = subprocess.Popen([*command, "--device=cpu"], cwd=here, text=True, stdout=subprocess.PIPE)
    try:
        url = serving_at(first)
        status, _, err = call("serve", "--port=0")
        refused((status, [], err), "data", f"process {first.pid} on", "serves this folder already")
        assert ask(url, "GET", "/info/").status == 200
    finally:
        first.kill()
        first.communicate()
    second = subprocess.Popen([*command, "--device=cpu"], cwd=here, text=True, stdout=subprocess.PIPE)
    try:
        assert ask(serving_at(second), "GET", "/info/").status == 200
    finally:
        second.kill()
        second.communicate()


def serving_at(process):
    """The address that a server tells, once it does."""
    line = next(line for line in process.stdout if line.startswith("serving at "))
    return line.split()[2].rstrip(";")
