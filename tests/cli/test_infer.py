"""From arguments to files, mostly with a network whose every answer is known."""

import json

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.inference.session import InteractiveSession
from deepedit.io.click_files import read_clicks
from deepedit.io.nifti import read_label, read_volume, write_label, write_volume
from deepedit.network.checkpoint import save_model
from deepedit.volume import Volume
from deepedit_cli import infer
from tests.inference.networks import random_model
from tests.obedient import obedient_model, two_blocks

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def obedient(monkeypatch):
    """Whatever --model names, it is a network that does what clicks say within 2 voxels."""
    monkeypatch.setattr("deepedit.network.checkpoint.load_model", lambda path, device: obedient_model(radius=2))


@pytest.fixture
def image(tmp_path):
    """Where the obedient network sees two blocks."""
    path = tmp_path / "case.nii.gz"
    write_volume(path, two_blocks(), Volume(two_blocks(), LPS), np.int16)
    return path


@pytest.fixture
def folder(tmp_path):
    """Three images: two good ones, and one that is cut short."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b", "c"):
        write_volume(folder / f"{name}.nii.gz", two_blocks(), Volume(two_blocks(), LPS), np.int16)
    content = (folder / "b.nii.gz").read_bytes()
    (folder / "b.nii.gz").write_bytes(content[: len(content) // 2])
    return folder


@pytest.fixture
def call(capsys):
    """Call the command line; returns its status, lines on standard output, lines on standard error."""

    def call(*arguments):
        status = infer.main(["--device", "cpu", "--amp", "off", "--model", "m.pt", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out.splitlines(), err.splitlines()

    return call


def refused(result, *words):
    status, out, err = result
    assert status == 2
    assert out == []
    assert len(err) == 1
    assert err[0].startswith("deepedit-infer: ")
    for word in words:
        assert str(word) in err[0]


def test_tta_is_a_session_that_does(call, image, tmp_path, monkeypatch):
    model = random_model()
    monkeypatch.setattr("deepedit.network.checkpoint.load_model", lambda path, device: model)
    found = []
    for options in ([], ["--tta"]):
        output = tmp_path / f"seg{len(options)}.nii.gz"
        status, _, err = call("--input", image, "--output", output, "--click", "right:3,4,5", *options)
        assert (status, err) == (0, [])
        session = InteractiveSession(model, amp="off", tta=bool(options))
        session.set_image(image)
        session.add_click((3, 4, 5), "right")
        found.append(read_label(output).data)
        assert_array_equal(found[-1], session.predict())
    assert (found[0] != found[1]).any()


@pytest.mark.usefixtures("obedient")
class TestOneImage:
    def test_without_clicks_it_is_automatic(self, call, image, tmp_path):
        status, out, err = call("--input", image, "--output", tmp_path / "seg.nii.gz")
        assert (status, err) == (0, [])
        assert out[0].startswith(f"{tmp_path / 'seg.nii.gz'}: left 0.384 ml, right 0.384 ml (0 clicks, ")
        result = read_label(tmp_path / "seg.nii.gz")
        assert_array_equal(result.data, two_blocks())
        assert_array_equal(result.affine, LPS)

    def test_clicks_are_replayed_in_order_as_in_a_session(self, call, image, tmp_path):
        clicks = {"space": "ras", "clicks": [{"label": "right", "position": [-4, -8, 8]}]}
        (tmp_path / "clicks.json").write_text(json.dumps(clicks))
        status, out, _ = call(
            *("--input", image, "--output", tmp_path / "seg.nii.gz", "--clicks", tmp_path / "clicks.json"),
            *("--click", "background:12,8,8", "--click", "left:8,1,1", "--save-clicks", tmp_path / "all.json"),
        )
        session = InteractiveSession(obedient_model(radius=2), amp="off")
        session.set_image(image)
        session.add_click((-4, -8, 8), "right", "ras")
        session.add_click((12, 8, 8), "background")
        session.add_click((8, 1, 1), "left")
        assert status == 0
        assert "3 clicks" in out[0]
        assert_array_equal(read_label(tmp_path / "seg.nii.gz").data, session.predict())
        assert read_clicks(tmp_path / "all.json") == session.clicks

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("F.fcsv", "# CoordinateSystem = 0\n1,-4,-8,8,0,0,0,1,1,1,0,right-1,,,2,0\n"),
            ("F.fcsv", "# CoordinateSystem = LPS\n1,4,8,8,0,0,0,1,1,1,0,right,,\n"),
            ("right.csv", "l,p,s\n4,8,8\n"),
            ("F.json", '{"model": "m", "image": "case", "label": null, "right": [[4, 8, 8]], "background": []}'),
            ("F.mrk.json", '{"markups": [{"coordinateSystem": "lps", "controlPoints": [POINT]}]}'),
        ],
    )
    def test_points_as_others_write_them(self, call, image, tmp_path, name, text):
        (tmp_path / name).write_text(text.replace("POINT", '{"label": "right", "position": [4, 8, 8]}'))
        status, out, err = call("--input", image, "--output", tmp_path / "s.nii", "--clicks", tmp_path / name)
        assert (status, err) == (0, [])
        assert "1 click," in out[0]
        changed = np.argwhere(read_label(tmp_path / "s.nii").data != two_blocks())
        assert_array_equal((changed.min(0) + changed.max(0)) / 2, (4, 8, 8))

    @pytest.mark.parametrize(("space", "position"), [("voxel", "4,8,8"), ("ras", "-4,-8,8"), ("lps", "4,8,8")])
    def test_a_click_in_any_space(self, call, image, tmp_path, space, position):
        call("--input", image, "--output", tmp_path / "s.nii", "--click", f"right:{position}", "--space", space)
        changed = np.argwhere(read_label(tmp_path / "s.nii").data != two_blocks())
        assert_array_equal((changed.min(0) + changed.max(0)) / 2, (4, 8, 8))

    def test_a_segmentation_from_elsewhere_is_corrected(self, call, image, tmp_path):
        given = np.roll(two_blocks(), 3, axis=0)
        write_label(tmp_path / "given.nii.gz", given, Volume(given, LPS))
        edit = ("--input", image, "--initial-segmentation", tmp_path / "given.nii.gz")
        call(*edit, "--output", tmp_path / "same.nii.gz")
        assert_array_equal(read_label(tmp_path / "same.nii.gz").data, given)
        call(*edit, "--output", tmp_path / "better.nii.gz", "--click", "background:6,6,6")
        better = read_label(tmp_path / "better.nii.gz").data
        assert better[6, 6, 6] == 0
        assert 0 < (better != given).sum() < 40

    def test_probabilities_and_a_picture(self, call, image, tmp_path):
        status, _, _ = call(
            *("--input", image, "--output", tmp_path / "seg.nii.gz", "--click", "left:12,8,8"),
            *("--probabilities", tmp_path / "p.nii.gz", "--preview", tmp_path / "p.png"),
        )
        assert status == 0
        probabilities = read_volume(tmp_path / "p.nii.gz")
        assert probabilities.data.shape == (3, 16, 16, 16)
        np.testing.assert_allclose(probabilities.data.sum(0), 1, atol=1e-5)
        assert_array_equal(probabilities.data.argmax(0), read_label(tmp_path / "seg.nii.gz").data)
        from PIL import Image

        assert Image.open(tmp_path / "p.png").size > (300, 100)

    def test_an_existing_folder_as_output_takes_the_images_name(self, call, image, tmp_path):
        (tmp_path / "out").mkdir()
        assert call("--input", image, "--output", tmp_path / "out")[0] == 0
        assert (tmp_path / "out" / "case.nii.gz").is_file()

    def test_what_exists_is_not_overwritten_unless_told_to(self, call, image, tmp_path):
        for option in ("--output", "--save-clicks", "--probabilities", "--preview"):
            there = tmp_path / "there.nii.gz"
            there.write_text("precious")
            output = () if option == "--output" else ("--output", tmp_path / "new.nii.gz")
            refused(call("--input", image, *output, option, there), there, "--overwrite")
            assert there.read_text() == "precious"
        assert call("--input", image, "--output", there, "--overwrite")[0] == 0
        assert_array_equal(read_label(there).data, two_blocks())

    def test_an_image_is_never_overwritten(self, call, image):
        refused(call("--input", image, "--output", image, "--overwrite"), image, "image to segment")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--click", "rigth:1,2,3"], ["rigth", "did you mean right"]),
            (["--click", "right:1,2"], ["right:1,2", "spleen:120,85,40"]),
            (["--click", "1,2,3"], ["spleen:120,85,40"]),
            (["--click", "right:1,nan,3"], ["spleen:120,85,40"]),
            (["--click", "right:99,2,3"], ["case.nii.gz", "(99, 2, 3)", "16 x 16 x 16"]),
            (["--clicks", "nowhere.json"], ["nowhere.json", "no such file"]),
            (["--initial-segmentation", "nowhere.nii"], ["nowhere.nii", "no such file"]),
            (["--output", "seg.png"], ["seg.png", ".nii.gz"]),
            (["--probabilities", "p.npy"], ["p.npy", ".nii.gz"]),
            (["--preview", "nowhere/p.png"], ["nowhere", "does not exist"]),
            (["--preview", "new.nii.gz", "--output", "new.nii.gz"], ["twice"]),
            (["--input", "nowhere.nii.gz"], ["nowhere.nii.gz", "no such file"]),
            (["--space", "mni"], ["--space", "voxel"]),
        ],
    )
    def test_what_cannot_be_meant_is_one_line(self, call, image, tmp_path, monkeypatch, arguments, words):
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.iterdir())
        refused(call("--input", image, "--output", "seg.nii.gz", *arguments), *words)
        assert sorted(tmp_path.iterdir()) == before

    def test_a_click_outside_names_its_file(self, call, image, tmp_path):
        (tmp_path / "far.json").write_text('{"right": [[1, 2, 300]]}')
        result = call("--input", image, "--output", tmp_path / "seg.nii.gz", "--clicks", tmp_path / "far.json")
        refused(result, "far.json", "(1, 2, 300)", "outside")

    def test_the_wrong_number_of_channels_names_the_image(self, call, tmp_path):
        path = tmp_path / "two.nii.gz"
        write_volume(path, np.arange(250).reshape(2, 5, 5, 5), Volume(np.zeros((5, 5, 5))))
        refused(call("--input", path, "--output", tmp_path / "seg.nii.gz"), path, "2 channel")


@pytest.mark.usefixtures("obedient")
class TestFolder:
    def test_one_bad_image_does_not_end_the_others(self, call, folder, tmp_path):
        status, out, err = call("--input", folder, "--output", tmp_path / "out")
        assert status == 2
        assert [line.split(":")[0] for line in out] == [str(tmp_path / "out" / f"{name}.nii.gz") for name in "ac"]
        assert "b.nii.gz" in err[0]
        assert err[1].startswith("deepedit-infer: 1 of 3 images failed")
        assert len(err) == 2
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.nii.gz", "c.nii.gz"]

    def test_clicks_and_segmentations_go_with_the_image_of_their_name(self, call, folder, tmp_path):
        (folder / "b.nii.gz").unlink()
        for name in ("clicks", "given"):
            (tmp_path / name).mkdir()
        (tmp_path / "clicks" / "a.json").write_text('{"right": [[4, 8, 8]]}')
        markups = [{"coordinateSystem": "LPS", "controlPoints": [{"label": "left-1", "position": [12, 8, 8]}]}]
        (tmp_path / "clicks" / "c.mrk.json").write_text(json.dumps({"markups": markups}))
        write_label(tmp_path / "given" / "c.nii", np.zeros((16, 16, 16), np.uint8), Volume(two_blocks(), LPS))
        status, _, err = call(
            *("--input", folder, "--output", tmp_path / "out", "--clicks", tmp_path / "clicks"),
            *("--initial-segmentation", tmp_path / "given", "--save-clicks", tmp_path / "saved"),
            *("--preview", tmp_path / "pictures", "--probabilities", tmp_path / "probabilities"),
        )
        assert status == 0
        assert err == [
            f"deepedit-infer: note: 1 of 2 images have no file in {tmp_path / 'given'}, "
            "and so not a segmentation to correct: a"
        ]
        a, c = (read_label(tmp_path / "out" / f"{name}.nii.gz").data for name in "ac")
        assert a[4, 8, 8] == 2
        assert (a != two_blocks()).sum() < 40
        assert c[12, 8, 8] == 1
        assert (c > 0).sum() < 40
        assert read_clicks(tmp_path / "saved" / "c.json")[0].space == "lps"
        assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["a.png", "c.png"]
        assert sorted(path.name for path in (tmp_path / "probabilities").iterdir()) == ["a.nii.gz", "c.nii.gz"]

    def test_what_exists_is_found_before_the_first_image(self, call, folder, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "c.nii.gz").touch()
        refused(call("--input", folder, "--output", tmp_path / "out"), "c.nii.gz", "--overwrite")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["c.nii.gz"]

    def test_a_misnamed_file_of_clicks_is_not_passed_over(self, call, folder, tmp_path):
        (tmp_path / "clicks").mkdir()
        (tmp_path / "clicks" / "aa.json").write_text("{}")
        refused(call("--input", folder, "--output", tmp_path / "o", "--clicks", tmp_path / "clicks"), "aa.json", "name")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--click", "right:1,2,3"], ["--click", "--clicks FOLDER"]),
            (["--clicks", "file.json"], ["--clicks", "folder"]),
            (["--output", "file.json"], ["--output", "file.json", "folder"]),
            (["--output", "images"], ["image to segment"]),
        ],
    )
    def test_files_where_folders_belong(self, call, folder, tmp_path, monkeypatch, arguments, words):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file.json").write_text("{}")
        refused(call("--input", folder, "--output", "out", *arguments), *words)

    def test_a_dataset_is_told_from_a_folder_of_images(self, call, tmp_path):
        (tmp_path / "data" / "imagesTr").mkdir(parents=True)
        refused(call("--input", tmp_path / "data", "--output", tmp_path / "out"), "imagesTr")


def test_a_model_file_with_several_channels_from_one_file_each(call, tmp_path):
    save_model(tmp_path / "model.pt", random_model(channels=2))
    (tmp_path / "images").mkdir()
    channels = np.random.default_rng(0).uniform(0, 2, (2, 12, 14, 16)).astype(np.float32)
    for index, channel in enumerate(channels):
        nib.save(nib.Nifti1Image(channel, LPS), tmp_path / "images" / f"case_{index:04d}.nii.gz")
    session = InteractiveSession.from_checkpoint(tmp_path / "model.pt", "cpu", amp="off")
    session.set_image(channels, LPS)
    model = ("--model", tmp_path / "model.pt")
    assert call(*model, "--input", tmp_path / "images", "--output", tmp_path / "out")[0] == 0
    first = tmp_path / "images" / "case_0000.nii.gz"
    assert call(*model, "--input", first, "--output", tmp_path / "one.nii.gz")[0] == 0
    for path in (tmp_path / "out" / "case.nii.gz", tmp_path / "one.nii.gz"):
        assert_array_equal(read_label(path).data, session.predict())


def test_a_file_that_is_no_model_is_one_line(call, image, tmp_path):
    (tmp_path / "broken.pt").write_bytes(b"not a model")
    for name, word in (("broken.pt", "damaged"), ("missing.pt", "no such model")):
        refused(call("--model", tmp_path / name, "--input", image, "--output", tmp_path / "s.nii"), name, word)
