"""deepedit-serve as a process, and what it refuses to begin with."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from deepedit_cli.serve import _name_to_enter
from tests.cli.refusals import refused

SERVER = ("fastapi", "uvicorn", "python_multipart", "SimpleITK")


@pytest.fixture
def extra():
    for package in SERVER:
        pytest.importorskip(package, reason=f"{package} is not installed; the extra server brings it")


@pytest.mark.parametrize("package", SERVER)
def test_without_the_extra_one_line_says_what_to_install(here, call, extra, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    refused(call("serve"), package, "is not installed", "pip install 'deepedit[server]'")


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
    ],
)
def test_what_cannot_be_served_is_refused_in_a_line(here, call, extra, arguments, words):
    (here / "short.txt").write_text("short\n")
    refused(call("serve", *arguments), *words)


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
