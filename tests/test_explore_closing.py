"""What a cell has shown is closed when it runs again, and nothing else is."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import jscatter
import pandas as pd
import pytest
from ipywidgets import HTML, Button, HBox, VBox
from ipywidgets.widgets import widget as widgets

from cnn2gnn.explore import closing


class Shown:
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_only_what_the_same_cell_has_shown_before_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closing, "_SHOWN", {})
    shown = []
    # a cell that shows two, another cell, and the first again
    for cell, message in (("a", "1"), ("a", "1"), ("b", "2"), ("a", "3"), (None, "4")):
        parent = {"metadata": {"cellId": cell}, "header": {"msg_id": message}}
        shell = SimpleNamespace(get_parent=lambda parent=parent: parent)
        monkeypatch.setattr(closing, "get_ipython", lambda shell=shell: shell)
        shown.append(Shown())
        closing.shown_here(shown[-1])
    assert [one.closed for one in shown] == [1, 1, 0, 0, 0]


def test_nothing_of_a_closed_panel_stays() -> None:
    before = {*widgets._instances}
    frame = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0]})
    scatter = jscatter.Scatter(data=frame, x="x", y="y")
    panel = VBox([HBox([Button(description="go"), HTML("text")]), scatter.widget])
    map_ = weakref.ref(scatter.widget)
    assert len({*widgets._instances} - before) > 6
    closing.close_widgets(panel)
    assert {*widgets._instances} - before == set()
    del panel, scatter
    gc.collect()
    assert map_() is None, "something keeps the map, and with it all its points"
