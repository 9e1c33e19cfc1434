"""Libraries that only some data need: an extra of the package brings them."""

from __future__ import annotations

import importlib
from typing import Any

from cnn2gnn.data.pixels import DataError


def needed(library: str, extra: str) -> Any:
    """Import a library.

    Raises:
        DataError: it is not installed; the extra that brings it is named.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise DataError(
            f"{library} is not installed: pip install 'cnn2gnn[{extra}]' brings it"
        ) from None
