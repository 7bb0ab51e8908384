"""What goes on at once, what fails, and what several models are called."""

import asyncio
import http.client
import json
import socket
import threading
from dataclasses import replace
from urllib.parse import quote_plus, urlsplit

import pytest
import torch

from deepedit.network.architectures import UNetConfig
from deepedit.network.checkpoint import Model, save_model
from deepedit.network.inputs import input_channels
from deepedit.network.unet import build_network
from deepedit.plan import Labels
from deepedit.server.access import Access
from deepedit.server.service import Service
from tests.inference.networks import random_model
from tests.server.live import LABELS, model_that_obeys, named, serving, until, write_image

INFER = "/infer/segmentation?image="


@pytest.fixture
def studies(tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for number in range(4):
        write_image(studies / f"case_{number}.nii.gz", seed=number)
    return studies


@pytest.fixture
def model():
    return model_that_obeys()


@pytest.fixture
def live(studies, model, tmp_path):
    with serving(named(model, tmp_path), studies) as live:
        yield live


def ask(live, method, path, body=None, **headers):
    """The status and the body of a response."""
    connection = http.client.HTTPConnection(urlsplit(live.url).netloc)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return response.status, response.read()


def in_a_thread(work):
    """Begin some work; returns what waits for its result."""
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()

    def result():
        thread.join(60)
        return found[0]

    return result


def begin(live, path):
    """Send a request without waiting for an answer."""
    parts = urlsplit(live.url)
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 0\r\n\r\n".encode())
    return connection


def test_others_are_answered_during_an_inference_and_who_leaves_frees_a_place(live, model):
    begun, go_on, images = threading.Event(), threading.Event(), []

    def wait(network, inputs):
        begun.set()
        go_on.wait(60)
        images.append(inputs[0].sum().item())

    model.network.register_forward_pre_hook(wait)
    first = in_a_thread(lambda: ask(live, "POST", f"{INFER}case_0"))
    begun.wait(60)
    gone = begin(live, f"{INFER}case_1")
    until(lambda: live.service.worker.waiting == 1)
    last = in_a_thread(lambda: ask(live, "POST", f"{INFER}case_2"))
    until(lambda: live.service.worker.waiting == 2)
    assert ask(live, "GET", "/info/")[0] == 200
    assert ask(live, "GET", "/train/?check_if_running=true")[0] == 404
    assert ask(live, "POST", "/activelearning/first", "{}")[0] == 200
    assert ask(live, "GET", "/datastore/image?image=case_3")[0] == 200
    gone.close()
    until(lambda: live.service.worker.waiting == 1)
    go_on.set()
    assert first()[0] == last()[0] == 200
    assert len(images) == 2
    assert live.said == []


def test_others_are_answered_while_an_image_is_fetched(live, monkeypatch):
    begun, go_on, images = threading.Event(), threading.Event(), live.service.studies.images

    def fetched(name):
        begun.set()
        go_on.wait(60)
        return images(name)

    monkeypatch.setattr(live.service.studies, "images", fetched)
    first = in_a_thread(lambda: ask(live, "POST", f"{INFER}case_0"))
    begun.wait(60)
    assert ask(live, "GET", "/info/")[0] == 200
    go_on.set()
    assert first()[0] == 200


def test_it_goes_on_where_nobody_reads_what_it_says(model, tmp_path):
    def closed(line):
        raise BrokenPipeError

    (tmp_path / "studies").mkdir()
    service = Service(named(model, tmp_path), tmp_path / "studies", Access(), 2**28, device="cpu", say=closed)
    try:
        service.say("a line")
        service.worker.in_background(lambda is_cancelled: 1 / 0)

        async def stays():
            return False

        async def answer():
            return await service.worker.run(lambda on_progress, cancelled: 7, stays)

        assert asyncio.run(answer()) == 7
    finally:
        service.close()


@pytest.mark.parametrize(("others", "trains"), [(("left",), False), (("left", "right lung", "heart"), True)])
def test_nothing_is_fine_tuned_where_submitted_labels_may_be_incomplete(tmp_path, others, trains):
    values = {"left": 3, "right lung": 7, "heart": 9}
    second = random_model(labels=Labels(others, tuple(values[name] for name in others)), patch=(8, 8, 8))
    models = [(tmp_path / "one.pt", random_model(labels=LABELS, patch=(8, 8, 8))), (tmp_path / "two.pt", second)]
    for path, model in models:
        save_model(path, model)
    (tmp_path / "studies").mkdir()
    with serving(models, tmp_path / "studies") as live:
        assert (live.service.finetuning is not None) == trains
        assert any("nothing can be fine-tuned" in line for line in live.said) != trains


def test_too_little_memory_is_told_in_a_sentence_and_costs_one_request(live, model):
    hook = model.network.register_forward_pre_hook(raising(torch.OutOfMemoryError("CUDA out of memory")))
    status, body = ask(live, "POST", f"{INFER}case_0")
    assert status == 503
    assert "memory of the GPU did not suffice" in json.loads(body)["detail"]
    hook.remove()
    assert ask(live, "POST", f"{INFER}case_0")[0] == 200


def test_what_nobody_foresaw_is_told_without_what_it_says(live, model, capfd):
    hook = model.network.register_forward_pre_hook(raising(LookupError("a patient's name")))
    status, body = ask(live, "POST", f"{INFER}case_0")
    assert status == 500
    assert list(json.loads(body)) == ["detail"]
    assert b"patient" not in body
    (line,) = live.said
    assert line.startswith("error: LookupError in ")
    assert "patient" not in line
    assert "patient" not in "".join(capfd.readouterr())
    hook.remove()
    assert ask(live, "POST", f"{INFER}case_0")[0] == 200


def test_who_leaves_in_the_middle_of_an_upload_leaves_nothing(live, capfd):
    parts = urlsplit(live.url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(
            f"PUT /session/ HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 100000\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; "
            'name="files"; filename="a.nii.gz"\r\n\r\nabc'.encode()
        )
    assert ask(live, "GET", "/info/")[0] == 200
    assert not list(live.service.kept.folder.iterdir())
    assert live.said == []
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_body_that_is_longer_than_it_may_be_is_refused(live):
    status, body = ask(live, "PUT", "/session/", Content_Length=str(2**40))
    assert status == 413
    assert "GiB" in json.loads(body)["detail"]


def test_the_first_model_is_called_by_its_kinds_and_others_by_their_own_names(studies, tmp_path):
    folders = [tmp_path / name for name in ("one", "two", "b/two", "Läuf 3/x y")]
    for folder in folders:
        folder.mkdir(parents=True)
    models = (model_that_obeys(), model_that_obeys(), without_previous(), without_previous())
    files = [each for pair in zip(models, folders, strict=True) for each in named(*pair)]
    files[3] = (files[3][0].rename(folders[3].parent / "Milz ö.pt"), files[3][1])
    with serving(files, studies) as live:
        models = json.loads(ask(live, "GET", "/info/")[1])["models"]
        with_scribbles = ["segmentation", "deepedit", "scribbles", "segmentation-two", "deepedit-two", "scribbles-two"]
        others = ["segmentation-two_", "deepedit-two_", "segmentation-Milz_", "deepedit-Milz_"]
        assert list(models) == with_scribbles + others
        assert "start_from" in models["deepedit-two"]["config"]
        assert "start_from" not in models["deepedit-two_"]["config"]
        for name in models:
            assert quote_plus(name) == name
            assert ask(live, "POST", f"/infer/{name}?image=case_0")[0] == (400 if "scribbles" in name else 200)


def raising(error):
    def hook(network, inputs):
        raise error

    return hook


def without_previous():
    """A model that takes no previous segmentation."""
    plan = replace(model_that_obeys().plan, previous=False)
    config = UNetConfig(filters=(4, 8, 8), strides=(1, 2, 2), kernels=(3, 3, 3))
    classes = LABELS.num_classes
    return Model(build_network(input_channels(1, classes, previous=False), classes, config, seed=5).eval(), plan)
