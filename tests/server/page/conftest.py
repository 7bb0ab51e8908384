"""A browser for each module: while one runs, no other event loop can run in its thread."""

import pytest

from tests.server.page.browser import started


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser
