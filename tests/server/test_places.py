"""Answers call files by their names: none tells where they lie on the server's disk."""

import json
import tempfile
from pathlib import Path
from urllib.parse import quote

import nibabel as nib
import numpy as np
import pytest

from deepedit.network.checkpoint import save_model
from deepedit.server.app import create_app
from deepedit.server.places import Places
from tests.server.live import SHAPE, model_that_obeys, serving, write_image
from tests.server.page_client import ask, form, opened

DAMAGED = {"damaged": ".nii.gz", "cut": ".nii", "foreign": ".nrrd", "two": ".mha"}
LABELLED = "with a damaged label"
QUERY_OF_CASE = {"image", "label", "id"}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Images that cannot be read, and one whose label maps cannot."""
    studies = tmp_path_factory.mktemp("ward 7") / "studies"
    studies.mkdir()
    write_image(studies / "whole.nii.gz", seed=1)
    for name, suffix in DAMAGED.items():
        (studies / f"{name}{suffix}").write_bytes(b"nothing that can be read")
    content = nib.load(write_image(studies / "x.nii.gz")).to_bytes()
    (studies / "cut.nii").write_bytes(content[:400])
    (studies / "x.nii.gz").rename(studies / f"{LABELLED}.nii.gz")
    for tag in ("final", "original"):
        (studies / "labels" / tag).mkdir(parents=True)
        (studies / "labels" / tag / f"{LABELLED}.nii.gz").write_bytes(b"nothing")
    return studies


@pytest.fixture(scope="module")
def live(studies, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_model(path, model_that_obeys())
    with serving([(path, model_that_obeys())], studies) as live:
        path.write_bytes(b"damaged by now")
        yield live


def bodies(case):
    """What routes are sent besides a query, by method and path; of those that need none, nothing."""
    steps = {"image": case, "steps": [{"clicks": [["left", [2, 2, 2]]]}]}
    asked = [steps, *({**steps, "start": {"kind": kind}} for kind in ("submitted label", "original label"))]
    sent = [(json.dumps(each), {"Content-Type": "application/json"}) for each in asked]
    starts = [json.dumps({"start_from": start, "left": [[2, 2, 2]]}) for start in ("submitted label", "original label")]
    params = [(f"params={quote(each)}", {"Content-Type": "application/x-www-form-urlencoded"}) for each in starts]
    files = [form("mine.nii.gz", b"no image"), form("mine.nrrd", b"no image"), form("mine.nii", bytes(400))]
    labels = [form("mine.nii.gz", b"no label", "label"), form("mine.nii", bytes(400), "label")]
    return {
        ("post", "/api/segment"): sent,
        ("post", "/api/uncertainty"): sent,
        ("post", "/api/save"): sent,
        ("post", "/api/submit"): sent,
        ("post", "/api/session"): sent,
        ("put", "/api/session"): [(b"no session", {})],
        ("put", "/api/start"): files,
        ("post", "/infer/{model}"): [(None, {}), *params, *files, *labels],
        ("put", "/session/"): files,
        ("put", "/datastore/"): files,
        ("put", "/datastore/image"): files,
        ("put", "/datastore/label"): labels,
        ("post", "/train/"): [("{}", {})],
        ("post", "/train/{trainer}"): [("{}", {})],
    }


def refusals(live, case):
    """All that the server refuses about an image, by every route."""
    found = []
    for path, methods in create_app(live.service).openapi()["paths"].items():
        for method, described in methods.items():
            names = {each["name"] for each in described.get("parameters", []) if each["in"] == "query"}
            filled = path.format(model="deepedit", trainer="deepedit", key="none", strategy="first", name="main.js")
            tags = ("final", "original") if "tag" in names else ("",)
            for body, headers in bodies(case).get((method, path), [(None, {})]):
                for tag in tags:
                    query = {name: case for name in names & QUERY_OF_CASE} | ({"tag": tag} if tag else {})
                    answer = ask(live.url, method.upper(), filled, body, headers, **query)
                    if answer.status >= 400:
                        found.append((f"{method} {path}", answer))
    return found


def told(answer):
    """The text of an error, which is JSON."""
    return json.dumps(json.loads(answer.body), ensure_ascii=False)


@pytest.mark.parametrize("case", [*DAMAGED, LABELLED])
def test_no_refusal_of_any_route_tells_where_files_lie(live, studies, case):
    found = refusals(live, case)
    routes = {route for route, _ in found}
    if case == LABELLED:
        assert {"post /api/segment", "post /infer/{model}"} <= routes
    else:
        assert {"get /api/image", "post /api/segment", "post /infer/{model}", "put /api/start"} <= routes
        damaged = [answer for route, answer in found if route == "get /api/image"]
        assert all(answer.detail.startswith(f"{case}{DAMAGED[case]}: ") for answer in damaged)
    for route, answer in found:
        assert answer.status < 500 or answer.status == 503, (route, answer.body)
        for folder in (studies.parent, tempfile.gettempdir(), live.service.kept.folder, Path.home()):
            assert str(folder) not in told(answer), route
        assert "ward 7" not in told(answer), route


def test_an_image_that_was_sent_and_cannot_be_read_is_called_that(live):
    body, headers = form("mine.nii.gz", (live.service.studies.folder / "whole.nii.gz").read_bytes())
    key = ask(live.url, "PUT", "/session/", body, headers).json["session_id"]
    live.service.kept.find(key).path.write_bytes(b"damaged on the server")
    assert ask(live.url, "GET", "/api/image", session_id=key).detail.startswith("the file that was sent: ")


def test_notes_on_a_label_map_call_it_by_its_name(live, studies):
    """Values that the model does not know are left out, with a note."""
    image = nib.load(studies / "whole.nii.gz")
    data = np.zeros(SHAPE, np.uint8)
    data[2:5, 2:5, 2:5], data[0, 0, 0] = 3, 99
    nib.save(nib.Nifti1Image(data, image.affine), studies / "labels" / "original" / "whole.nii.gz")
    start = {"kind": "original label"}
    answer = ask(live.url, "POST", "/api/segment", json.dumps({"image": "whole", "start": start}))
    (note,) = opened(answer)[0]["notes"]
    assert note.startswith("whole.nii.gz: 99 is of no label")


def test_a_training_is_told_without_where_it_lies(live, monkeypatch):
    folder = live.service.studies.folder
    status = {"status": "ERROR", "details": [f"training failed: {folder}/.deepedit/training/x: the disk is full"]}
    monkeypatch.setattr(live.service.finetuning, "status", lambda: status)
    details = ask(live.url, "GET", "/train/").json["details"]
    assert details == ["training failed: .deepedit/training/x: the disk is full"]


def test_only_the_folders_themselves_are_hidden():
    places = Places([Path("/data"), Path("/data/studies"), Path("/")], [Path("/srv/kept/images")])
    for text, expected in {
        "/data/studies/a b.nii.gz: is damaged": "a b.nii.gz: is damaged",
        "/data/model.pt: too new": "model.pt: too new",
        "/data/studies2/x: no": "studies2/x: no",
        "/data/studies: cannot be listed": "the server's folder: cannot be listed",
        "/database/x 3/4": "/database/x 3/4",
        "/srv/kept/images/image-3f.nii.gz: is damaged": "the file that was sent: is damaged",
    }.items():
        assert places.hidden(text) == expected
    assert Places([], []).hidden("/data/x") == "/data/x"
