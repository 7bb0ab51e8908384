"""``deepedit-serve``: a page to click on, and a server that 3D Slicer's module MONAILabel speaks to."""

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deepedit.errors import DeepEditError, FileError
from deepedit.files import one_line
from deepedit_cli.common import Parser, UsageError, parser, run, say
from deepedit_cli.options import SHARED, add_shared, gibibytes, port

PROGRAM = "deepedit-serve"
DESCRIPTION = "Serve models to browsers, and to 3D Slicer by MONAI Label's protocol."
EXAMPLES = """\
examples:
  deepedit-serve --model run/model.pt --image case.nii.gz --open
  deepedit-serve --model run/model.pt --studies Task09_Spleen
  deepedit-serve --model run/model.pt --studies cases \\
      --dicomweb http://localhost:8042/dicom-web
  deepedit-serve --model run/model.pt --studies cases --host 0.0.0.0 \\
      --token token.txt
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run(PROGRAM, serve, argv)


def command_line() -> Parser:
    made = parser(PROGRAM, DESCRIPTION, EXAMPLES)
    files = made.add_argument_group("input and output")
    several = f"{SHARED['--model']['help']}; may be given several times"
    add_shared(files, "--model", action="append", help=several)
    images = files.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "--studies", type=Path, metavar="FOLDER", help="folder of images, and of label maps where there are some"
    )
    images.add_argument("--image", type=Path, nargs="+", metavar="FILE", help="one image, or a file for each channel")

    store = made.add_argument_group("DICOM store")
    store.add_argument(
        "--dicomweb", metavar="URL", help="DICOMweb service of a store, whose series are then cases, too; for OHIF"
    )
    store.add_argument(
        "--dicomweb-login",
        type=Path,
        metavar="FILE",
        help="file with one line that logs in to the store: user:password, or a bearer token",
    )
    store.add_argument(
        "--cache",
        type=gibibytes,
        default=20.0,
        metavar="GIB",
        help="space on disk for series that are fetched from the store (default: %(default)g)",
    )

    address = made.add_argument_group("address and access")
    address.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="NAME",
        help="address to listen on (default: %(default)s, which is reached from this machine alone)",
    )
    address.add_argument(
        "--port",
        type=port,
        default=8000,
        metavar="N",
        help="port to listen on; 0 takes one that is free (default: %(default)s)",
    )
    who = address.add_mutually_exclusive_group()
    who.add_argument("--token", type=Path, metavar="FILE", help="file with one line, the password of all users")
    who.add_argument("--allow-anyone", action="store_true", help="ask for no password, whatever the address")
    address.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name that this machine is called by; may be given several times",
    )
    address.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="origin of web pages that may use the server; may be given several times",
    )
    address.add_argument("--open", action="store_true", help="open the page in a browser")

    training = made.add_argument_group("training")
    training.add_argument("--no-train", action="store_true", help="do not let users fine-tune the model")
    training.add_argument("--adopt", action="store_true", help="take a fine-tuned model without having compared it")

    speed = made.add_argument_group("speed and memory")
    add_shared(speed, "--device")
    speed.add_argument(
        "--memory",
        type=gibibytes,
        default=8.0,
        metavar="GIB",
        help="memory for the images that are being worked on (default: %(default)g)",
    )
    return made


def serve(argv: Sequence[str] | None) -> None:
    chosen = command_line().parse_args(argv)
    _check(chosen)
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import SimpleITK  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise DeepEditError(f"{error.name} is not installed; pip install 'deepedit[server]' brings it") from error
    from deepedit.server.access import Access, accepted_hosts, read_token
    from deepedit.server.app import create_app
    from deepedit.server.ohif import ohif_folder
    from deepedit.server.one_image import folder_of
    from deepedit.server.service import Service, load_models

    access = Access(
        read_token(chosen.token) if chosen.token else None,
        accepted_hosts(chosen.host, chosen.allow_host),
        frozenset(map(_origin, chosen.allow_origin)),
    )
    memory = int(chosen.memory * 2**30)
    store = _store(chosen)
    models = load_models(chosen.model, chosen.studies, chosen.device, say)
    with ExitStack() as stack:
        listening = stack.enter_context(_listen(chosen.host, chosen.port))
        studies, trains = chosen.studies, not chosen.no_train
        if studies is None:
            scratch = folder_of(chosen.image, models[0][1].plan)
            stack.callback(scratch.close)
            studies, trains = scratch.path / "studies", False
        stores = chosen.studies is not None
        service = Service(models, studies, access, memory, trains, chosen.adopt, chosen.device, say, stores, store)
        stack.callback(service.close)
        config = uvicorn.Config(
            create_app(service),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        port = listening.getsockname()[1]
        url = f"http://{_name_to_enter(chosen.host, chosen.allow_host)}:{port}/"
        say(f"serving at {url}; open this address in a browser, or enter it in 3D Slicer's module MONAILabel")
        if store is not None and ohif_folder() is not None:
            say(f"OHIF is at {url}ohif/")
        if chosen.open:
            _open(url if access.logins is None else f"{url}?key={access.logins.one_time_key()}")
        # The server ends by itself at SIGTERM, and then passes the signal on, which would make the end an error.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        uvicorn.Server(config).run(sockets=[listening])


def _open(url: str) -> None:
    """Open a page in a browser; it is answered once the server runs."""
    import webbrowser

    # Without a display a browser of text might be started, in the very terminal that this command runs in.
    seen = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    # Some browsers are waited for until they end.
    if seen:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    else:
        say("no browser was found here; open the page yourself")
    once = " (this address logs in once, within ten minutes)" if "?key=" in url else ""
    say(f"the page: {url}{once}")


def _store(chosen: argparse.Namespace) -> Any:
    """The DICOM store that is named, if one is."""
    if chosen.dicomweb is None:
        return None
    from deepedit.io.studies_folder import FETCHED
    from deepedit.server.access import is_loopback
    from deepedit.server.dicomweb import DicomStore

    parts = urlsplit(chosen.dicomweb)
    if parts.username or parts.password:  # which everybody on the machine could read in the list of processes
        raise UsageError(
            "--dicomweb: has a name and a password in it, which --dicomweb-login takes from a file; it is no address "
            "as http://localhost:8042/dicom-web"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--dicomweb {one_line(chosen.dicomweb)}: is no address as http://localhost:8042/dicom-web")
    if chosen.dicomweb_login and parts.scheme == "http" and not is_loopback(parts.hostname):
        say("note: what --dicomweb-login holds is sent without encryption; use an address that begins with https")
    limit = int(chosen.cache * 2**30)
    return DicomStore(chosen.dicomweb, chosen.studies / FETCHED, limit, say, chosen.dicomweb_login)


def _name_to_enter(host: str, names: Sequence[str]) -> str:
    """What others call the server that listens on an address: a name of this machine if it listens on all of them."""
    if host in ("", "0.0.0.0", "::"):
        return names[0] if names else socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _listen(host: str, port: int) -> socket.socket:
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # Connections inherit it. Else the end of an answer waits until the client has confirmed the beginning, which
        # takes 40 ms on a connection that is used again.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise DeepEditError(f"port {port} of {host} cannot be used: {error.strerror}; choose another --port") from error


def _check(chosen: argparse.Namespace) -> None:
    """Refuse what would be open to others by mistake, or fail later."""
    from deepedit.server.access import is_loopback

    if not is_loopback(chosen.host) and not chosen.token and not chosen.allow_anyone:
        raise UsageError(
            f"--host {chosen.host} can be reached from other machines: give --token FILE, or --allow-anyone on a "
            "network where everybody may see the images"
        )
    if chosen.dicomweb is not None and chosen.studies is None:
        raise UsageError("--dicomweb: give --studies FOLDER as well, where series are kept and labels are submitted to")
    if chosen.dicomweb is None and chosen.dicomweb_login is not None:
        raise UsageError("--dicomweb-login: give --dicomweb URL as well, the address of the store")
    if chosen.studies is not None and not chosen.studies.is_dir():
        problem = "is not a folder" if chosen.studies.exists() else "no such folder; check the path"
        raise FileError(f"--studies {one_line(chosen.studies)}: {problem}")


def _origin(text: str) -> str:
    parts = urlsplit(text.strip().lower())
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise UsageError(f"--allow-origin {text}: is no origin, as https://viewer.example")
    return f"{parts.scheme}://{parts.netloc}"


if __name__ == "__main__":
    sys.exit(main())
