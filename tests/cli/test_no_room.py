"""A full disk, and images that are larger than memory: refused in one line, and nothing is left half-written."""

import os
import shutil
import subprocess

import pytest

from tests.cli.bad_files import huge_header, nifti, noise
from tests.cli.refusals import refused

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def disk(here):
    """A function that mounts ``disk``, of so many KiB, or makes it larger."""
    path = here / "disk"
    path.mkdir()

    def mount(kib):
        option = f"remount,size={kib}k" if os.path.ismount(path) else f"size={kib}k"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", path], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("a small disk cannot be mounted here")
        return path

    yield mount
    if os.path.ismount(path):
        subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="only root may mount a small disk")
class TestFullDisk:
    @pytest.mark.parametrize(
        "output", ["--output=disk/seg.nii", "--probabilities=disk/p.nii.gz", "--preview=disk/p.png"]
    )
    def test_of_results(self, call, here, disk, output):
        disk(4)
        (here / "large.nii.gz").write_bytes(nifti(noise(48, 48, 48)))
        extra = () if "--output" in output else ("--output=seg.nii.gz",)
        refused(call("infer", "--input=large.nii.gz", output, *extra), "No space left on device; free some, or choose")
        assert not os.listdir("disk")
        assert not os.path.exists("seg.nii.gz")

    @pytest.mark.parametrize("ending", [".seg.nrrd", ".nrrd", ".mha"])
    def test_of_results_of_other_formats(self, call, here, disk, ending):
        pytest.importorskip("SimpleITK", reason="SimpleITK is not installed, which writes these formats")
        disk(4)
        (here / "large.nii.gz").write_bytes(nifti(noise(48, 48, 48)))
        status, out, err = call("infer", "--input=large.nii.gz", f"--output=disk/seg{ending}")
        assert (status, out) == (2, [])
        # ITK itself prints a line, too, where it writes MetaImage.
        assert err[-1].startswith(f"deepedit-infer: disk/seg{ending}: cannot be written (")
        assert err[-1].endswith("; free some space, or choose another disk; nothing was left behind")
        assert not os.listdir("disk")

    @pytest.mark.parametrize(
        ("kib", "again", "said"),
        [(4, (), "run/cache: prepared cases cannot be"), (100, ("--resume",), "run/last.pt: cannot be written")],
    )
    def test_of_a_run_that_goes_on_when_there_is_room(self, call, disk, kib, again, said):
        folder = disk(kib)
        refused(call("train", "--input=data", "--output=disk/run"), said)
        assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
        disk(8000)
        assert call("train", "--input=data", "--output=disk/run", *again)[0] == 0

    def test_that_holds_an_earlier_result(self, call, here, disk):
        (disk(8) / "seg.nii").write_bytes(b"earlier")
        (here / "large.nii.gz").write_bytes(nifti(noise(48, 48, 48)))
        refused(
            call("infer", "--input=large.nii.gz", "--output=disk/seg.nii", "--overwrite"), "No space left on device"
        )
        assert os.listdir("disk") == ["seg.nii"]
        assert (here / "disk/seg.nii").read_bytes() == b"earlier"

    def test_of_a_phantom(self, call, disk):
        disk(40)
        refused(call("train", "--output=disk/run"), "disk/run/phantom/imagesTr/phantom_00.nii.gz: cannot be written")
        assert os.listdir("disk/run") == []

    def test_of_a_report(self, call, disk):
        disk(4)
        refused(call("evaluate", "--input=data", "--output=disk/report", "--max-clicks=3"), "No space left on device")


class TestMemory:
    """An estimate, and an error before anything is allocated."""

    def test_of_an_image(self, call, here):
        (here / "huge.nii").write_bytes(huge_header(3000))
        os.truncate("huge.nii", 352 + 2 * 3000**3)  # sparse: it takes no space
        result = call("infer", "--input=huge.nii", "--output=seg.nii.gz")
        refused(
            result, "huge.nii: reading 3000 x 3000 x 3000 voxels takes about 176.0 GiB of memory and", "are free; crop"
        )

    def test_of_an_image_at_the_models_spacing(self, call, monkeypatch):
        monkeypatch.setattr("deepedit.inference.memory.available_memory", lambda: 2**10)
        result = call("infer", "--input=good.nii.gz", "--output=seg.nii.gz")
        refused(
            result,
            "good.nii.gz: an image of 16 x 16 x 16 voxels",
            "at the model's spacing, takes about",
            "GiB are free",
        )

    def test_of_the_grid_to_train_on(self, call):
        status, _, err = call("train", "--input=data", "--spacing=0.01")
        assert (status, err[0]) == (2, "deepedit-train: data: 2 problems to mend before this dataset can be used:")
        for line in err[1:]:
            assert "imagesTr/phantom_0" in line
            assert "on the network's grid take about" in line
            assert line.endswith("train with a coarser --spacing, or crop it")
        refused(
            call("train", "--input=data", "--spacing=1e-9"), "--spacing: '1e-9' is not a size from 0.001 to 1000 mm"
        )
