"""A run whose classes are called as nobody expects: explorer, exports and report of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from html.parser import HTMLParser

import networkx
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import save_quick_map, small_config
from matplotlib.text import Text

from cnn2gnn import distil
from cnn2gnn.data import ImageSet, Splits, load
from cnn2gnn.drawing.style import drawn
from cnn2gnn.explore import Explorer
from cnn2gnn.explore.plots import plots
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.report import Report
from cnn2gnn.report.sheet import sample_sheet

ODD = (
    "Ba$$in", "<img src=x onerror=alert(1)>", "bank", "bank", "قطة كبيرة", "🐱", 'a,"b"\n%_#&{}\\',
    "_hidden", "l" * 200, "猫 test",
)  # fmt: skip
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    splits = Splits(*(replace(part, classes=ODD) for part in load("digits", train_images=200)))
    config = small_config(tmp_path_factory.mktemp("odd"), run="odd", teacher_epochs=2, epochs=2)
    run = distil(config, data=splits)
    save_quick_map(run)
    return run


@pytest.fixture(scope="module")
def explorer(run):
    return Explorer(run)


@pytest.fixture(scope="module")
def report(run):
    return Report.build([run])


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    return report.write(tmp_path_factory.mktemp("reports") / "odd")


class Tags(HTMLParser):
    """The images and the text of a piece of HTML."""

    def __init__(self, text):
        super().__init__()
        self.images, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes)["src"])

    def handle_data(self, data):
        self.text += data


def html_of(explorer):
    explorer.matrix.matrix.cell = [1, 1]
    panels = [explorer.node._card, explorer.node._legend, explorer.what_if.result]
    panels += [explorer.what_if._ranking, explorer.matrix._title, explorer.matrix._pairs]
    return [panel.value for panel in panels]


def test_no_name_becomes_a_tag_in_the_panels(explorer):
    labels = explorer.state.nodes.labels["test"]
    seen = ""
    for label in range(len(ODD)):
        explorer.select(int((labels == label).nonzero()[0]))
        for panel in html_of(explorer):
            found = Tags(panel)
            assert all(image.startswith("data:") for image in found.images)
            seen += found.text
    for name in ("Ba$$in", "<img src=x onerror=alert(1)>", "قطة كبيرة", "🐱", r'a,"b"\n%_#&{}\ '):
        assert name.strip() in seen


def test_a_class_called_bank_is_not_the_bank(explorer):
    state = explorer.state
    colours = state.colours("prediction")  # of bank nodes nothing is predicted
    assert len(set(colours.names)) == len(colours.names) == len(ODD) + 1
    assert {"bank (1)", "bank (2)", "bank"} <= set(colours.names)
    assert (colours.codes[len(state.nodes) :] == len(ODD)).all()
    first = state.with_filters(classes=("bank (1)",))
    assert set(state.nodes.labels["test"].numpy()[first]) == {2}
    state.with_filters(classes=())


def test_a_run_of_the_same_odd_names_is_compared(run):
    assert ExplorerState(run, compare=run).other.name == "odd"


def test_every_plot_is_drawn_without_a_warning(explorer):
    for name, draw in plots(explorer.state).items():
        figure = draw()
        drawn(figure, "png")
        longest = max(len(text.get_text()) for text in figure.findobj(Text))
        assert longest < 120, name


def test_legends_leave_out_no_class(report):
    figures = {e.name: e.content for s in report.sections for e in s.exhibits if e.is_figure}
    (legend,) = figures["umap"].legends
    assert len(legend.get_texts()) == len(ODD) + 2


def test_the_sheet_of_samples_names_every_class(run):
    sheet = sample_sheet(run.load_splits().train)
    drawn(sheet, "png")
    assert len({label.get_text() for label in sheet.axes[0].get_yticklabels()}) == len(ODD)


def test_a_sheet_of_many_classes_says_how_many_it_leaves_out(tmp_path):
    classes = tuple(f"class {number}" for number in range(500))
    images = torch.zeros(500, 3, 100, 100, dtype=torch.uint8)
    sheet = sample_sheet(ImageSet(images, torch.arange(500), classes, "many"), columns=2)
    (axes,) = sheet.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [*classes[:100]]
    assert axes.get_xlabel() == "and 400 more classes"
    sheet.savefig(tmp_path / "sheet.png", dpi=150)


def test_exports_keep_the_names(explorer, tmp_path):
    names = explorer.state.nodes.classes
    panel = explorer.export
    panel.folder.value = str(tmp_path)
    explorer.state.lasso(np.arange(40))
    for name in ("selection.csv", "selection.parquet", "edges.csv", "graph.graphml"):
        panel.buttons[name].click()
    panel.buttons["atlas.parquet"].click()
    expected = explorer.state.table["label"][:40].tolist()
    assert pd.read_csv(tmp_path / "selection.csv")["label"].tolist() == expected
    assert pd.read_parquet(tmp_path / "selection.parquet")["label"].tolist() == expected
    assert set(pd.read_csv(tmp_path / "edges.csv")["neighbour_label"]) <= set(names)
    graph = networkx.read_graphml(tmp_path / "graph.graphml")
    assert [graph.nodes[f"test {index}"]["label"] for index in range(40)] == expected
    assert set(pd.read_parquet(tmp_path / "atlas.parquet")["label"]) == set(names)
    explorer.state.lasso([])


def test_the_page_shows_every_class_and_runs_nothing(page):
    text = page.read_text(encoding="utf-8")
    found = Tags(text)
    assert all(image.startswith("data:") for image in found.images)
    for name in ("Ba$$in", "bank (1)", "bank (2)", "قطة كبيرة", "🐱", "l" * 200, "猫 test"):
        assert name in found.text
    classes = pd.read_csv(page.parent / "tables" / "classes.csv")
    assert len(classes) == len(set(classes["class"])) == len(ODD)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian: apt install chromium")
def test_a_browser_shows_the_page_within_its_width(page):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 900, "height": 900})
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        tab.goto(page.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert said == []
