"""Orthanc, a DICOM store, on this machine alone, for as long as a test runs."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

for package in ("dicomweb_client", "highdicom"):
    pytest.importorskip(package, reason=f"{package} is not installed; the extra dicom brings it")

from dicomweb_client import DICOMwebClient  # noqa: E402
from requests import RequestException  # noqa: E402

PLUGINS = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
needs_orthanc = pytest.mark.skipif(
    ORTHANC is None or not PLUGINS.exists(), reason="Orthanc is not installed: apt install orthanc orthanc-dicomweb"
)


@contextmanager
def orthanc(folder: Path, files: Sequence) -> Iterator[str]:
    """The URL of the DICOMweb service of a store that has these data sets of pydicom."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "Plugins": [str(PLUGINS)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/dicom-web"
    try:
        client = DICOMwebClient(url)
        end = time.monotonic() + 30
        while True:
            try:
                client.search_for_studies()
                break
            except RequestException:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, "Orthanc does not answer"
                time.sleep(0.1)
        if files:
            client.store_instances(list(files))
        yield url
    finally:
        process.kill()
        process.wait()
