"""Headers that contradict themselves, from the command line: what counts, what is said of it, what is kept."""

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.io.nifti import read_label, read_volume
from deepedit.network.checkpoint import load_model
from tests.cli.bad_files import AFFINE, nifti
from tests.io.two_forms import save_two_forms
from tests.obedient import obedient_model, two_blocks

pytestmark = pytest.mark.usefixtures("here")

QFORM = np.array([[0, -1.0, 0, 12], [1, 0, 0, 3], [0, 0, 1, -7], [0, 0, 0, 1]])
SFORM = np.array([[-1.0, 0, 0, 5], [0, 1, 0, -4], [0, 0, 1, 9], [0, 0, 0, 1]])
FIELDS = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
ROWS = ("srow_x", "srow_y", "srow_z", "xyzt_units")


@pytest.fixture
def obedient(monkeypatch):
    monkeypatch.setattr("deepedit.network.checkpoint.load_model", lambda path, device: obedient_model(radius=0))


@pytest.fixture
def case(here):
    """Write an image of two blocks whose two affines differ."""

    def case(qform_code=1, sform_code=2, name="case.nii", **options):
        data = two_blocks().astype(np.int16)
        return save_two_forms(here / name, data, qform_code, sform_code, forms=(QFORM, SFORM), **options)

    return case


def same_header(one, other):
    one, other = nib.load(one).header, nib.load(other).header
    for field in (*FIELDS, *ROWS):
        assert_array_equal(one[field], other[field])
    assert_array_equal(one["pixdim"][:4], other["pixdim"][:4])


@pytest.mark.usefixtures("obedient")
class TestTwoAffines:
    @pytest.mark.parametrize(
        ("option", "used", "other"), [((), "sform", "qform"), (("--affine=qform",), "qform", "sform")]
    )
    def test_it_is_said_which_one_is_used(self, call, case, option, used, other):
        case()
        status, out, err = call("infer", "--input=case.nii", "--output=seg.nii", *option)
        itk = "; ITK and 3D Slicer take the qform" if used == "sform" else ""
        assert (status, err) == (
            0,
            [
                f"deepedit-infer: note: case.nii: its qform and its sform lie up to 22 voxels apart; the {used} is "
                f"used{itk}; --affine {other} takes that one"
            ],
        )
        assert out[0].startswith("seg.nii: left 0.384 ml, right 0.384 ml")
        assert_array_equal(read_label("seg.nii").data, two_blocks())
        same_header("seg.nii", "case.nii")

    def test_a_mask_of_simpleitk_is_on_its_image(self, call, case, here):
        sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed, which saves the mask")
        case()
        given = np.random.default_rng(0).integers(0, 3, (16, 16, 16)).astype(np.uint8)
        mask = sitk.GetImageFromArray(given.transpose())
        mask.CopyInformation(sitk.ReadImage("case.nii"))
        sitk.WriteImage(mask, "mask.nii.gz")
        for option in ("--affine=sform", "--affine=qform"):
            status, _, err = call(
                *("infer", "--input=case.nii", "--output=seg.nii", "--initial-segmentation=mask.nii.gz"),
                *("--overwrite", option),
            )
            assert status == 0
            assert_array_equal(read_label("seg.nii").data, given)
            on_the_other = any("mask.nii.gz lies on its image's grid by the other affine" in line for line in err)
            assert on_the_other == (option == "--affine=sform")

    @pytest.mark.parametrize(("option", "form"), [("--affine=sform", SFORM), ("--affine=qform", QFORM)])
    def test_a_click_in_mm_falls_where_the_chosen_one_puts_it(self, call, case, option, form):
        case()
        x, y, z, _ = form @ (3, 2, 5, 1)
        click = f"--click=right:{-x},{-y},{z}"
        status, _, _ = call("infer", "--input=case.nii", "--output=seg.nii", click, "--space=lps", option)
        assert status == 0
        changed = np.argwhere(read_label("seg.nii").data != two_blocks())
        assert changed.tolist() == [[3, 2, 5]]

    def test_without_any_a_click_in_mm_is_a_guess_and_is_called_one(self, call, case):
        case(0, 0)
        position = read_volume("case.nii").affine @ (3, 2, 5, 1)
        click = "--click=right:" + ",".join(map(str, position[:3]))
        status, _, err = call("infer", "--input=case.nii", "--output=seg.nii", click, "--space=ras")
        assert (status, len(err)) == (0, 2)
        assert err[0].startswith("deepedit-infer: note: case.nii: its header says neither by a qform nor by an sform")
        assert err[1].startswith("deepedit-infer: note: case.nii: a click in mm, and the image's header says neither")
        status, _, err = call("infer", "--input=case.nii", "--output=again.nii", "--click=right:3,2,5")
        assert (status, len(err)) == (0, 1)
        assert_array_equal(read_label("seg.nii").data, read_label("again.nii").data)


@pytest.mark.usefixtures("obedient")
class TestUnits:
    @pytest.mark.parametrize(("units", "named"), [(1, "metres"), (3, "microns")])
    def test_lengths_are_brought_to_mm_and_the_header_is_kept(self, call, case, units, named):
        case(0, 1, units=units)
        status, out, err = call("infer", "--input=case.nii", "--output=seg.nii")
        assert status == 0
        assert err == [
            f"deepedit-infer: note: case.nii: its header gives lengths in {named}, which are brought to mm; "
            "--units mm takes them as mm"
        ]
        assert out[0].startswith("seg.nii: left 0.384 ml, right 0.384 ml")
        same_header("seg.nii", "case.nii")

    def test_a_header_that_lies_is_overruled(self, call, case, here):
        content = bytearray(case(0, 1).read_bytes())
        content[123] = 3
        (here / "case.nii").write_bytes(content)
        status, out, err = call("infer", "--input=case.nii", "--output=seg.nii", "--units=mm")
        assert (status, err) == (
            0,
            ["deepedit-infer: note: case.nii: its header gives lengths in microns; they are taken as mm"],
        )
        assert out[0].startswith("seg.nii: left 0.384 ml, right 0.384 ml")
        same_header("seg.nii", "case.nii")


@pytest.fixture
def two_forms_to_train_on(here):
    """The dataset's images with a second affine, its labels on that second one."""
    for path in (here / "data/imagesTr").iterdir():
        image = nib.load(path)
        affine = image.affine
        turned = np.diag([-1.0, -1, 1, 1]) @ affine
        data = np.asanyarray(image.dataobj)
        path.unlink()
        save_two_forms(path, data, 1, 2, forms=(turned, affine))
        label = here / "data/labelsTr" / path.name
        nib.save(nib.Nifti1Image(np.asanyarray(nib.load(label).dataobj).copy(), turned), label)


@pytest.mark.usefixtures("two_forms_to_train_on")
def test_the_choice_is_kept_in_the_model(call):
    status, out, err = call("train", "--input=data", "--affine=qform", "--units=mm")
    assert (status, err) == (0, [])
    assert out[0].startswith("note: imagesTr/phantom_00.nii.gz: its qform and its sform lie up to")
    assert out[0].endswith("the qform is used; --affine sform takes that one (and 2 other files likewise)")
    reading = load_model("run/model.pt").plan.reading
    assert (reading.affine, reading.units) == ("qform", "mm")
    _, _, err = call("infer", "--model=run/model.pt", "--input=data/imagesTr/phantom_00.nii.gz", "--output=seg.nii")
    assert "the qform is used" in err[0]
    tuned = ("--output=tuned", "--init-weights=run/model.pt", "--units=header")
    assert call("train", "--input=data", *tuned)[0] == 0
    reading = load_model("tuned/model.pt").plan.reading
    assert (reading.affine, reading.units) == ("qform", "header")


@pytest.mark.usefixtures("two_forms_to_train_on")
def test_labels_on_either_affine_are_evaluated(call):
    for option in ("sform", "qform"):
        status, out, err = call("evaluate", "--input=data", f"--affine={option}", "--overwrite", "--cases=all")
        assert status == 0
        assert all(f"the {option} is used" in line for line in err)
        assert len(err) == 3
        assert any(line.startswith("phantom_02: Dice") for line in out)


def test_bytes_behind_the_stream_and_channels_of_itk_are_read(call, here):
    image = nib.load("good.nii.gz")
    data = np.asanyarray(image.dataobj)
    (here / "long.nii.gz").write_bytes(nifti(data, image.affine) + b"behind")
    status, _, err = call("infer", "--input=long.nii.gz", "--output=seg.nii")
    assert (status, err) == (
        0,
        ["deepedit-infer: note: long.nii.gz: bytes that follow its gzip stream are passed over"],
    )
    (here / "vector.nii.gz").write_bytes(nifti(np.stack([data] * 2, -1)[:, :, :, None], AFFINE))
    status, _, err = call("infer", "--input=vector.nii.gz", "--output=seg2.nii")
    assert (status, len(err)) == (2, 1)
    assert "the image has 2 channel(s) where the model expects 1" in err[0]


def test_all_images_whose_voxels_are_wrong_are_listed_at_once(call, here):
    (here / "data/dataset.json").unlink()
    noise = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    contents = (np.full_like(noise, 7), np.where(noise > 3, np.nan, noise), noise)
    for number, (data, length) in enumerate(zip(contents, (None, None, 9000), strict=True)):
        name = f"phantom_0{number}.nii.gz"
        grid = nib.load(here / "data/labelsTr" / name).affine
        (here / "data/imagesTr" / name).write_bytes(nifti(data, grid)[:length])
    status, _, err = call("train", "--input=data")
    assert status == 2
    assert err[0] == "deepedit-train: data: 3 problems to mend before this dataset can be used:"
    assert sorted(line.split(":")[0].strip() for line in err[1:]) == [f"imagesTr/phantom_0{n}.nii.gz" for n in range(3)]
    told = "\n".join(err)
    for said in ("every voxel has the value 7", "voxels are NaN", "cut short in its gzip stream"):
        assert said in told
    assert not (here / "run/model.pt").exists()
    assert not (here / "run/config.json").exists()
