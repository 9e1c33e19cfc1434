"""Notebook 03 in a real JupyterLab and a real browser: click, walk, switch off, lasso, export.

Screenshots are left in tests/artefacts.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import numpy as np
import pandas as pd
import pytest

from cnn2gnn import notebooks
from cnn2gnn.evaluation.nodes import TEST, Node
from cnn2gnn.explore.map_panel import MARGIN
from cnn2gnn.explore.pictures import thumbnail
from cnn2gnn.explore.state import ExplorerState

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROOT = Path(__file__).parents[1]
ARTEFACTS = Path(__file__).parent / "artefacts"
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian: apt install chromium"),
    pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning"),  # umap-learn's
]


@pytest.fixture(scope="module")
def lab(small_run, tmp_path_factory):
    """JupyterLab on a free port, with notebook 03 set to the small run; yields its address."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.read(notebooks.find("03"), as_version=4)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    cell.source = f"run = {small_run.folder.name!r}\nruns_dir = {str(small_run.folder.parent)!r}\n"
    cell.source += "compare = None"
    nbformat.write(notebook, folder / "03_explore.ipynb")
    quiet = folder / "config" / "labconfig" / "page_config.json"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(
        '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}'
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=let-me-in",
    ]
    command += [f"--ServerApp.root_dir={folder}", "--expose-app-in-browser"]
    own = {"JUPYTER_CONFIG_DIR": str(folder / "config"), "IPYTHONDIR": str(folder / "ipython")}
    environment = {**os.environ, **own, "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    environment["PYTHONPATH"] = str(ROOT)
    log = folder / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/api?token=let-me-in", server, log)
            address = f"http://127.0.0.1:{port}/lab/tree/03_explore.ipynb?token=let-me-in"
            yield address, log
        finally:
            server.terminate()
            server.wait(30)


def wait_for(address, server, log, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            return urlopen(address).close()
        except (URLError, ConnectionError):
            time.sleep(0.3)
    raise AssertionError(f"no answer from JupyterLab: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def page(lab):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1700, "height": 1300})
        page.set_default_timeout(60_000)  # milliseconds
        yield page
        browser.close()


def shot(page, name):
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"explorer-{name}.png")


def pixel(canvas, places, row):
    """Where a row lies on the screen: points fill the height of the canvas but for the margin."""
    box = canvas.bounding_box()
    low, high = places.min(0), places.max(0)
    x, y = (2 * (places[row] - low) / (high - low) - 1) / (1 + 2 * MARGIN)
    half = box["height"] / 2
    return float(box["x"] + box["width"] / 2 + x * half), float(box["y"] + half - y * half)


def loneliest(state, places, count):
    """A test node far from all others, whom losing its first neighbour visibly changes.

    A click on it cannot mean another one, and three decimals show what switching off does.
    """
    scaled = (places - places.min(0)) / (places.max(0) - places.min(0))
    gaps = np.linalg.norm(scaled[:count, None] - scaled[None], axis=2)
    gaps[np.arange(count), np.arange(count)] = np.inf
    for index in (-gaps.min(1)).argsort():
        state.select(int(index))
        before = state.original()
        after = state.switch(before.neighbours[0], on=False)
        if abs(after.probabilities.max() - before.probabilities.max()) > 0.002:
            return int(index)
    raise AssertionError("no test node depends on its first neighbour")


@pytest.mark.timeout(600)
def test_a_person_explores_the_graph(small_run, lab, page):
    address, log = lab
    state = ExplorerState(small_run)
    state.use_umap()  # saved with the run: the notebook starts with it as well
    complaints = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    canvas = opens_the_notebook(page, address)
    lonely = loneliest(state, state.places.numpy(), len(state.nodes))
    clicks_a_point(page, canvas, state, lonely)
    switches_an_edge_off(page, state, lonely)
    walks_to_a_neighbour_and_back(page, state, lonely)
    selected = lassoes(page, canvas, len(state.places))
    exports_what_is_selected(page, small_run, selected)
    exports_the_heaviest_wrong_edge(page, small_run, state)

    # nothing went wrong anywhere
    page.evaluate(
        "() => { const n = window.jupyterapp.shell.currentWidget.content;"
        " n.activeCellIndex = n.widgets.length - 1;"
        " return window.jupyterapp.commands.execute('notebook:run-cell') }"
    )
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert page.locator(".cnn2gnn-error").count() == 0
    assert page.locator(".cnn2gnn-node").inner_text() == f"test {lonely}"
    assert "Traceback" not in log.read_text()
    assert complaints == []


def opens_the_notebook(page, address):
    """Run all cells and look at both projections; returns the map."""
    began = time.monotonic()
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
        " === 'idle'"
    )
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    canvas = page.locator(".jp-OutputArea canvas").first
    canvas.wait_for()
    print(f"from opening the notebook to the map: {time.monotonic() - began:.1f} s")
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.content.widgets"
        ".filter(c => c.model.type === 'code').every(c => c.model.executionCount !== null)"
    )
    canvas.scroll_into_view_if_needed()
    shot(page, "opened")
    for projection in ("pca", "umap"):
        page.get_by_role("button", name=projection).click()
        page.wait_for_timeout(1000)  # for the drawing
        shot(page, projection)
    return canvas


def looks_at(page, node):
    """Wait until the panel shows this node."""
    page.wait_for_function(
        f"() => document.querySelector('.cnn2gnn-node').textContent === '{node}'"
    )


def clicks_a_point(page, canvas, state, lonely):
    """Hover over it, so that its image appears, and click."""
    places = state.places.numpy()
    page.mouse.move(*pixel(canvas, places, lonely))
    preview = page.wait_for_function(
        "() => [...document.querySelectorAll('.jp-OutputArea div')].map(e => e.style"
        ".backgroundImage).find(image => image.startsWith('url(\"data:image/png'))"
    )
    assert preview.json_value() == f'url("{thumbnail(state.nodes.image(Node(TEST, lonely)))}")'
    shot(page, "hovered")
    page.mouse.click(*pixel(canvas, places, lonely))
    looks_at(page, f"test {lonely}")
    shot(page, "clicked")


def switches_an_edge_off(page, state, lonely):
    """The probability changes, to what it is without the edge."""
    after = page.locator(".cnn2gnn-after")
    before = after.all_inner_texts()
    page.locator(".cnn2gnn-neighbour input").first.click()
    page.wait_for_function(
        "before => [...document.querySelectorAll('.cnn2gnn-after')].map(c => c.innerText).join()"
        " !== before",
        arg=",".join(before),
    )
    state.select(lonely)
    expected = state.switch(state.original().neighbours[0], on=False).probabilities.max()
    assert f"{expected:.3f}" in after.all_inner_texts()
    shot(page, "edge-off")


def walks_to_a_neighbour_and_back(page, state, lonely):
    """To the heaviest one."""
    page.locator(".cnn2gnn-neighbour img").first.click()
    looks_at(page, state.original().neighbours[0])
    shot(page, "walked")
    page.get_by_role("button", name="back").click()
    looks_at(page, f"test {lonely}")


def lassoes(page, canvas, nodes):
    """Lasso some, and add others; returns how many are selected."""
    page.get_by_title("Activate lasso selection").click()
    box = canvas.bounding_box()
    drag(page, box, (0.25, 0.1), (0.75, 0.5))
    first = lassoed_more_than(page, 1)
    assert first < nodes
    page.get_by_role("button", name="add", exact=True).click()
    drag(page, box, (0.25, 0.5), (0.75, 0.9))
    second = lassoed_more_than(page, first)
    shot(page, "lassoed")
    return second


def exports_what_is_selected(page, run, selected):
    """Look at every page, and save the selection."""
    for name in ("Matrix", "Ego graph", "List", "Time", "Export"):
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(700)
        page.get_by_role("tab", name=name, exact=True).scroll_into_view_if_needed()
        shot(page, name.lower().replace(" ", "-"))
    page.get_by_role("button", name="selection.csv", exact=True).click()
    page.get_by_text("wrote ").wait_for()
    assert len(pd.read_csv(run.folder / "exports" / "selection.csv")) == selected
    shot(page, "exported")


def exports_the_heaviest_wrong_edge(page, run, state):
    """Find it among all, and take it along."""
    page.get_by_role("tab", name="Matrix", exact=True).click()
    page.get_by_role("button", name="all wrong-class edges").click()
    page.get_by_role("tab", name="Export", exact=True).click()
    page.get_by_role("button", name="edges.csv", exact=True).click()
    page.get_by_text("edges.csv", exact=False).and_(page.get_by_text("wrote ")).wait_for()
    edge = pd.read_csv(run.folder / "exports" / "edges.csv").iloc[0]
    wrong = state.edges.between_classes().iloc[0]
    assert (edge["test"], edge["bank"]) == (wrong["test"], wrong["bank"])


def lassoed_more_than(page, count):
    """Wait until more nodes are lassoed, and return how many."""
    found = page.wait_for_function(
        "count => { const lines = [...document.querySelectorAll('.widget-html-content')];"
        " const line = lines.find(e => e.innerText.includes('nodes lassoed'));"
        " const now = line ? parseInt(line.innerText) : 0; return now > count ? now : null }",
        arg=count,
    )
    return found.json_value()


def drag(page, box, start, end):
    """Lasso a rectangle, given in shares of the canvas.

    It stops short of where it began: there it would be a click on whatever point lies below.
    """
    (x0, y0), (x1, y1) = (
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)
    )
    page.mouse.move(x0, y0)
    page.mouse.down()
    for x, y in ((x1, y0), (x1, y1), (x0, y1), (x0, 0.9 * y0 + 0.1 * y1)):
        page.mouse.move(x, y, steps=12)
    page.mouse.up()
