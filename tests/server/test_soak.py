"""A little of what `tests.soak` does for minutes: many users at once, and requests that nobody expects."""

import numpy as np
import pytest

from deepedit.network.checkpoint import load_model
from tests.server.live import serving
from tests.soak import attack, serve
from tests.soak.server import Client

pytestmark = pytest.mark.usefixtures("one_thread")


def port_of(live):
    return int(live.url.rpartition(":")[2])


def test_users_who_work_at_once_each_get_what_a_session_of_their_own_gives(tmp_path):
    world = serve.make_world(tmp_path, clients=3)
    models = [(world.file(name), model) for name, model in world.models.items()]
    with serving(models, world.studies, trains=False) as live:
        serve.load(world, port_of(live), clients=3, seconds=3, seed=0)
    serve.check_answers(world)
    assert world.failures == []
    assert world.counts["answers"] >= 3
    assert [line for line in live.said if "error" in line] == []


def test_requests_that_nobody_expects_are_answered_and_leave_nothing_behind(tmp_path):
    target = attack.make_target(tmp_path / "root")
    file = target.root / "model.pt"
    with serving([(file, load_model(file))], target.studies) as live:
        target.port = port_of(live)
        expected = attack.answered_as_ever(target.port)
        attack.attack(target, range(150), seed=0)
        assert target.findings == []
        assert {200, 400, 403, 404} <= target.outcomes.keys()
        np.testing.assert_array_equal(attack.answered_as_ever(target.port), expected)
        attack.forget_sessions(target)
        assert list(live.service.kept.folder.iterdir()) == []
        assert Client(target.port).request("GET", "/info/").status == 200
    assert [line for line in live.said if line.startswith("error:")] == []
