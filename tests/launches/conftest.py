"""What launch tests start from."""

import pytest

from tests import launching


@pytest.fixture(scope="session")
def finished_workdir(tmp_path_factory) -> launching.Made:
    """The main job with the compared methods, once a test run; tests copy it."""
    return launching.finished(tmp_path_factory)
