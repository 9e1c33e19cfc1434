"""Libraries that only some users need: an extra of the package brings them."""

from __future__ import annotations

import importlib
from typing import Any

from cnn2gnn.base.values import ConfigError


def needed(library: str, extra: str) -> Any:
    """Import a library.

    Raises:
        ConfigError: it is not installed; the extra that brings it is named.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library.split(".")[0]:
            raise
        raise ConfigError(
            f"{library} is not installed: pip install 'cnn2gnn[{extra}]' brings it"
        ) from None
