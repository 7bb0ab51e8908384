"""MONAI Label's own client, with all that it asks and all that it asks wrongly."""

import http.client
import json
import time
from dataclasses import replace
from urllib.parse import quote_plus, urlsplit

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from deepedit.network.checkpoint import Model
from deepedit.plan import Intensity, Labels
from deepedit.server.access import Access
from tests.obedient import ObedientNetwork
from tests.server.live import model_that_obeys, named, serving, shown, truth, write_image

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
client = pytest.importorskip(
    "monailabel.client.client", reason="monailabel or what it needs is missing: pip install --no-deps monailabel==0.8.5"
)

FORM = "application/x-www-form-urlencoded"
TOKEN = "a-token-of-many-signs"
RANKS = {"left": 1, "right lung": 2}


@pytest.fixture
def studies(tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    write_image(studies / "case_1.nii.gz", "LPS")
    write_image(studies / "case_2.nii.gz", "oblique")
    return studies


@pytest.fixture
def live(studies, tmp_path):
    with serving(named(model_that_obeys(), tmp_path), studies) as live:
        yield live


@pytest.fixture
def user(live, tmp_path):
    return client.MONAILabelClient(live.url, str(tmp_path), "user-xyz")


def refusal(call, *arguments, **options):
    """The status and the sentence with which a call is refused."""
    with pytest.raises(client.MONAILabelClientException) as raised:
        call(*arguments, **options)
    status, _, response = raised.value.msg.partition("; Response: ")
    detail = json.loads(response)
    assert detail.keys() - {"lost"} == {"detail"}
    sentence = detail["detail"]
    assert isinstance(sentence, str)
    assert "Traceback" not in sentence
    assert len(sentence.splitlines()) == 1
    return int(status.removeprefix("Status: ")), sentence


def asked(live, method, path, body=None, **headers):
    """The response to a request that no client makes, and its body."""
    connection = http.client.HTTPConnection(urlsplit(live.url).netloc)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return response, response.read()


def labelled(folder, classes, like, suffix=".nii.gz"):
    """A label map on the grid of an image, as a viewer exports it."""
    path = folder / f"export{suffix}"
    image = sitk.GetImageFromArray(np.ascontiguousarray(classes.T))
    image.CopyInformation(sitk.ReadImage(str(like)))
    sitk.WriteImage(image, str(path))
    return path


def segments(*names):
    return {"label_info": [{"name": name, "idx": 2 * place + 5} for place, name in enumerate(names)]}


# Who may come


def test_without_a_token_nobody_logs_in(user):
    assert user.auth_enabled() is False


def test_the_token_is_the_password_of_everybody(studies, tmp_path):
    with serving(named(model_that_obeys(), tmp_path), studies, Access(TOKEN)) as live:
        user = client.MONAILabelClient(live.url, str(tmp_path), "user-xyz")
        assert user.auth_enabled() is True
        assert user.auth_valid_token() is False
        assert refusal(user.info)[0] == 401
        assert refusal(user.auth_token, "anybody", "a guess") == (401, "wrong password; it is the server's token")
        assert asked(live, "GET", "/datastore/image?image=case_1")[0].status == 401
        given = user.auth_token("anybody", TOKEN)
        assert given["token_type"] == "bearer"
        user.update_auth(given)
        assert user.auth_valid_token() is True
        assert user.info()["labels"] == ["left", "right lung", "background"]
        response, body = asked(live, "GET", "/datastore/image?image=case_1")
        assert (response.status, body) == (200, (studies / "case_1.nii.gz").read_bytes())
        response, _ = asked(live, "GET", "/datastore/?output=all")
        assert response.status == 401


def test_an_address_that_guesses_has_to_wait(studies, tmp_path):
    with serving(named(model_that_obeys(), tmp_path), studies, Access(TOKEN)) as live:
        user = client.MONAILabelClient(live.url, str(tmp_path))
        statuses = [refusal(user.auth_token, "anybody", f"guess {number}")[0] for number in range(12)]
        assert statuses == [401] * 10 + [429] * 2


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://elsewhere.example"}, {"Host": "elsewhere.example"}, {"Origin": "null"}, {"Host": ""}],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/info/"), ("POST", "/infer/segmentation?image=case_1"), ("OPTIONS", "/info/")]
)
def test_a_web_page_of_elsewhere_neither_reads_nor_clicks(live, method, path, headers):
    response, body = asked(live, method, path, **headers)
    assert response.status == 403
    assert list(json.loads(body)) == ["detail"]
    assert "access-control-allow-origin" not in response.headers


def test_pages_of_its_own_address_may_come(live):
    assert asked(live, "GET", "/info/", Origin=live.url)[0].status == 200


# What there is


def test_info_holds_what_clients_read(user):
    info = user.info()
    assert not info.get("config")
    assert [(name, model["type"]) for name, model in info["models"].items()] == [
        ("segmentation", "segmentation"),
        ("deepedit", "deepedit"),
        ("scribbles", "scribbles"),
    ]
    assert all(model["labels"] == RANKS for model in info["models"].values())
    assert all(model["description"] and model["dimension"] == 3 for model in info["models"].values())
    assert info["models"]["deepedit"]["config"]["start_from"][0] == "automatic"
    assert info["datastore"] == {"total": 2, "completed": 0, "label_tags": {}}
    assert info["trainers"]["deepedit"]["config"]
    assert list(info["strategies"]) == ["first", "random", "uncertainty"]


@pytest.mark.parametrize("strategy", ["first", "random", "uncertainty"])
def test_two_users_get_different_samples(user, strategy):
    samples = [user.next_sample(strategy, {}) for _ in range(2)]
    assert {sample["id"] for sample in samples} == {"case_1", "case_2"}
    for sample in samples:
        assert sample["name"] == f"{sample['id']}.nii.gz"
        assert sample["checksum"].startswith("SHA256:")
        assert sample["strategy"][strategy]["client_id"] == "user-xyz"


def test_a_strategy_that_there_is_not_is_refused(user):
    status, sentence = refusal(user.next_sample, "best", {})
    assert (status, "first, random, uncertainty" in sentence) == (404, True)


def test_the_least_sure_case_comes_first_once_scores_are_worked_out(studies, live, user):
    write_image(studies / "noise.nii.gz", "RAS", seed=0)
    scores = live.service.scores
    scores.start()
    images = {name: live.service.studies.images(name) for name in live.service.studies.ids()}
    while any(scores.of(files) is None for files in images.values()):
        time.sleep(0.01)
    best = max(images, key=lambda name: scores.of(images[name]))
    assert user.next_sample("uncertainty", {})["id"] == best


def test_the_folder_is_listed(user, studies, tmp_path):
    user.save_label("case_1", str(labelled(tmp_path, truth(), studies / "case_1.nii.gz")), params=segments(*RANKS))
    objects = user.datastore()["objects"]
    assert list(objects) == ["case_1", "case_2"]
    assert objects["case_1"]["image"]["ext"] == ".nii.gz"
    assert list(objects["case_1"]["labels"]) == ["final"]
    assert user.next_sample("first", {})["id"] == "case_2"


# Images of a viewer


def test_an_image_is_kept_as_long_as_it_is_worked_on(user, tmp_path, live):
    path = write_image(tmp_path / "mine.nii.gz", "PIR")
    made = user.create_session(str(path))
    key = made["session_id"]
    assert user.create_session(str(path))["session_id"] == key
    assert user.get_session(key)["name"] == "mine.nii.gz"
    response, body = asked(live, "GET", f"/session/{key}?image=true")
    assert (response.status, body) == (200, path.read_bytes())
    result, _ = user.infer("segmentation", "2: CT chest/x", {"result_extension": ".nrrd"}, session_id=key)
    assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(result)).T, shown())
    assert user.remove_session(key) == {}
    assert user.get_session(key) == {}
    assert refusal(user.infer, "segmentation", "mine", {}, session_id=key)[0] == 404
    assert asked(live, "GET", f"/session/{key}?image=true")[0].status == 404
    assert user.get_session("never given") == {}
    assert not list(live.service.kept.folder.iterdir())


@pytest.mark.parametrize(
    "name", ["2: CT chest/x", "../..", "/etc/passwd", "Kopf ä 头 📷", " two  spaces", "con", "\t\0"]
)
def test_a_name_is_free_text(user, studies, tmp_path, live, name):
    outside = sorted(tmp_path.iterdir())
    path = write_image(studies.parent / "mine.nii.gz", "PIR")
    given = user.upload_image(str(path), name)["image"]
    assert given in live.service.studies.ids()
    for called in {name, given}:
        result, _ = user.infer("segmentation", called, {"result_extension": ".nrrd"})
        assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(result)).T, shown())
    response, body = asked(live, "GET", f"/datastore/image?image={quote_plus(name)}")
    assert (response.status, body) == (200, path.read_bytes())
    assert response.getheader("content-disposition").startswith("attachment")
    saved = user.save_label(name, str(labelled(tmp_path, truth(), path)), params=segments(*RANKS))
    assert saved == {"image": name, "label": given}
    label = user.download_label(name, "final")
    assert_array_equal(nib.load(label).get_fdata(), np.array([0, 3, 7])[truth()])
    new = set(tmp_path.iterdir()) - set(outside)
    assert {path.suffix for path in new if path.is_file()} <= {".gz", ".nrrd"}


def test_a_dicom_file_beside_an_image_becomes_no_case(user, live, studies, tmp_path):
    (tmp_path / "slice.dcm").write_bytes(b"DICM")
    assert user.upload_image(str(tmp_path / "slice.dcm"), "1.2.840") == {"image": "1.2.840"}
    assert live.service.studies.ids() == ["case_1", "case_2"]
    assert refusal(user.create_session, str(tmp_path / "slice.dcm"))[0] == 400


def test_an_image_with_the_suffix_of_segmentations_is_an_image(user, live, tmp_path):
    path = tmp_path / "mine.seg.nrrd"
    sitk.WriteImage(sitk.ReadImage(str(write_image(tmp_path / "mine.nii.gz", "PIR"))), str(path))
    key = user.create_session(str(path))["session_id"]
    for options in ({"session_id": key}, {}):
        name = "mine" if options else user.upload_image(str(path), "mine")["image"]
        result, _ = user.infer("segmentation", name, {"result_extension": ".nrrd"}, **options)
        assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(result)).T, shown())
    assert live.service.studies.image_file("mine").name == "mine.nrrd"


def test_another_image_of_the_same_name_is_refused(user, tmp_path):
    path = write_image(tmp_path / "other.nii.gz", "RAS", seed=1)
    status, sentence = refusal(user.upload_image, str(path), "case_1")
    assert status == 400
    assert "rename yours in the viewer" in sentence


@pytest.mark.parametrize("way", ["session", "upload", "file", "label", "submit"])
def test_a_header_that_names_another_file_does_not_show_it(user, studies, tmp_path, way):
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(range(256)) * 21)
    header = tmp_path / "mine.nrrd"
    header.write_text(
        "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\nsizes: 16 14 12\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\nencoding: raw\n"
        f"space origin: (0,0,0)\ndata file: {secret}\n\n"
    )
    calls = {
        "upload": lambda: refusal(user.upload_image, str(header), "mine"),
        "file": lambda: refusal(user.infer, "segmentation", "", {}, file=str(header)),
        "label": lambda: refusal(user.infer, "scribbles", "case_1", {}, label_in=str(header)),
        "submit": lambda: refusal(user.save_label, "case_1", str(header), params=segments(*RANKS)),
        "session": lambda: refusal(user.create_session, str(header)),
    }
    status, sentence = calls[way]()
    assert status == 400
    assert "another file" in sentence
    assert str(tmp_path) not in sentence


# Answers


def test_an_answer_has_its_parameters_first_and_its_length_told(live):
    response, body = asked(live, "POST", "/infer/segmentation?image=case_1")
    assert response.getheader("content-length") == str(len(body))
    assert response.getheader("transfer-encoding") is None
    first, second = body.index(b'name="params"'), body.index(b'name="image"; filename="segmentation.nii.gz"')
    assert first < second
    assert b"\r\nContent-Type: application/octet-stream\r\n" in body[second:]


@pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd", ".nii.gz", ".nii", None])
def test_answers_lie_on_the_grid_of_the_image(user, studies, suffix):
    for name in ("case_1", "case_2"):
        result, params = user.infer("segmentation", name, {"result_extension": suffix} if suffix else {})
        assert result.endswith(suffix or ".nii.gz")
        assert params["label_names"] == RANKS
        found, image = sitk.ReadImage(result), sitk.ReadImage(str(studies / f"{name}.nii.gz"))
        if name == "case_1":  # the other one is resampled
            assert_array_equal(sitk.GetArrayFromImage(found).T, shown())
        for about in ("Size", "Spacing", "Origin", "Direction"):
            pair = [getattr(each, f"Get{about}")() for each in (found, image)]
            np.testing.assert_allclose(*pair, atol=1e-4)


def test_other_outputs(live):
    response, body = asked(live, "POST", "/infer/segmentation?image=case_1&output=json")
    assert json.loads(body)["label_names"] == RANKS
    response, body = asked(live, "POST", "/infer/segmentation?image=case_1&output=image")
    assert "attachment" in response.getheader("content-disposition")
    assert body[:2] == b"\x1f\x8b"
    response, body = asked(live, "POST", "/infer/segmentation?image=case_1&output=all")
    assert b'name="params"' in body
    response, body = asked(live, "POST", "/infer/segmentation?image=case_1&output=dicom_seg")
    assert response.status == 400
    assert "all, image, json" in json.loads(body)["detail"]


def test_voxels_are_compressed_unless_the_client_cannot_have_them_so(user):
    headers = []
    for more in ({}, {"result_compress": True}, {"result_compress": False}):
        result, _ = user.infer("segmentation", "case_1", {"result_extension": ".nrrd", **more})
        with open(result, "rb") as file:
            headers.append(file.read().partition(b"\n\n")[0])
    assert [b"encoding: gzip" in header for header in headers] == [True, True, False]
    assert b"encoding: raw" in headers[2]


def test_ten_labels_are_read_by_the_client_as_they_were_sent(studies, tmp_path):
    # A voxel of label 10 is a line feed, of which multipart forms are made.
    labels = Labels(tuple(f"organ {number}" for number in range(1, 12)), tuple(range(1, 12)))
    plan = replace(model_that_obeys().plan, labels=labels, intensity=Intensity("window", 0.0, 11.0))
    model = Model(ObedientNetwork(labels.num_classes, plan.sigma, 2).eval(), plan)
    image = nib.load(studies / "case_1.nii.gz")
    nib.save(nib.Nifti1Image(5.0 * image.get_fdata(), image.affine), studies / "case_1.nii.gz")
    with serving(named(model, tmp_path), studies) as live:
        user = client.MONAILabelClient(live.url, str(tmp_path))
        for compress in (True, False):
            result, _ = user.infer("segmentation", "case_1", {"result_extension": ".nrrd", "result_compress": compress})
            found = sitk.GetArrayFromImage(sitk.ReadImage(result)).T
            assert_array_equal(found, 5 * shown())


def test_clicks_on_the_border_are_moved_inside_and_others_refused(user):
    clicks = {"left": [[-1, 5, 5]], "right lung": [[15, 14, 5]], "label": "left"}
    _, params = user.infer("deepedit", "case_1", clicks)
    assert len(params["notes"]) == 2
    status, sentence = refusal(user.infer, "deepedit", "case_1", {"left": [[-2, 5, 5]]})
    assert status == 400
    assert "outside the image of 16 x 14 x 12 voxels" in sentence


@pytest.mark.parametrize(
    ("model", "image", "params", "status", "words"),
    [
        ("../x", "case_1", {}, 404, "nothing at this address"),
        ("unet", "case_1", {}, 404, "segmentation, deepedit, scribbles"),
        ("segmentation", "", {}, 400, "no image is named"),
        ("segmentation", "nobody", {}, 404, "nobody"),
        ("segmentation", "../../etc/passwd", {}, 404, "no image"),
        ("segmentation", "case_1", {"result_extension": ".exe"}, 400, ".nrrd"),
        ("segmentation", "case_1", {"tta": "perhaps"}, 400, "tta"),
        ("deepedit", "case_1", {"left": 5}, 400, "left"),
        ("deepedit", "case_1", {"left": [[1, 2]]}, 400, "left"),
        ("deepedit", "case_1", {"left": [[1, 2, "x"]]}, 400, "left"),
        ("deepedit", "case_1", {"left": [[1e308, 2, 3]]}, 400, "left"),
        ("deepedit", "case_1", {"label": "kidney"}, 400, "kidney"),
        ("deepedit", "case_1", {"kidney": [[1, 2, 3]]}, 400, "kidney"),
        ("deepedit", "case_1", {"start_from": "nothing"}, 400, "submitted label"),
        ("deepedit", "case_1", {"start_from": "original label"}, 404, "original label"),
        ("scribbles", "case_1", {}, 400, "none was sent"),
    ],
)
def test_what_is_asked_wrongly_is_refused_in_a_sentence(user, model, image, params, status, words):
    found, sentence = refusal(user.infer, model, image, params)
    assert found == status
    assert words in sentence


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"label_info": 3, "selected_label_name": "left"},
        {"label_info": [{"name": "left"}], "selected_label_name": ["left"]},
        {"label_info": [{"name": "left"}], "selected_label_name": "kidney"},
        {"label_info": [{"name": "left"}], "selected_label_name": "background"},
        {"label_info": [{}], "selected_label_name": "left"},
        {"label_info": [{"name": "left"}, {"name": "right lung"}], "selected_label_name": "left"},
        {"label_info": [{"name": "left"}, {"name": "foreground_scribbles"}], "selected_label_name": "left", "roi": [1]},
    ],
)
def test_scribbles_that_make_no_sense_are_refused_in_a_sentence(user, studies, tmp_path, params):
    label = labelled(tmp_path, truth(), studies / "case_1.nii.gz")
    assert refusal(user.infer, "scribbles", "case_1", params, label_in=str(label))[0] == 400


def test_an_image_may_come_with_the_request(user, tmp_path):
    path = write_image(tmp_path / "post_from_mitk.nii.gz", "PIR")
    result, _ = user.infer("segmentation", "", {"restore_label_idx": True}, file=str(path))
    assert result.endswith(".nii.gz")
    assert_array_equal(np.asarray(nib.load(result).dataobj), shown())


def test_files_that_are_no_images_are_refused_in_a_sentence(user, tmp_path):
    for name, content in (("a.nii.gz", b"nothing"), ("a.nrrd", b"nothing"), ("a.mha", b""), ("a.exe", b"MZ")):
        (tmp_path / name).write_bytes(content)
        for call in (user.create_session, lambda path: user.upload_image(path, "mine")):
            status, sentence = refusal(call, str(tmp_path / name))
            assert status == 400
            assert str(tmp_path) not in sentence


# Submits


def test_a_submit_is_sorted_by_names_and_places(user, studies, tmp_path):
    exported = labelled(tmp_path, np.array([0, 2, 1], np.uint8)[truth()], studies / "case_2.nii.gz", ".nrrd")
    assert user.save_label("case_2", str(exported), params=segments("right lung", "left"))["label"] == "case_2"
    found = nib.load(studies / "labels" / "final" / "case_2.nii.gz")
    assert_array_equal(np.asarray(found.dataobj), np.array([0, 3, 7])[truth()])


@pytest.mark.parametrize("tag", ["final", "original", "reviewed"])
def test_labels_of_several_tags_are_told_apart_and_taken_away(user, live, studies, tmp_path, tag):
    path = labelled(tmp_path, truth(), studies / "case_1.nii.gz")
    user.save_label("case_1", str(path), tag, segments(*RANKS))
    assert user.info()["datastore"]["label_tags"] == {tag: 1}
    assert asked(live, "DELETE", f"/datastore/label?id=case_1&tag={tag}")[0].status == 200
    assert user.info()["datastore"]["label_tags"] == {}
    assert refusal(user.download_label, "case_1", tag)[0] == 404


@pytest.mark.parametrize("tag", ["../..", "Final", "replaced", "x" * 30, "a/b", "\0"])
def test_a_tag_that_is_no_name_is_refused(user, studies, tmp_path, tag):
    path = labelled(tmp_path, truth(), studies / "case_1.nii.gz")
    assert refusal(user.save_label, "case_1", str(path), tag, segments(*RANKS))[0] == 400
    assert refusal(user.download_label, "case_1", tag)[0] == 400


def test_a_label_map_of_another_grid_is_refused(user, studies, tmp_path):
    path = labelled(tmp_path, truth(), studies / "case_2.nii.gz")
    status, sentence = refusal(user.save_label, "case_1", str(path), params=segments(*RANKS))
    assert status == 400
    assert "grid" in sentence
    assert not (studies / "labels").exists()


# Training


def test_training_answers_as_clients_read_it_before_there_was_any(user):
    assert user.train_status(check_if_running=True) is False
    assert refusal(user.train_status)[0] == 404
    assert user.train_stop() is None
    assert refusal(user.train_start, "unet", {})[0] == 404


def test_a_server_that_does_not_train_says_so(studies, tmp_path):
    with serving(named(model_that_obeys(), tmp_path), studies, trains=False) as live:
        user = client.MONAILabelClient(live.url, str(tmp_path))
        assert user.info()["trainers"] == {}
        assert refusal(user.train_start, "deepedit", {})[0] == 503


# Requests of no client


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/info", None, {}, 404),
        ("GET", "/nothing/../info/", None, {}, 404),
        ("PATCH", "/info/", None, {}, 405),
        ("POST", "/infer/", None, {}, 404),
        ("POST", "/activelearning/first", b"{", {}, 400),
        ("POST", "/activelearning/first", b"[]", {}, 400),
        ("POST", "/activelearning/first", b"[" * 100_000, {}, 400),
        ("PUT", "/datastore/?image=x", b"", {}, 400),
        ("PUT", "/datastore/label", b"", {}, 400),
        ("PUT", "/datastore/label?image=case_1", b"--x", {"Content_Type": "multipart/form-data; boundary=x"}, 400),
        ("PUT", "/datastore/label?image=case_1", b"--x", {"Content_Type": "multipart/form-data"}, 400),
        (
            "POST",
            "/infer/deepedit?image=case_1",
            b"params=3",
            {"Content_Type": "application/x-www-form-urlencoded"},
            400,
        ),
        ("POST", "/infer/deepedit?image=case_1", b'{"left": [[1, 2, 3]]}', {"Content_Type": "application/json"}, 400),
        ("POST", "/infer/deepedit?image=case_1", b"left=[[1, 2, 3]]", {"Content_Type": FORM}, 400),
        ("GET", "/datastore/?output=everything", None, {}, 400),
        ("GET", "/datastore/image", None, {}, 400),
        ("GET", "/datastore/image?image=%00", None, {}, 404),
        ("GET", "/datastore/image?image=%ff", None, {}, 404),
        ("GET", "/datastore/label?label=case_1&tag=final", None, {}, 404),
        ("PUT", "/datastore/image/info?image=case_1", b"5", {}, 400),
        ("PUT", "/session/?expiry=x", b"", {}, 400),
        ("GET", "/docs", None, {}, 404),
    ],
)
def test_whatever_is_sent_the_answer_is_a_sentence(live, method, path, body, headers, status):
    response, content = asked(live, method, path, body, **headers)
    assert response.status == status
    sentence = json.loads(content)["detail"]
    assert len(sentence.splitlines()) == 1
    assert live.said == []


def test_what_reviewers_remember(live, user):
    for what in ("image/info?image=case_1", "image/info?image=case_2"):
        assert asked(live, "PUT", f"/datastore/{what}", b'{"seen": true}')[0].status == 200
        assert json.loads(asked(live, "GET", f"/datastore/{what}")[1])["seen"] is True
    assert user.datastore()["objects"]["case_1"]["image"]["info"]["seen"] is True


def test_the_api_is_described(live):
    described = json.loads(asked(live, "GET", "/openapi.json")[1])
    assert {"/info/", "/infer/{model}", "/datastore/label", "/session/{key}", "/train/"} <= set(described["paths"])
    assert asked(live, "GET", "/")[0].status == 200
