"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets for development; tests that need it skip without it."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("CNN2GNN_SHARED", root.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no development data in {folder}; CNN2GNN_SHARED names another place")
    return folder
