"""OHIF itself, in a browser without a screen: a click at a landmark marks the landmark, however it was acquired."""

import pytest

from tests.io.dicom_files import PLACES
from tests.server.ohif_browser import check_mark, chromium, click_at_landmark, landmark_served, needs_ohif

pytestmark = needs_ohif
TOKEN = "a-token-of-more-than-sixteen-signs"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser):
    """A tab that shares no cookies with another."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("place", PLACES)
def test_a_click_at_a_landmark_marks_the_landmark(page, tmp_path, place):
    with landmark_served(tmp_path, place) as (live, address):
        check_mark(click_at_landmark(page, live, address), place)


def test_who_has_logged_in_at_the_page_works_in_ohif(page, tmp_path):
    with landmark_served(tmp_path, "axial", TOKEN) as (live, address):
        answer = page.goto(address)
        assert answer.status == 401
        assert "Log in at the page of this server first" in page.inner_text("body")
        page.click("a")
        assert page.url == f"{live.url}/"
        page.fill("#token", TOKEN)
        page.click("#login button")
        page.wait_for_selector("#login:not([open])", state="attached")
        refused = []
        page.on("response", lambda answer: refused.append(answer.url) if answer.status in (401, 403) else None)
        check_mark(click_at_landmark(page, live, address), "axial")
    assert refused == []
