"""Requests in order, clients that go away, work that gives way, and failures that end nothing."""

import asyncio
import gc
import threading
import weakref

import numpy as np
import pytest
import torch

from deepedit.errors import Cancelled, ClickError
from deepedit.io.nifti import write_volume
from deepedit.server import worker as module
from deepedit.server.errors import Unavailable
from deepedit.server.sessions import Question, Sessions
from deepedit.server.worker import Worker
from deepedit.volume import Volume
from tests.inference.networks import random_model


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def large(tmp_path):
    """An image of many windows."""
    path = tmp_path / "large.nii.gz"
    data = np.random.default_rng(0).uniform(0, 2, (8, 8, 80))
    write_volume(path, data, Volume(data))
    return path


def until(event):
    """Work that waits for an event, or until its client is gone."""

    def work(on_progress, cancelled):
        while not event.wait(0.01):
            if cancelled():
                raise Cancelled("cancelled")
        return "done"

    return work


async def eventually(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


def test_requests_are_done_one_at_a_time_and_in_order(worker):
    running, most, order = [], [], []

    def work(number):
        def run(on_progress, cancelled):
            running.append(number)
            most.append(len(running))
            order.append(number)
            running.remove(number)
            return number

        return run

    async def ask():
        return await asyncio.gather(*(worker.run(work(number)) for number in range(20)))

    assert asyncio.run(ask()) == order == list(range(20))
    assert max(most) == 1


def test_the_loop_goes_on_while_a_request_is_worked_on_and_tells_how_far_it_is(worker):
    go = threading.Event()

    def work(on_progress, cancelled):
        on_progress(3, 8)
        return until(go)(on_progress, cancelled)

    async def ask():
        first, second = asyncio.create_task(worker.run(work)), asyncio.create_task(worker.run(until(go)))
        await eventually(lambda: worker.progress == (3, 8) and worker.waiting == 1)
        go.set()
        assert await first == await second == "done"
        await eventually(lambda: worker.progress is None)
        assert worker.waiting == 0

    asyncio.run(ask())


def test_a_client_that_goes_away_frees_its_place(worker, monkeypatch):
    monkeypatch.setattr(module, "ASKED_EVERY", 0.01)
    never, go, begun = threading.Event(), threading.Event(), []

    async def gone():
        return go.is_set()

    async def ask():
        running = asyncio.create_task(worker.run(until(never), gone))
        waiting = asyncio.create_task(worker.run(lambda *_: begun.append(1), gone))
        given_up = asyncio.create_task(worker.run(lambda *_: begun.append(2)))
        await eventually(lambda: worker.waiting == 2)
        given_up.cancel()
        go.set()
        for task in (running, waiting):
            with pytest.raises(Cancelled):
                await task
        assert worker.waiting == 0
        assert await worker.run(lambda *_: "next") == "next"

    asyncio.run(ask())
    assert not begun


@pytest.mark.parametrize("error", [ClickError("no such label"), ValueError("a fault"), SystemExit(3)])
def test_a_failure_reaches_its_request_and_ends_nothing(worker, error):
    def fail(*_):
        raise error

    async def ask():
        with pytest.raises(type(error) if isinstance(error, Exception) else RuntimeError):
            await worker.run(fail)
        worker.in_background(fail)
        return await worker.run(lambda *_: "next")

    assert asyncio.run(ask()) == "next"
    assert worker._thread.is_alive()


def test_background_work_that_fails_is_told_and_goes_no_further():
    said = []
    worker = Worker(say=said.append)
    worker.in_background(lambda cancelled: 1 / 0)
    asyncio.run(worker.run(lambda *_: None))

    async def ask():
        await eventually(lambda: said)

    asyncio.run(ask())
    worker.close()
    assert said == ["failed unexpectedly (ZeroDivisionError: division by zero)"]


def test_background_work_gives_way_within_one_window_and_is_begun_anew(worker, large):
    model = random_model(patch=(8, 8, 8))
    sessions, passes, scores, asked = Sessions(model, 2**30), [], [], threading.Event()
    whole = sessions.uncertainty((large,))
    first_pass, go = threading.Event(), threading.Event()

    def hook(*_):
        passes.append("answer" if asked.is_set() else "score")
        first_pass.set()
        go.wait(10)

    model.network.register_forward_hook(hook)

    def request(on_progress, cancelled):
        asked.set()
        return sessions.answer(Question((large,)), on_progress, cancelled)

    async def ask():
        worker.in_background(lambda cancelled: scores.append(sessions.uncertainty((large,), cancelled)))
        await eventually(first_pass.is_set)
        task = asyncio.create_task(worker.run(request))
        await eventually(lambda: worker.waiting == 1)
        go.set()
        await task
        assert passes[:2] == ["score", "answer"]
        await eventually(lambda: scores)

    asyncio.run(ask())
    assert scores == [pytest.approx(whole)]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_where_memory_does_not_suffice_all_is_freed_and_the_next_request_works(large, monkeypatch, error):
    model = random_model(patch=(8, 8, 8))
    sessions, emptied = Sessions(model, 2**30), []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    worker = Worker(release=sessions.forget)
    passes, held = [], []

    def hook(network, given, answer):
        passes.append(1)
        if len(passes) == 21:
            big = torch.zeros(1000)
            held.append(weakref.ref(big))
            raise error

    model.network.register_forward_hook(hook)

    async def ask():
        await worker.run(lambda *watch: sessions.answer(Question((large,)), *watch))
        clicks = {"left": [(1, 1, 1)]}
        passes[:] = [1] * 20
        with pytest.raises(Unavailable, match=r"memory of the .* did not suffice.*try again"):
            await worker.run(lambda *watch: sessions.answer(Question((large,), clicks), *watch))
        assert not sessions._cached
        assert emptied == [1]
        gc.collect()
        assert held[0]() is None
        return await worker.run(lambda *watch: sessions.answer(Question((large,), clicks), *watch))

    assert asyncio.run(ask()).ranks[1, 1, 1] == 1
    worker.close()


def test_closing_ends_what_runs_and_tells_those_who_wait():
    worker, never = Worker(), threading.Event()

    async def ask():
        running = asyncio.create_task(worker.run(until(never)))
        waiting = asyncio.create_task(worker.run(until(never)))
        await eventually(lambda: worker.waiting == 1)
        await asyncio.to_thread(worker.close)
        with pytest.raises(Cancelled):
            await running
        with pytest.raises(Unavailable, match="stopping"):
            await waiting
        with pytest.raises(Unavailable, match="stopping"):
            await worker.run(until(never))

    asyncio.run(ask())
    assert not worker._thread.is_alive()
