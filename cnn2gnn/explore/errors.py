"""An error in a callback is shown in the panel, kept, and raised."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

from ipywidgets import HTML

from cnn2gnn.explore.markup import error_html


class ErrorPanel:
    """Where errors are shown, instead of in the server's log where nobody looks.

    Attributes:
        caught: all errors so far, for tests and for notebooks that assert that there is none.
        widget: empty, or the last error.
    """

    def __init__(self) -> None:
        self.caught: list[Exception] = []
        self.widget = HTML()

    def guard(self, function: Callable[..., Any], *, clears: bool = True) -> Callable[..., Any]:
        """Return `function` with its errors shown, kept and raised again.

        Args:
            clears: whether its success takes the last error off the panel.
        """

        @wraps(function)
        def guarded(*arguments: Any, **named: Any) -> Any:
            try:
                result = function(*arguments, **named)
            except Exception as error:
                if error not in self.caught:  # a guarded function called another one
                    self.caught.append(error)
                self._show(error)
                raise
            if clears:
                self.widget.value = ""
            return result

        return guarded

    def _show(self, error: Exception) -> None:
        whole = "".join(traceback.format_exception(error))
        self.widget.value = error_html(f"{type(error).__name__}: {error}", whole)
