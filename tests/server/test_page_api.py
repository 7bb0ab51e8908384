"""The endpoints of the page, as a page uses them."""

import json
import shutil
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deepedit.inference.session import InteractiveSession
from deepedit.io.volumes import read_label
from deepedit.server.one_image import folder_of
from tests.inference.networks import random_model
from tests.server.live import (
    LABELS,
    SHAPE,
    model_that_obeys,
    model_with_weights,
    named,
    serving,
    truth,
    until,
    write_image,
)
from tests.server.page_client import Page, ask, form

CASES = {"case_0": "RAS", "case_1": "LPS", "case_2": "PIR", "case_3": "oblique"}
STEPS = [
    {"clicks": [["left", [2, 10, 3]]]},
    {"lock": "left"},
    {"clicks": [["right lung", [11, 9, 4]], ["background", [10, 3, 3]]]},
    {"unlock": "left"},
    {"clicks": [["background", [5, 6, 5]]]},
]


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    studies = tmp_path_factory.mktemp("studies")
    for name, grid in CASES.items():
        write_image(studies / f"{name}.nii.gz", grid, seed=3)
    return studies


def own(studies, folder):
    """A copy of the studies, since one server at a time works on a folder."""
    return shutil.copytree(studies, folder / "own")


@pytest.fixture(scope="module")
def model():
    return model_that_obeys()


@pytest.fixture(scope="module")
def live(studies, model, tmp_path_factory):
    with serving(named(model, tmp_path_factory.mktemp("model")), studies, trains=False) as live:
        yield live


def own_session(model, path, steps, start=None):
    session = InteractiveSession(model)
    session.set_image(path)
    if start is not None:
        session.set_segmentation(start)
    session.predict()
    for step in steps:
        if "clicks" in step:
            session.add_clicks([(voxel, label) for label, voxel in step["clicks"]])
        else:
            (session.lock if "lock" in step else session.unlock)(*step.values())
    return session


def classes_of(session):
    return LABELS.to_classes(session.predict())


def label_file(folder, case="case_0", grid="RAS", values=None):
    """A label map on the grid of a case."""
    image = nib.load(write_image(folder / "grid.nii.gz", grid))
    data = np.array((0, 3, 7), np.uint8)[truth()] if values is None else values
    nib.save(nib.Nifti1Image(data, image.affine), folder / "label.nii.gz")
    return folder / "label.nii.gz"


@pytest.mark.parametrize("case", CASES)
def test_a_page_shows_what_a_session_shows_step_by_step(live, model, studies, case):
    page = Page(live.url, {"image": case})
    for count in (*range(len(STEPS) + 1), 2, 3, 0):
        session = own_session(model, studies / f"{case}.nii.gz", STEPS[:count])
        assert_array_equal(page.segment(STEPS[:count]), classes_of(session))
        assert page.header["locked"] == session.locked
    assert {"pre", "infer", "post", "total"} == page.header["seconds"].keys()


def test_two_tabs_are_two_sessions(live, model, studies):
    steps = STEPS[:1], STEPS[2:3]
    tabs = [Page(live.url, {"image": "case_1"}) for _ in steps]
    for _ in range(2):
        for tab, own in zip(tabs, steps, strict=True):
            expected = classes_of(own_session(model, studies / "case_1.nii.gz", own))
            assert_array_equal(tab.segment(own), expected)
        steps = [own + STEPS[4:] for own in steps]


def test_a_server_without_memory_for_a_session_answers_the_same(model, studies, tmp_path):
    with serving(named(model, tmp_path), own(studies, tmp_path), memory=1000, trains=False) as live:
        page = Page(live.url, {"image": "case_2"})
        for count in (0, 1, 3, 5, 2):
            expected = own_session(model, studies / "case_2.nii.gz", STEPS[:count])
            assert_array_equal(page.segment(STEPS[:count]), classes_of(expected))
            assert page.header["whole"]
        assert all("give more by --memory" in line for line in live.said)
        assert live.said


def test_slicer_and_a_page_share_a_session(live, model):
    passes = []
    hook = model.network.register_forward_hook(lambda *_: passes.append(1))
    page = Page(live.url, {"image": "case_2"})
    page.segment([])
    made = len(passes)
    params = json.dumps({"left": [[3, 3, 3]], "label": "left"})
    sent = ask(live.url, "POST", "/infer/deepedit", f"params={params}", FORM, image="case_2", output="json")
    assert sent.status == 200
    assert len(passes) == made + 1
    page.segment([{"clicks": [["left", [3, 3, 3]]]}])
    assert len(passes) == made + 1
    hook.remove()


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_what_there_is(live):
    about = ask(live.url, "GET", "/api/").json
    (model,) = about["models"]
    assert model["name"] == "deepedit"
    assert [label["name"] for label in model["labels"]] == ["left", "right lung"]
    assert len({label["colour"] for label in model["labels"]}) == 2
    assert (model["previous"], model["channels"]) == (True, 1)
    assert about["studies"]
    assert about["image"] is None
    assert not about["training"]
    assert not about["login"]
    cases = ask(live.url, "GET", "/api/cases").json
    assert [case["id"] for case in cases] == list(CASES)
    assert all(not case["original"] for case in cases)
    assert ask(live.url, "GET", "/api/progress", request="nobody").json == {"state": "unknown"}


def test_an_image_that_was_dropped_is_clicked_on_like_one_of_the_studies(live, model, studies):
    path = studies / "case_2.nii.gz"
    body, headers = form("my image.nii.gz", path.read_bytes())
    key = ask(live.url, "PUT", "/session/", body, headers).json["session_id"]
    page = Page(live.url, {"session_id": key})
    assert page.facts["digest"] == Page(live.url, {"image": "case_2"}).facts["digest"]
    assert_array_equal(page.segment(STEPS[:1]), classes_of(own_session(model, path, STEPS[:1])))
    saved = page.post("/api/save", STEPS[:1])
    assert "my image-segmentation.nii.gz" in saved.headers["Content-Disposition"]
    assert page.post("/api/submit", STEPS[:1]).status == 400
    ask(live.url, "DELETE", f"/session/{key}")
    for answer in (page.post("/api/segment", STEPS[:1]), ask(live.url, "GET", "/api/image", session_id=key)):
        assert answer.status == 404
        assert answer.json["lost"] == "image"


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha"])
@pytest.mark.parametrize("case", ["case_0", "case_3"])
def test_what_is_saved_is_what_a_session_saves(live, model, studies, tmp_path, suffix, case):
    saved = Page(live.url, {"image": case}).post("/api/save", STEPS, suffix=suffix)
    assert f'"{case}-segmentation{suffix}"' in saved.headers["Content-Disposition"]
    (tmp_path / f"page{suffix}").write_bytes(saved.body)
    own_session(model, studies / f"{case}.nii.gz", STEPS).save(tmp_path / f"own{suffix}")
    page, own = (read_label(tmp_path / f"{name}{suffix}") for name in ("page", "own"))
    assert_array_equal(page.data, own.data)
    assert_array_equal(page.affine, own.affine)
    assert page.names == own.names


def test_a_format_that_is_not_written_is_refused_before_anything_is_done(live):
    answer = Page(live.url, {"image": "case_0"}).post("/api/save", [], suffix="/../x.nii.gz")
    assert answer.status == 400
    assert ".seg.nrrd" in answer.detail


@pytest.mark.parametrize("start", ["automatic", "empty", "sent"])
def test_a_session_goes_to_a_file_and_comes_back(live, model, studies, tmp_path, start):
    path = studies / "case_1.nii.gz"
    page = Page(live.url, {"image": "case_1"}, {"start": {"kind": start}, "tta": start == "empty"})
    if start == "sent":
        file = label_file(tmp_path, grid="LPS")
        body, headers = form("label.nii.gz", file.read_bytes())
        page.asked["start"]["key"] = ask(live.url, "PUT", "/api/start", body, headers, image="case_1").json["key"]
    shown = page.segment(STEPS).copy()
    saved = page.post("/api/session", STEPS)
    assert saved.status == 200, saved.body
    assert "case_1-session.npz" in saved.headers["Content-Disposition"]
    (tmp_path / "session.npz").write_bytes(saved.body)
    session = InteractiveSession(model)
    session.load_session(tmp_path / "session.npz", path)
    assert_array_equal(classes_of(session), shown)
    until(lambda: not list(live.service.kept.folder.glob("sent-*")))
    restored = ask(live.url, "PUT", "/api/session", saved.body, image="case_1").json
    assert restored == {"start": page.asked["start"], "steps": STEPS, "tta": page.asked["tta"], "notes": []}
    assert_array_equal(page.segment(restored["steps"]), shown)
    other = ask(live.url, "PUT", "/api/session", saved.body, image="case_0")
    assert other.status == 400
    assert other.detail == "the session: is a session of another image; open it with the image that it began with"


def test_a_session_that_cannot_be_made_anew_to_the_voxel_says_so(live, model, studies, tmp_path):
    session = own_session(model, studies / "case_0.nii.gz", STEPS[:3])
    session.remove_click(0)  # what was locked after it stays
    session.save_session(tmp_path / "session.npz")
    restored = ask(live.url, "PUT", "/api/session", (tmp_path / "session.npz").read_bytes(), image="case_0").json
    assert restored["steps"] == STEPS[1:3]
    anew = classes_of(own_session(model, studies / "case_0.nii.gz", STEPS[1:3]))
    (note,) = restored["notes"]
    assert f"{np.count_nonzero(anew != classes_of(session))} voxels" in note


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 1000])
def test_what_is_no_session_is_refused_in_a_sentence(live, content):
    answer = ask(live.url, "PUT", "/api/session", content, image="case_0")
    assert answer.status == 400
    assert answer.detail.startswith("the session: ")
    assert not [path for path in live.service.kept.folder.iterdir() if path.suffix == ".npz"]


def test_clicks_correct_a_segmentation_that_was_dropped(live, model, studies, tmp_path):
    file = label_file(tmp_path, grid="PIR", values=np.where(truth() == 1, 3, 0).astype(np.uint8))
    body, headers = form("my label.nii.gz", file.read_bytes())
    told = ask(live.url, "PUT", "/api/start", body, headers, image="case_2").json
    assert told["missing"] == ["right lung"]
    assert told["notes"] == []
    assert ask(live.url, "PUT", "/api/start", body, headers, image="case_2").json["key"] == told["key"]
    page = Page(live.url, {"image": "case_2"}, {"start": {"kind": "sent", "key": told["key"]}})
    assert_array_equal(page.segment([]), truth() * (truth() == 1))
    expected = own_session(model, studies / "case_2.nii.gz", STEPS[:1], file)
    assert_array_equal(page.segment(STEPS[:1]), classes_of(expected))
    live.service.starts.remove(told["key"])
    answer = page.post("/api/segment", STEPS[:1])
    assert (answer.status, answer.json["lost"]) == (404, "start")


def test_a_segmentation_that_does_not_fit_is_refused_in_a_sentence(live, tmp_path):
    far = np.eye(4)
    far[:3, 3] = 1000
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 3, np.uint8), far), tmp_path / "far.nii.gz")
    unknown = label_file(tmp_path, values=np.full(SHAPE, 9, np.uint8))
    for path, words in ((tmp_path / "far.nii.gz", "lies beside its image"), (unknown, "left lung")):
        body, headers = form("my label.nii.gz", path.read_bytes())
        answer = ask(live.url, "PUT", "/api/start", body, headers, image="case_0")
        assert answer.status == 400
        assert answer.detail.startswith("my label.nii.gz")
        assert words in answer.detail or "the model knows" in answer.detail
        assert str(live.service.kept.folder) not in answer.detail


def test_values_of_no_label_are_told(live, tmp_path):
    data = np.where(truth() == 1, 3, truth() * 4).astype(np.uint8)
    body, headers = form("my label.nii.gz", label_file(tmp_path, values=data).read_bytes())
    told = ask(live.url, "PUT", "/api/start", body, headers, image="case_0").json
    (note,) = told["notes"]
    assert note.startswith("my label.nii.gz: 8 is of no label")


def test_what_is_submitted_is_a_start_of_the_next_session(model, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    path = write_image(studies / "case_0.nii.gz", "PIR", seed=3)
    with serving(named(model, tmp_path), studies) as live:
        page = Page(live.url, {"image": "case_0"})
        missing = page.post("/api/segment", [], start={"kind": "submitted label"})
        assert missing.status == 404
        assert "lost" not in missing.json
        assert page.post("/api/submit", STEPS).json == {"image": "case_0"}
        final = read_label(studies / "labels" / "final" / "case_0.nii.gz")
        assert_array_equal(final.data, own_session(model, path, STEPS).predict())
        (case,) = ask(live.url, "GET", "/api/cases").json
        assert case["submitted"]
        page.asked["start"] = {"kind": "submitted label"}
        assert_array_equal(page.segment([]), LABELS.to_classes(final.data))
        assert ask(live.url, "POST", "/activelearning/first", "{}").json == {}


@pytest.mark.parametrize("endpoint", ["/api/submit", "/api/save", "/api/session"])
def test_only_what_the_page_shows_is_kept(model, tmp_path, endpoint):
    studies = tmp_path / "studies"
    studies.mkdir()
    write_image(studies / "case_0.nii.gz", "PIR", seed=3)
    with serving(named(model, tmp_path), studies) as live:
        page = Page(live.url, {"image": "case_0"})
        page.segment(STEPS[:1])
        shown = page.known
        other = random_model(labels=LABELS, patch=(8, 8, 8))
        live.service.sessions[0].replace_model(other)
        refused = page.post(endpoint, STEPS[:1], known=shown)
        assert refused.status == 409
        assert "no longer the one that is shown" in refused.detail
        assert not list(studies.rglob("labels/final/*"))
        page.segment(STEPS[:1])
        assert page.post(endpoint, STEPS[:1], known=page.known).status == 200


def test_one_image_is_served_without_a_folder(model, tmp_path):
    path = write_image(tmp_path / "case 7_0001.nii.gz", "oblique", seed=3)
    before = sorted(tmp_path.iterdir())
    scratch = folder_of([path], model.plan)
    with serving(named(model, tmp_path), scratch.path / "studies", trains=False, stores=False) as live:
        about = ask(live.url, "GET", "/api/").json
        assert not about["studies"]
        assert not about["training"]
        assert about["strategies"] == []
        page = Page(live.url, {"image": about["image"]})
        assert_array_equal(page.segment(STEPS), classes_of(own_session(model, path, STEPS)))
        refused = [page.post("/api/submit", STEPS)]
        body, headers = form("a.nii.gz", path.read_bytes(), "label")
        refused.append(ask(live.url, "PUT", "/datastore/label", body, headers, image=about["image"]))
        body, headers = form("a.nii.gz", path.read_bytes())
        refused.append(ask(live.url, "PUT", "/datastore/image", body, headers, image="other"))
        for answer in refused:
            assert answer.status == 400
            assert "stores nothing" in answer.detail
    scratch.close()
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "model.pt"])


def test_who_goes_away_frees_the_place_and_loses_nothing(model, studies, tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def wait(network, inputs):
        begun.set()
        go_on.wait(60)

    with serving(named(model, tmp_path), own(studies, tmp_path), trains=False) as live:
        page = Page(live.url, {"image": "case_0"})
        hook = model.network.register_forward_pre_hook(wait)
        gone = begin(live, page.body(STEPS, request="gone"))
        begun.wait(60)
        waits = begin(live, page.body(STEPS, request="waits"))
        until(lambda: live.service.worker.waiting == 1)
        assert progress(live, "gone") == {"state": "working", "windows": None}
        assert progress(live, "waits") == {"state": "waiting", "before": 1}
        assert Page(live.url, {"image": "case_1"}).facts["shape"], "an image is told while the network works"
        waits.close()
        until(lambda: live.service.worker.waiting == 0)
        gone.close()
        until(lambda: progress(live, "waits") == {"state": "done"})
        go_on.set()
        until(lambda: progress(live, "gone") == {"state": "done"})
        hook.remove()
        expected = classes_of(own_session(model, studies / "case_0.nii.gz", STEPS))
        assert_array_equal(page.segment(STEPS), expected)
        assert live.said == []


def begin(live, body):
    """Send a request for a segmentation without waiting for an answer."""
    parts = urlsplit(live.url)
    connection = socket.create_connection((parts.hostname, parts.port))
    head = f"POST /api/segment HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall((head + body).encode())
    return connection


def progress(live, name):
    return ask(live.url, "GET", "/api/progress", request=name).json


def test_windows_that_are_done_are_told(studies, tmp_path):
    model, go_on = model_with_weights(), threading.Semaphore(0)
    hook = model.network.register_forward_pre_hook(lambda *_: go_on.acquire(timeout=60) and None)
    with serving(named(model, tmp_path), own(studies, tmp_path), trains=False) as live:
        connection = begin(live, json.dumps({"image": "case_0", "request": "one"}))
        go_on.release()
        seen = until(lambda: progress(live, "one").get("windows"))
        assert seen[0] == 1
        assert seen[1] > 1
        for _ in range(seen[1]):
            go_on.release()
        until(lambda: progress(live, "one") == {"state": "done"})
        connection.close()
    hook.remove()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = ("model", "image", "session_id", "start", "tta", "steps", "known", "request", "suffix")
NEARLY = st.fixed_dictionaries(
    {"image": st.just("case_0")},
    optional={
        "steps": st.lists(
            st.dictionaries(
                st.sampled_from(("clicks", "lock", "unlock", "x")),
                PLAIN | st.lists(st.tuples(st.sampled_from(("left", "background", "x")), st.lists(st.integers()))),
                max_size=2,
            ),
            max_size=3,
        ),
        "start": st.fixed_dictionaries({"kind": st.sampled_from(("sent", "empty", "original label")) | PLAIN}),
        "model": st.sampled_from(("deepedit", "segmentation", "scribbles")) | PLAIN,
        "known": PLAIN,
    },
)
HOSTILE = (
    st.binary(max_size=40)
    | PLAIN.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(KEYS), PLAIN).map(lambda value: json.dumps(value).encode())
    | NEARLY.map(lambda value: json.dumps(value).encode())
)


@given(HOSTILE, st.sampled_from(("segment", "uncertainty", "save", "session", "submit")))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_sent_gets_an_answer_or_a_sentence(live, body, endpoint):
    answer = ask(live.url, "POST", f"/api/{endpoint}", body)
    if answer.status != 200:
        assert answer.status in (400, 404), answer.body
        assert answer.json.keys() - {"lost"} == {"detail"}
        assert len(answer.detail.splitlines()) == 1
        assert "Traceback" not in answer.detail
        assert len(answer.detail) < 1000
    assert live.said == []


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"steps": [' + "[" * 500 + "]" * 500 + "]}",
        '{"image": "case_0", "steps": [{"clicks": [["left", [' + "9" * 5000 + ", 1, 1]]]}]}",
        '{"image": "case_0", "steps": [{"clicks": [["left", [99999999999999999999, 1, 1]]]}]}',
        '{"image": "case_0", "steps": [{"clicks": [["left", [1e400, 1, 1]]]}]}',
        '{"image": "case_0", "steps": [{"clicks": [["left", [NaN, 1, 1]]]}]}',
        '{"image": "case_0", "steps": [{"clicks": [["left", [1.5, 1, 1]]]}]}',
        '{"image": "case_0", "steps": [{"clicks": [["left", [-2, 1, 1]]]}]}',
        '{"image": "case_0", "steps": [{"clicks": [["left", [16, 14, 13]]]}]}',
        '{"image": "case_0", "steps": [{"clicks": [["\\ud800", [1, 1, 1]]]}]}',
        '{"image": "\\ud800"}',
        '{"image": "../../etc/passwd"}',
        '{"session_id": "../x"}',
        '{"image": "case_0", "session_id": "x"}',
        '{"image": "case_0", "model": "segmentation"}',
        '{"image": "case_0", "start": {"kind": "sent"}}',
        '{"image": "case_0", "start": {"kind": "sent", "key": "../x"}}',
        "{}",
        json.dumps({"image": "case_0", "steps": [{"clicks": [["left", [1, 1, 1]]] * 2001}]}),
        json.dumps({"image": "case_0", "steps": [{"lock": "left"}, {"unlock": "left"}] * 1001}),
        " " * (2**20 + 1),
    ],
)
def test_hostile_bodies_are_refused_in_a_sentence(live, body):
    for endpoint in ("segment", "save"):
        answer = ask(live.url, "POST", f"/api/{endpoint}", body)
        assert answer.status in (400, 404), answer.body
        assert len(answer.detail) < 1000
    assert live.said == []


@pytest.mark.parametrize(
    "query", [{}, {"image": "x"}, {"image": "case_0", "channel": "1"}, {"image": "case_0", "channel": "x"}]
)
def test_images_that_there_are_not_are_refused_in_a_sentence(live, query):
    answer = ask(live.url, "GET", "/api/image", **query)
    assert answer.status in (400, 404)
    assert answer.detail


def test_a_lock_forbids_a_click_in_a_sentence_and_the_page_can_go_on(live):
    page = Page(live.url, {"image": "case_0"})
    labels = page.segment([])
    voxel = np.argwhere(labels == 1)[0].tolist()
    steps = [{"lock": "left"}, {"clicks": [["background", voxel]]}]
    answer = page.post("/api/segment", steps)
    assert answer.status == 400
    assert "locked" in answer.detail
    assert_array_equal(page.segment(steps[:1]), labels)


def test_the_endpoints_are_described(live):
    paths = ask(live.url, "GET", "/openapi.json").json["paths"]
    for path in ("segment", "uncertainty", "save", "session", "submit"):
        schema = paths[f"/api/{path}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert {"image", "start", "steps", "known"} <= schema["properties"].keys()
        assert "$ref" not in json.dumps(schema)
    told = paths["/api/segment"]["post"]["responses"]["200"]["content"]["application/octet-stream"]["x-header"]
    page = Page(live.url, {"image": "case_0"})
    page.segment([])
    assert told["properties"].keys() == page.header.keys()
    for path, method in (("/api/start", "put"), ("/api/session", "put"), ("/login", "post")):
        assert paths[path][method]["requestBody"]["content"]
    documented = Path(__file__).parents[2].joinpath("docs", "server.md").read_text()
    for path in paths:
        if path.startswith("/api/"):
            assert path.removeprefix("/") in documented
