"""A few hundred damaged files for every reader; ``python -m tests.soak.fuzz`` feeds them as many as are asked for."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.soak import fuzz as soak
from tests.soak.fuzz import READERS, fuzz, raise_hang


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_of_damaged_files_raises_the_packages_own_errors_only(reader, tmp_path):
    if reader in ("itk", "dicom"):
        pytest.importorskip("SimpleITK", reason="SimpleITK is not installed, which reads these formats")
    if reader == "dicom":
        pytest.importorskip("highdicom", reason="highdicom is not installed, which reads and writes DICOM SEG")
    before = signal.signal(signal.SIGALRM, raise_hang)
    try:
        count = 40 if reader == "one-bad" else 250
        outcomes, findings = fuzz(reader, range(count), seed=1, folder=tmp_path)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not findings, "\n".join(findings)
    assert outcomes["read"] > 0
    assert outcomes.total() - outcomes["read"] > count / 4


def test_a_case_that_waits_for_ever_is_a_finding(tmp_path, monkeypatch):
    released = threading.Event()

    def waits(folder):
        def case(rng):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(released.wait).result()

        return case

    monkeypatch.setitem(READERS, "clicks", waits)
    monkeypatch.setattr(soak, "LONGEST", 0.2)
    before = signal.signal(signal.SIGALRM, raise_hang)
    try:
        outcomes, findings = fuzz("clicks", range(1), seed=0, folder=tmp_path)
    finally:
        signal.signal(signal.SIGALRM, before)
        released.set()
    assert outcomes == {"unexpected": 1}
    assert "Hang" in findings[0]


def test_what_is_found_is_told(tmp_path, monkeypatch):
    def breaks(folder):
        def case(rng):
            raise IndexError(rng.random())

        return case

    monkeypatch.setitem(READERS, "clicks", breaks)
    outcomes, findings = fuzz("clicks", range(3), seed=0, folder=tmp_path)
    assert outcomes == {"unexpected": 3}
    assert "IndexError" in findings[0]
