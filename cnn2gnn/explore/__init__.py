"""See the learned graph: `state` answers, `figures` draws, `widgets` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnn2gnn.explore.state import ExplorerState
    from cnn2gnn.explore.widgets import Explorer

__all__ = ["Explorer", "ExplorerState"]


def __getattr__(name: str) -> Any:
    # The report needs the palette only: widgets are imported by whoever asks for them.
    if name == "Explorer":
        from cnn2gnn.explore.widgets import Explorer

        return Explorer
    if name == "ExplorerState":
        from cnn2gnn.explore.state import ExplorerState

        return ExplorerState
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
