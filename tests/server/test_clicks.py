"""One order for clicks that are sent without one."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deepedit.server.clicks import Orders, shared_prefix

FEW_VOXELS = st.tuples(st.integers(0, 1), st.integers(0, 1), st.just(0))
REQUESTS = st.dictionaries(st.integers(0, 3), st.lists(FEW_VOXELS, max_size=5), max_size=4)


def sent(order):
    """What a viewer sends of clicks: no order between labels."""
    clicks = {label: [] for label, _ in order}
    for label, voxel in order:
        clicks[label].append(voxel)
    return clicks


@given(requests=st.lists(st.tuples(REQUESTS, st.none() | st.integers(0, 4)), max_size=12))
def test_every_click_is_there_in_the_order_of_its_label_and_the_same_request_gets_the_same_order(requests):
    orders = Orders()
    first = {}
    for clicks, newest in requests:
        order = orders.order("image", clicks, newest)
        assert sent(order) == {label: voxels for label, voxels in clicks.items() if voxels}
        assert first.setdefault(str(sorted(sent(order).items())), order) == order


@given(seed=st.integers(0, 2**32), users=st.integers(1, 3), steps=st.integers(1, 40))
def test_clicks_and_deletions_of_several_users_at_once_keep_the_order_in_which_they_were_made(seed, users, steps):
    rng = np.random.default_rng(seed)
    orders = Orders()
    made = [[] for _ in range(users)]
    for step in range(steps):
        user = rng.integers(users)
        own = made[user]
        for _ in range(rng.integers(3)):  # deleting alone sends nothing
            if own:
                del own[rng.integers(len(own))]
        own.append((int(rng.integers(4)), (int(user), step, 0)))
        assert list(orders.order("image", sent(own), own[-1][0])) == own
        # Looking at the automatic result, or asking again, is no event.
        assert orders.order("image", {}) == ()
        assert list(orders.order("image", sent(own), int(rng.integers(4)))) == own


def test_new_clicks_come_label_by_label_and_those_of_the_current_label_last():
    assert Orders().order("image", {2: [(1, 0, 0)], 0: [(2, 0, 0), (3, 0, 0)], 1: [(4, 0, 0)]}, newest=0) == (
        (1, (4, 0, 0)),
        (2, (1, 0, 0)),
        (0, (2, 0, 0)),
        (0, (3, 0, 0)),
    )


def test_a_click_that_was_removed_and_made_again_counts_as_made_then():
    orders = Orders()
    one, two = (1, 0, 0), (2, 0, 0)
    for clicks in ({1: [one]}, {1: [one, two]}, {1: [two]}):
        orders.order("image", clicks)
    assert orders.order("image", {1: [two, one]}) == ((1, two), (1, one))


def test_one_voxel_with_two_labels_and_one_click_twice_are_different_clicks():
    orders = Orders()
    voxel = (1, 1, 1)
    assert orders.order("image", {1: [voxel]}, 1) == ((1, voxel),)
    assert orders.order("image", {1: [voxel], 0: [voxel]}, 0) == ((1, voxel), (0, voxel))
    expected = ((1, voxel), (0, voxel), (1, voxel))
    assert orders.order("image", {1: [voxel, voxel], 0: [voxel]}, 1) == expected


def test_orders_on_one_thing_tell_nothing_of_another():
    orders = Orders()
    orders.order("one", {2: [(0, 0, 0)]})
    orders.order("one", {2: [(0, 0, 0)], 1: [(1, 0, 0)]})
    assert [label for label, _ in orders.order("other", {2: [(0, 0, 0)], 1: [(1, 0, 0)]})] == [1, 2]


@given(requests=st.lists(st.tuples(st.integers(0, 3), REQUESTS), max_size=30), most=st.integers(0, 40))
def test_what_is_kept_is_bounded_and_the_least_recently_used_goes_first(requests, most):
    orders = Orders(most)
    for about, clicks in requests:
        order = orders.order(about, clicks)
        assert orders.order(about, clicks) == order
        held = [1 + len(each) for known in orders._known.values() for each in known.values()]
        assert sum(held) == orders._held
        assert orders._held <= most or len(held) == 1


@given(st.lists(FEW_VOXELS, max_size=6), st.lists(FEW_VOXELS, max_size=6))
@settings(max_examples=50)
def test_shared_prefix(one, other):
    expected = 0
    while one[: expected + 1] == other[: expected + 1] and expected < min(len(one), len(other)):
        expected += 1
    assert shared_prefix(one, other) == expected


def test_many_clicks_share_their_memory():
    orders, clicks = Orders(), []
    for step in range(100):
        clicks.append((step, 300, 300))
        orders.order("image", {1: list(clicks)})
    held = Counter(id(click) for order in orders._known["image"].values() for click in order)
    assert len(held) <= 2 * len(clicks)
