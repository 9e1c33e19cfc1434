"""The notebooks as tests, in several processes."""

import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist asks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """01 to 05 tell of one run, each with what those before have left: in order, in one process."""
    for item in items:
        story = "one run" if item.path.name < "06" else item.path.stem
        item.add_marker(pytest.mark.xdist_group(story))
