"""The report of real runs: its files, its page, and the notebook that makes them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import save_quick_map, small_config
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from cnn2gnn import notebooks
from cnn2gnn.config import ConfigError
from cnn2gnn.distillation.distil import distil
from cnn2gnn.drawing.palette import class_colours
from cnn2gnn.drawing.style import COLUMN, PAGE, SMALLEST, drawn
from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.report import Report
from cnn2gnn.report.accuracy_sections import accuracy
from cnn2gnn.report.batch_sections import batches
from cnn2gnn.report.model_card import model_card
from cnn2gnn.report.page import write_figures, write_tables
from cnn2gnn.report.results import Results
from cnn2gnn.report.section import Exhibit
from cnn2gnn.report.writing import _facts
from cnn2gnn.runs import Run

LATEX = shutil.which("pdflatex")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # umap's

PROMISED = {
    "training_curves", "accuracy_by_protocol", "accuracy_by_batch_size", "audit", "adjacency",
    "class_mixing", "distributions", "homophily_against_accuracy", "umap", "images_best",
    "images_worst", "images_sensitive", "reliability", "confusion", "teacher_agreement",
}  # fmt: skip


@pytest.fixture(scope="session")
def second_run(small_run):
    config = small_config(small_run.folder.parent, run="second", seed=1, baselines="twin")
    run = distil(config)
    save_quick_map(run)
    return run


@pytest.fixture(scope="session")
def report(small_run):
    return Report.build([small_run])


@pytest.fixture(scope="session")
def page(report, tmp_path_factory):
    return report.write(tmp_path_factory.mktemp("reports") / "small")


def exhibits(report):
    return {e.name: e for section in report.sections for e in section.exhibits}


def figures(report):
    return {n: e.content for n, e in exhibits(report).items() if isinstance(e.content, Figure)}


class TestFiles:
    def test_every_promised_figure_is_there_in_three_formats(self, page):
        folder = page.parent / "figures"
        names = {path.stem for path in folder.iterdir()}
        assert PROMISED <= names
        for name in names:
            with Image.open(folder / f"{name}.png") as image:
                assert image.format == "PNG"
            assert b"<svg" in (folder / f"{name}.svg").read_bytes()[:1000]
            assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")

    def test_every_number_in_a_csv_names_existing_files_of_the_run(self, page, small_run):
        tables = sorted((page.parent / "tables").glob("*.csv"))
        assert len(tables) >= 7
        for path in tables:
            sources = pd.read_csv(path)["source"]
            for name in {file for source in sources for file in source.split(", ")}:
                assert (small_run.folder.parent.parent / name).is_file(), (path, name)
            assert (path.with_suffix(".tex")).read_text().count("\\begin{tabular}") == 1

    def test_the_model_card_of_the_one_run_lies_beside_them(self, page, small_run):
        assert (page.parent / "model-card.md").read_text() == model_card(small_run)

    @pytest.mark.skipif(
        LATEX is None, reason="no LaTeX here; Debian: apt install texlive-latex-recommended"
    )
    def test_latex_sets_every_table_within_the_column(self, page, tmp_path):
        tables = sorted((page.parent / "tables").glob("*.tex"))
        inputs = "".join(f"\\input{{{path}}}\n\\clearpage\n" for path in tables)
        (tmp_path / "all.tex").write_text(
            "\\documentclass[twocolumn]{article}\\usepackage{booktabs,graphicx}\n"
            f"\\begin{{document}}\n{inputs}\\end{{document}}\n"
        )
        command = [LATEX, "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120
        )
        assert done.returncode == 0, done.stdout[-2000:]
        log = (tmp_path / "all.log").read_text(errors="replace")
        too_wide = [float(points) for points in re.findall(r"Overfull .hbox \((\S+)pt", log)]
        assert max(too_wide, default=0) < 5

    def test_the_accuracies_are_those_of_metrics_json(self, page, small_run):
        accuracy = pd.read_csv(page.parent / "tables" / "accuracy.csv")
        student = accuracy[accuracy["model"] == "student"].set_index("protocol")["accuracy"]
        expected = small_run.metrics()["student"]["accuracy"]
        assert student["inductive"] == expected["inductive"]
        assert student["batch"] == expected["batch"]["mean"]
        assert student["sorted (audit)"] == expected["sorted"]

    def test_training_curves_show_both_stages(self, report, small_run):
        validation = figures(report)["training_curves"].axes[1]
        rows = pd.DataFrame(small_run.history()).groupby("stage")["accuracy"]
        for line, stage in zip(validation.lines, ("student", "student-graph"), strict=False):
            expected = rows.get_group(stage).to_numpy()
            np.testing.assert_allclose(line.get_ydata(), 100 * expected)

    def test_a_figure_drawn_again_is_the_same_file(self, report):
        figure = figures(report)["confusion"]
        for kind in ("png", "svg", "pdf"):
            assert drawn(figure, kind) == drawn(figure, kind)


def test_what_differs_between_runs_stands_at_the_top_for_each(small_run):
    results = Results.read(small_run)
    other = replace(results, metrics=results.metrics | {"dataset": "else"})
    facts = _facts([results, other, results])
    said = facts["data"].split(" | ")
    assert [text.partition(",")[0] for text in said] == ["digits", "else"]
    assert " | " not in facts["protocol"] + facts["made with"]


def test_runs_go_by_their_names(small_run, monkeypatch):
    monkeypatch.chdir(small_run.folder.parent.parent)  # where `runs` lies
    assert Results.read("small").run.folder.samefile(small_run.folder)
    assert RunNodes.load("small").run.folder.samefile(small_run.folder)


def test_a_student_without_a_graph_is_not_said_to_have_one(tmp_path):
    few = {"train_images": 300, "epochs": 1, "graph_epochs": 1, "baselines": "twin"}
    run = distil(small_config(tmp_path, run="bare", graph="none", **few))
    parts = Report.build([run]).sections
    for part in parts:
        told = " ".join([part.text, *(exhibit.caption for exhibit in part.exhibits)])
        rest = told.replace("The student has no graph", "")
        assert not re.search(r"\bgraph\b|neighbour|\bbank\b", rest), told
    (shown,) = (e.content for part in parts for e in part.exhibits if e.name == "agreement")
    assert list(shown.index) == ["student", "teacher"]


class TestRefusals:
    def test_runs_that_do_not_exist_are_refused_and_nothing_is_written(self, small_run, tmp_path):
        with pytest.raises(FileNotFoundError, match="no run in"):
            Report.build([small_run, tmp_path / "none"]).write(tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_an_unfinished_run_is_refused(self, small_run, tmp_path):
        (tmp_path / "begun").mkdir()
        shutil.copy(small_run.folder / "config.json", tmp_path / "begun")
        with pytest.raises(FileNotFoundError, match="not finished"):
            Report.build([tmp_path / "begun"])

    def test_no_run_and_the_same_run_twice_are_refused(self, small_run):
        with pytest.raises(ValueError, match="at least one run"):
            Report.build([])
        with pytest.raises(ValueError, match="each only once"):
            Report.build([small_run, small_run.folder])


class TestFigures:
    def test_letters_can_be_read_at_the_width_of_a_column(self, report):
        for name, figure in figures(report).items():
            assert figure.get_figwidth() in (COLUMN, PAGE), name
            texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
            assert min(t.get_fontsize() for t in texts) >= SMALLEST, name

    def test_nothing_is_cut_off_at_the_edge(self, report):
        for exhibit in exhibits(report).values():
            if not exhibit.is_figure:
                continue
            assert exhibit.svg  # drawn once for page and file, and laid out by that
            name, figure = exhibit.name, exhibit.content
            box = figure.get_tightbbox()
            assert box.x0 > -0.02 and box.y0 > -0.02, name
            assert box.x1 < figure.get_figwidth() + 0.02, name
            assert box.y1 < figure.get_figheight() + 0.02, name

    def test_axes_with_a_scale_have_a_name(self, report):
        for name, figure in figures(report).items():
            for axes in figure.axes:
                scaled = axes.axison and len(axes.get_xticks()) and not axes.images
                shared = axes.get_shared_x_axes().get_siblings(axes)
                if scaled and axes.get_label() != "<colorbar>":
                    assert any(other.get_xlabel() for other in shared), name

    def test_a_class_has_one_colour_everywhere(self, report):
        shown = figures(report)
        expected = class_colours(10)
        marks = shown["homophily_against_accuracy"].axes[0].collections[-10:]
        assert [to_hex(mark.get_facecolor()[0]) for mark in marks] == expected
        legend = [h for h in shown["umap"].axes[0].collections if len(h.get_offsets()) == 0]
        assert [to_hex(h.get_facecolor()[0]) for h in legend if h.get_label()[0] != "_"] == expected

    def test_sorted_is_called_an_audit_wherever_it_stands(self, report, page):
        audit = figures(report)["audit"]
        assert "no result" in audit.axes[0].get_title()
        text = re.sub(r'src="[^"]*"', "", page.read_text())
        for cell in re.findall(r"<th>([^<]*sorted[^<]*)</th>", text):
            assert "audit" in cell


class TestPage:
    def test_it_needs_no_other_file(self, page):
        class Links(HTMLParser):
            found: list[str] = []

            def handle_starttag(self, tag, attrs):
                self.found += [v for k, v in attrs if k in ("src", "href") and v is not None]

        links = Links()
        links.feed(page.read_text())
        assert len(links.found) > len(PROMISED)
        assert all(link.startswith(("data:", "#")) for link in links.found)
        assert "@import" not in page.read_text() and "url(" not in page.read_text()
        assert page.stat().st_size < 10e6

    def test_every_exhibit_names_its_source(self, report, page):
        text = page.read_text()
        for name, exhibit in exhibits(report).items():
            assert exhibit.source
            assert f"/{name} from " in text

    @pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian: apt install chromium")
    def test_a_browser_without_network_shows_and_prints_it(self, page, tmp_path):
        playwright = pytest.importorskip("playwright.sync_api")
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            tab = browser.new_context(offline=True).new_page()
            complaints: list[str] = []
            tab.on("console", lambda message: complaints.append(message.text))
            tab.on("requestfailed", lambda request: complaints.append(request.url))
            tab.goto(page.as_uri())
            shown = "[...document.images].every(i => i.complete && i.naturalWidth > 100)"
            assert tab.evaluate(shown)
            tables = "[...document.querySelectorAll('.scroll')]"  # 1,280 pixels are wide enough
            assert tab.evaluate(tables + ".every(e => e.scrollWidth <= e.clientWidth)")
            for width in (1280, 830, 400):
                tab.set_viewport_size({"width": width, "height": 720})
                assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
            printed = tab.pdf(prefer_css_page_size=True)
            browser.close()
        assert complaints == []
        assert printed.startswith(b"%PDF")
        assert 5 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 20


def as_if(run: Run, **parameters: object) -> Run:
    """The run and its results, as if it had been made with other parameters."""
    other = {"parameters": run.config.parameters() | parameters}
    told = Run(run.folder, run.manifest | other)
    told.metrics = run.metrics  # type: ignore[method-assign]
    return told


class TestTwin:
    def test_the_report_says_how_it_was_trained(self, small_run, second_run):
        alone, beside = (accuracy([Results.read(run)]).text for run in (small_run, second_run))
        assert "twin" not in alone
        assert beside.startswith(alone)
        assert "twin has the same stem" in beside and "same features" in beside
        assert "as many passes of stage two (4), without a graph" in beside

    def test_a_twin_of_another_weight_has_a_stem_of_its_own(self, second_run):
        text = accuracy([Results.read(as_if(second_run, twin_kd_weight=0.25))]).text
        assert "same features" not in text
        assert "kd_weight 0.25 instead of 0.5" in text

    def test_near_copies_are_left_out_beside_it_where_every_run_has_one(
        self, small_run, second_run
    ):
        tables = {}
        for name, runs in {"all": [second_run], "some": [small_run, second_run]}.items():
            found = batches([Results.read(run) for run in runs]).exhibits
            tables[name] = next(each for each in found if each.name == "near_copies")
        assert "of the twin and" in tables["all"].caption
        twin = second_run.metrics()["baselines"]["twin"]["accuracy"]
        shown = tables["all"].numbers.set_index("without")["twin_accuracy"]
        assert shown["0%"] == pytest.approx(twin)
        assert "without neighbours and" in tables["some"].caption

    def test_a_stem_that_went_on_gives_no_features_in_common(self, second_run):
        text = accuracy([Results.read(as_if(second_run, stage_two="joint"))]).text
        assert "same features" not in text
        assert "begins stage two with the same stem, which goes on" in text


class TestSeveralRuns:
    def test_seeds_are_averaged(self, small_run, second_run):
        both = exhibits(Report.build([small_run, second_run]))
        values = [
            100 * run.metrics()["student"]["accuracy"]["inductive"]
            for run in (small_run, second_run)
        ]
        shown = both["accuracy"].content.loc["student", "inductive"]
        assert shown == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
        assert set(both["accuracy"].numbers["run"]) == {"small", "second"}
        assert "{small,second}/metrics.json" in both["accuracy"].source

    def test_other_configurations_are_shown_beside_and_not_averaged(self, small_run):
        paper = distil(small_config(small_run.folder.parent, run="paper", scope="batch", epochs=2))
        save_quick_map(paper)
        found = Report.build([small_run, paper])
        both = exhibits(found)
        comparison = both["comparison"].content
        assert set(comparison["runs"]) == {1}
        names = ["scope=bank, epochs=4", "scope=batch, epochs=2"]
        assert list(comparison.index.unique()) == names
        inductive = paper.metrics()["student"]["accuracy"]["inductive"]
        assert comparison["inductive"].iloc[-1] == f"{100 * inductive:.2f}"
        assert {"a_accuracy", "b_accuracy", "a_umap", "b_umap"} <= set(both)
        assert {f"Accuracy, {name}" for name in names} <= {s.title for s in found.sections}


class TestNotebook:
    def test_it_writes_the_report(self, small_run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        given = {"run": "small", "runs_dir": str(small_run.folder.parent)}
        notebooks.execute(notebooks.find("04"), given, tmp_path / "04_report.ipynb")
        assert (tmp_path / "reports" / "small" / "report.html").is_file()
        assert (tmp_path / "04_report.ipynb").stat().st_size < 5e6

    def test_a_misspelt_parameter_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="runs_dir"):
            notebooks.execute(notebooks.find("04"), {"rnu": "small"}, tmp_path / "04.ipynb")
        assert os.listdir(tmp_path) == []


def test_exhibits_that_are_no_more_leave_the_folder_and_nothing_else_does(tmp_path):
    kept, gone = (
        [
            Exhibit(f"{name}_drawn", "", "", Figure()),
            Exhibit(name, "", "", pd.DataFrame({"a": [1]})),
        ]
        for name in ("kept", "gone")
    )
    for name in ("mine.png", "mine.csv"):  # somebody's: the writer makes more than one file each
        (tmp_path / name).touch()
    for exhibits in ([*kept, *gone], kept):
        write_figures(exhibits, tmp_path)
        write_tables(exhibits, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("mine.png", "mine.csv", "kept.csv", "kept.tex"),
        *(f"kept_drawn.{kind}" for kind in ("png", "svg", "pdf")),
    }
