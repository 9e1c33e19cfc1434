"""The notebooks as tests, in several processes."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


class ByRun(LoadScopeScheduling):
    """What tells of one run goes to one process, in order: it goes on with what came before."""

    def _split_scope(self, nodeid: str) -> str:
        notebook = nodeid.split("::")[0].rsplit("/")[-1]
        return "demo" if notebook < "06" else notebook


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByRun:
    """How pytest-xdist hands out the cells."""
    return ByRun(config, log)
