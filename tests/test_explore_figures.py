"""The explorer's figures show what the tensors say."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from cnn2gnn import notebooks
from cnn2gnn.drawing.palette import AGAINST, FOR, WRONG, class_colours
from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.explore import Explorer, figures, graph_figures
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


def test_where_nobody_can_act_figures_are_shown(small_run, capsys):
    explorer = Explorer(small_run)
    explorer._ipython_display_()
    assert capsys.readouterr().out.count("Image object") == len(NAMES)
    assert explorer._background is None


def test_notebook_03_runs_headlessly_and_stays_small(small_run, tmp_path):
    given = {"run": small_run.folder.name, "runs_dir": str(small_run.folder.parent)}
    executed = notebooks.execute(notebooks.find("03"), given, tmp_path / "03_explore.ipynb")
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", ()) for output in outputs) == len(NAMES)
    assert (tmp_path / "03_explore.ipynb").stat().st_size < 5e6
