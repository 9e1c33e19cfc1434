"""The explorer's widgets show what the state says, and tell it what was clicked; no browser."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from ipywidgets import Button

from cnn2gnn.evaluation.nodes import TEST, Node
from cnn2gnn.explore import Explorer, map_panel


@pytest.fixture
def explorer(small_run):
    return Explorer(small_run)


def test_a_click_on_the_map_selects_and_a_lasso_does_not(explorer):
    click(explorer, [7])
    assert explorer.state.selected == Node(TEST, 7)
    click(explorer, [3, 4, 5])
    assert explorer.state.selected == Node(TEST, 7)
    assert explorer.state.selection.tolist() == [3, 4, 5]
    explorer._mode.value = "subtract"
    click(explorer, [4])
    assert explorer.state.selection.tolist() == [3, 5]
    assert explorer.map.scatter.selection().tolist() == [3, 5]


def test_the_point_clicked_last_can_be_clicked_again_after_a_walk(explorer):
    click(explorer, [7])
    explorer.walk(0)
    assert explorer.state.selected != Node(TEST, 7) and not len(explorer.state.selection)
    click(explorer, [7])
    assert explorer.state.selected == Node(TEST, 7)
    assert explorer.state.selection.tolist() == [7]
    click(explorer, [3, 4])
    explorer.walk(0)
    assert explorer.state.selection.tolist() == [3, 4]  # a lasso stays


def test_a_legend_that_would_cover_the_map_is_left_out(explorer, monkeypatch):
    assert explorer.map.widget.legend  # the ten digits
    monkeypatch.setattr(map_panel, "_IN_LEGEND", 5)
    explorer.map.colour("class")
    assert not explorer.map.widget.legend
    explorer.map.colour("correctness")
    assert explorer.map.widget.legend


def test_the_line_below_the_map_counts_what_is_lassoed(explorer):
    for rows, said in (([3, 4], "2 nodes lassoed. "), ([3], "1 node lassoed. ")):
        click(explorer, rows)
        assert explorer._line.value.startswith(said)


def click(explorer, rows):
    explorer.map.widget.selection = np.array(rows, dtype=np.uint32)


def test_the_strip_walks_and_switches(explorer):
    explorer.select(7)
    before = explorer.state.original()
    strip = explorer.node.strip
    titles = [item["title"].split(",")[0] for item in strip.items]
    assert titles == [str(node) for node in before.neighbours]
    strip.action = {"kind": "switch", "position": 1, "on": False, "count": 1}
    assert explorer.state.change.off == {before.neighbours[1]}
    assert not strip.items[1]["on"]
    after = explorer.state.edited().probabilities.max()
    assert f"{after:.3f}" in explorer.what_if.result.value
    strip.action = {"kind": "walk", "position": 0, "count": 2}
    assert explorer.state.selected == before.neighbours[0]
    explorer.back()
    assert explorer.state.selected == Node(TEST, 7)


def test_the_strip_shows_both_layers(explorer):
    wrong = int(explorer.state.with_filters(sort="mistakes")[0])
    explorer.select(wrong)
    prediction, nodes = explorer.state.original(), explorer.state.nodes
    focus = [prediction.predicted, nodes.label(explorer.state.selected)]
    shares = [prediction.contributions[:, focus], prediction.hidden_shares[:, focus]]
    longest = max(float(share.abs().max()) for share in shares)
    for position, item in enumerate(explorer.node.strip.items):
        assert [bar["hatched"] for bar in item["bars"]] == [False, True] * 2
        values = [float(share[position, place]) for place in (0, 1) for share in shares]
        lengths = [bar["length"] for bar in item["bars"]]
        assert lengths == pytest.approx([value / longest for value in values])
        for bar, value in zip(item["bars"], values, strict=True):
            layer = "layer 1, leave one out" if bar["hatched"] else "layer 2, exact"
            assert bar["text"].startswith(f"{value:+.3f}") and bar["text"].endswith(layer)
    legend = explorer.node._legend.value
    assert "solid: layer 2, exact; hatched: layer 1, leave one out" in legend


def test_controls_change_the_state_and_follow_it(explorer):
    explorer.select(7)
    controls = explorer.what_if.controls
    controls["k"].value = 4
    controls["protocol"].value = "batch"
    assert (explorer.state.change.k, explorer.state.change.protocol) == (4, "batch")
    assert len(explorer.node.strip.items) == 4
    explorer.select(8)
    assert (controls["k"].value, controls["protocol"].value) == (10, "inductive")


def test_a_cell_lists_its_edges_and_an_edge_leads_to_its_node(explorer, tmp_path):
    wrong = explorer.state.edges.between_classes().iloc[0]
    names = explorer.state.nodes.classes
    explorer.matrix.matrix.cell = [names.index(wrong[c]) for c in ("label", "neighbour_label")]
    assert explorer.matrix.edges.options[1][1] == wrong["test"]
    explorer.matrix.edges.value = int(wrong["test"])
    assert explorer.state.selected == Node(TEST, int(wrong["test"]))
    explorer.export.folder.value = str(tmp_path)
    explorer.export.buttons["edges.csv"].click()
    exported = pd.read_csv(tmp_path / "edges.csv", dtype={"label": str, "neighbour_label": str})
    assert (exported[["label", "neighbour_label"]] == wrong[["label", "neighbour_label"]]).all(
        axis=None
    )
    assert exported.loc[0, ["test", "bank"]].tolist() == wrong[["test", "bank"]].tolist()


def test_a_cell_is_listed_again_after_all_classes(explorer):
    panel, wrong = explorer.matrix, explorer.state.edges.between_classes().iloc[0]
    names = explorer.state.nodes.classes
    cell = [names.index(wrong[c]) for c in ("label", "neighbour_label")]
    panel.matrix.cell = cell
    listed = panel.listed
    every = next(b for b in buttons(panel.widget) if b.description == "all wrong-class edges")
    every.click()
    assert panel.matrix.cell == [] and len(panel.listed) > len(listed)
    panel.matrix.cell = cell
    assert panel.listed.equals(listed)
    assert explorer.errors == []


def test_an_edge_leads_to_its_node_after_another_one_of_it(explorer):
    explorer.list.effects.options = [("choose", None), ("edge", 7), ("other edge", 7)]
    pairs = explorer.state.edges.between_classes()
    node = int(pairs["test"].value_counts().index[0])
    of_matrix = [1 + place for place in np.flatnonzero(pairs["test"] == node)[:2].tolist()]
    for select, places, there in (
        (explorer.list.effects, (1, 2), 7),
        (explorer.matrix.edges, of_matrix, node),
    ):
        for place in places:
            select.set_state({"index": place})  # as a front end does
            assert explorer.state.selected == Node(TEST, there)
            explorer.walk(0)
    assert explorer.errors == []


def buttons(box):
    parts = [box] if isinstance(box, Button) else []
    return parts + [found for child in getattr(box, "children", ()) for found in buttons(child)]


def test_filters_reach_list_and_map(explorer):
    explorer.list.controls["verdicts"].value = ("wrong", "harmed")
    listed = [value for _, value in explorer.list.nodes.options[1:]]
    table = explorer.state.table
    assert listed == table.index[~table["correct"]].tolist()
    nodes = explorer.state.nodes
    assert explorer.map.widget.filter.tolist() == [*listed, *range(len(nodes), nodes.rows)]
    explorer.list.controls["sort"].value = "batch_sensitivity"
    assert "batch_sensitivity" in explorer.state.table


def test_filters_and_lasso_of_the_state_reach_the_widgets(explorer):
    mistakes = explorer.state.with_filters(sort="mistakes", classes=["3", "5"], confidence=(0, 0.9))
    explorer.state.lasso([3, 4])
    explorer.refresh()
    controls = explorer.list.controls
    assert (controls["sort"].value, controls["classes"].value) == ("mistakes", ("3", "5"))
    assert [value for _, value in explorer.list.nodes.options[1:]] == mistakes.tolist()
    assert explorer.map.scatter.selection().tolist() == [3, 4]
    controls["confidence"].value = (0, 1)
    assert explorer.state.filters.sort == controls["sort"].value == "mistakes"


def test_the_map_draws_the_edges_that_pass_the_filter(explorer):
    explorer.select(7)
    weights = explorer.state.original().weights
    least = round(float(weights.sort(descending=True).values[:4].mean()), 2)
    heavy = 1 + int((weights >= least).sum())  # and the frame
    assert 1 < heavy < 1 + len(weights)
    explorer.list.controls["min_weight"].value = least
    assert len(explorer.map.widget.annotations) == heavy
    explorer._projection.value = "pca"
    assert len(explorer.map.widget.annotations) == heavy
    explorer.list.controls["min_weight"].value = 0
    assert len(explorer.map.widget.annotations) == 1 + len(weights)


def test_the_slider_of_time_shows_that_pass(explorer):
    first = explorer.state.timeline.passes[0]
    explorer.time.slider.value = first
    _, matrix, text = explorer.time.runs[0]
    assert f"after pass {first}:" in text.value
    assert matrix.texts[2][2] == f"{explorer.state.timeline.mixing[first][2, 2]:.3f}"


def test_export_buttons_write_files(explorer, tmp_path):
    panel = explorer.export
    panel.folder.value = str(tmp_path)
    click(explorer, [1, 2])
    for name in ("selection.csv", "selection.parquet", "graph.graphml", "atlas.parquet"):
        panel.buttons[name].click()
        assert (tmp_path / name).stat().st_size > 0
        assert name in panel.done.value
    assert pd.read_csv(tmp_path / "selection.csv")["index"].tolist() == [1, 2]
    panel.plot.value = "ego graph"
    panel.buttons[".pdf"].click()
    assert [path.suffix for path in tmp_path.glob("ego-graph-*")] == [".pdf"]


def test_an_error_in_a_callback_is_shown_kept_and_raised(explorer):
    with pytest.raises(ValueError, match="position=99"):
        explorer.node.strip.action = {"kind": "walk", "position": 99, "count": 1}
    assert "ValueError: position=99 must be from 0 to" in explorer._panel.widget.value
    assert [type(error) for error in explorer.errors] == [ValueError]
    explorer.node.strip.action = {"kind": "walk", "position": 0, "count": 2}
    assert explorer._panel.widget.value == ""
    assert len(explorer.errors) == 1
