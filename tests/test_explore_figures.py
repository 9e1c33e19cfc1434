"""The explorer's figures show what the tensors say, and the widgets what the state says."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from ipywidgets import Button
from matplotlib.colors import to_hex
from PIL import Image

from cnn2gnn import notebooks
from cnn2gnn.drawing.palette import AGAINST, FOR, WRONG, class_colours
from cnn2gnn.evaluation.nodes import TEST, Node, RunNodes
from cnn2gnn.explore import Explorer, figures, graph_figures, map_panel
from cnn2gnn.explore.export import FIGURE_FORMATS, export_figure
from cnn2gnn.explore.markup import change_html
from cnn2gnn.explore.pictures import figure_png, thumbnail
from cnn2gnn.explore.plots import plots
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.report.image_figures import neighbour_sheet

NAMES = ["map", "node", "evidence", "what if", "ranking", "matrix", "adjacency"]
NAMES += ["wrong-class edges", "ego graph", "time", "mixing over time"]


@pytest.fixture(scope="module")
def state(small_run):
    return ExplorerState(small_run, compare=small_run)  # looks at the most confident mistake


@pytest.fixture
def explorer(small_run):
    return Explorer(small_run)


@pytest.mark.parametrize("name", NAMES)
def test_every_view_draws_something(state, name):
    pixels = np.asarray(Image.open(io.BytesIO(figure_png(plots(state)[name](), dpi=50))))
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 10
    assert list(plots(state)) == NAMES


@pytest.mark.parametrize("suffix", FIGURE_FORMATS)
def test_a_view_is_exported(state, tmp_path, suffix):
    path = export_figure(plots(state)["evidence"](), tmp_path / f"evidence{suffix}")
    heads = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    assert path.read_bytes().startswith(heads[suffix])
    with pytest.raises(ValueError, match=r"must end in \.png, \.svg, \.pdf"):
        export_figure(plots(state)["evidence"](), tmp_path / "evidence.bmp")


def test_evidence_bars_are_exact_shares_and_leave_one_out(state):
    prediction, nodes = state.original(), state.nodes
    label = nodes.label(state.selected)
    names = [str(node) for node in prediction.neighbours]
    figure = figures.evidence_figure(prediction, nodes.classes, label, names)
    assert len(figure.axes) == 2  # a mistake: the predicted class and the true one
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == names
    for axes, index in zip(figure.axes, (prediction.predicted, label), strict=True):
        solid = [bar for bar in axes.patches if not bar.get_hatch()]
        hatched = [bar for bar in axes.patches if bar.get_hatch()]
        for bars, shares in (
            (solid, prediction.contributions),
            (hatched, prediction.hidden_shares),
        ):
            assert [bar.get_width() for bar in bars] == pytest.approx(shares[:, index].tolist())
            places = [round(bar.get_y() + bar.get_height() / 2) for bar in bars]
            assert places == list(range(len(names)))
            for bar in bars:
                assert to_hex(bar.get_facecolor()) == (FOR if bar.get_width() >= 0 else AGAINST)
        assert {bar.get_facecolor()[3] for bar in solid} == {1}
        assert max(bar.get_facecolor()[3] for bar in hatched) < 0.5


def test_the_evidence_says_which_bars_add_up(state):
    prediction, nodes = state.original(), state.nodes
    figure = plots(state)["evidence"]()
    assert figure.get_suptitle() == "logit = base + hidden (layer 1) + evidence (layer 2)"
    entries = zip(figure.legends[0].legend_handles, figure.legends[0].get_texts(), strict=True)
    said = {bool(handle.get_hatch()): text.get_text() for handle, text in entries}
    assert said[False].startswith("layer 2: exact")
    assert said[True] == "layer 1: leave one out; does not add up"
    name, numbers = figure.axes[1].get_title().split(" (true)\n")
    assert name == nodes.classes[nodes.label(state.selected)]
    *terms, equals, final = numbers.split()
    assert equals == "="
    assert sum(map(float, terms)) == pytest.approx(float(final), abs=0.02)
    index = nodes.label(state.selected)
    parts = (prediction.base_logits, prediction.hidden, prediction.contributions.sum(0))
    expected = [float(part[index]) for part in parts]
    assert [float(term) for term in terms] == pytest.approx(expected, abs=0.005)
    assert float(final) == pytest.approx(float(prediction.logits[index]), abs=0.005)


@pytest.fixture(scope="module")
def long_named(small_run):
    """Its classes have names as long as they are shown, of wide letters."""
    nodes = RunNodes.load(small_run)
    vars(nodes)["classes"] = tuple(f"{label} MELANOCYTIC NEVI AND {label}" for label in range(10))
    return ExplorerState(nodes)  # looks at the most confident mistake


def boxes(figure, parts):
    figure.draw_without_rendering()
    return [part.get_window_extent() for part in parts]


def test_long_names_lie_over_nothing(long_named):
    figure = plots(long_named)["evidence"]()
    left, right = boxes(figure, [axes.title for axes in figure.axes])
    assert left.x1 < right.x0
    figure = plots(long_named)["what if"]()
    names = boxes(figure, figure.axes[0].get_xticklabels())
    assert all(left.x1 < right.x0 for left, right in pairwise(names))
    long_named.select(438)
    figure = plots(long_named)["node"]()
    (title,) = boxes(figure, [figure.subfigs[0].axes[0].title])
    assert title.x0 >= 0
    figure = neighbour_sheet(long_named.nodes, range(400, 440))
    (axes,) = figure.axes
    said = [text for text in axes.texts if text.get_text().startswith("test")]
    pictures = min(image.get_extent()[0] for image in axes.images)
    edge = axes.transData.transform((pictures, 0))[0]
    assert len(said) == 40 and max(box.x1 for box in boxes(figure, said)) < edge


def test_legends_of_time_cover_no_curve(state):
    figure = plots(state)["time"]()
    for axes in figure.axes:
        legend, curves = boxes(figure, [axes.get_legend(), axes])
        assert legend.y0 >= curves.y1


def test_a_changed_class_is_told_from_one_whose_name_looks_alike(state):
    before, classes = state.original(), [f"{'l' * 40}{label}{'l' * 40}" for label in range(10)]
    other = (before.predicted + 1) % 10
    after = replace(before, logits=before.logits.index_fill(0, torch.tensor(other), 99.0))
    said = change_html(before, after, classes, other)
    assert "becomes" in said and "still" not in said


def test_the_map_says_what_it_is_a_map_of(state):
    title = plots(state)["map"]().axes[0].get_title()
    assert "of the keys (the space in which neighbours are found)" in title


def test_the_map_draws_edges_as_wide_as_their_weight(state):
    axes = plots(state)["map"]().axes[0]
    lines = next(c for c in axes.collections if hasattr(c, "get_segments"))
    prediction = state.original()
    weights = prediction.weights[prediction.weights > 0]
    assert len(lines.get_segments()) == len(weights)
    assert (np.argsort(lines.get_linewidths()) == np.argsort(weights.numpy())).all()
    start = state.places[state.nodes.row(state.selected)].numpy()
    assert all(np.allclose(segment[0], start) for segment in lines.get_segments())


def test_pairs_are_framed_by_class(state):
    edges = state.edges.between_classes(3)
    figure = graph_figures.pairs_figure(edges, state.nodes.image)
    assert len(figure.axes) == 6
    below = figure.axes[1::2] if figure.axes[0].get_subplotspec().colspan.start else figure.axes[3:]
    assert {to_hex(a.spines["left"].get_edgecolor()) for a in below} == {WRONG}
    assert (
        "no edges"
        in graph_figures.pairs_figure(edges.head(0), state.nodes.image).texts[0].get_text()
    )


def test_before_and_after_stand_side_by_side(state):
    neighbour = state.original().neighbours[0]
    state.switch(neighbour, on=False)
    axes = plots(state)["what if"]().axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    before, after = state.original().probabilities, state.edited().probabilities
    state.reset()
    assert max(heights[: len(heights) // 2]) == pytest.approx(float(before.max()))
    assert max(heights[len(heights) // 2 :]) == pytest.approx(float(after.max()))


def test_classes_keep_their_colours():
    assert class_colours(3) == class_colours(10)[:3] == class_colours(100)[:3]
    assert len(set(class_colours(50))) == 50


def test_previews_are_small_pngs_of_the_image():
    image = torch.arange(3 * 8 * 8, dtype=torch.uint8).reshape(3, 8, 8)
    kept = Image.open(io.BytesIO(base64.b64decode(thumbnail(image).split(",")[1])))
    assert np.array_equal(np.asarray(kept), image.permute(1, 2, 0).numpy())
    large = torch.full((3, 200, 100), 77, dtype=torch.uint8)
    small = Image.open(io.BytesIO(base64.b64decode(thumbnail(large).split(",")[1])))
    assert small.size == (32, 64)
    assert set(small.get_flattened_data()) == {(77, 77, 77)}


# --- widgets without a browser -------------------------------------------------------------------


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


def test_where_nobody_can_act_figures_are_shown(explorer, capsys):
    explorer._ipython_display_()
    assert capsys.readouterr().out.count("Image object") == len(NAMES)
    assert explorer._background is None


def test_notebook_03_runs_headlessly_and_stays_small(small_run, tmp_path):
    given = {"run": small_run.folder.name, "runs_dir": str(small_run.folder.parent)}
    executed = notebooks.execute(notebooks.find("03"), given, tmp_path / "03_explore.ipynb")
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", ()) for output in outputs) == len(NAMES)
    assert (tmp_path / "03_explore.ipynb").stat().st_size < 5e6
