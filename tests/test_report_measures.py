"""The numbers of the report, against libraries and against the run's own."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import small_config
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix
from torch import nn
from torch.nn import functional as F

from cnn2gnn.drawing.palette import MODELS
from cnn2gnn.drawing.style import STYLE
from cnn2gnn.evaluation.cost import multiply_adds
from cnn2gnn.evaluation.metrics import expected_calibration_error
from cnn2gnn.evaluation.near_copies import near_copies
from cnn2gnn.evaluation.nodes import BANK, TEST
from cnn2gnn.graph import SparseGraph, homophily, purity
from cnn2gnn.report import figures, graph_figures, measures, tables
from cnn2gnn.report.accuracy_sections import accuracy
from cnn2gnn.report.batch_sections import batches
from cnn2gnn.report.cost_table import cost_table
from cnn2gnn.report.graph_sections import graph
from cnn2gnn.report.results import Results, configurations


@pytest.fixture(scope="module")
def results(small_run):
    return Results.read(small_run)


def some_metrics(seed=0, inductive=0.9):
    accuracy = {"no_graph": 0.8, "inductive": inductive, "sorted": 0.95}
    accuracy["batch"] = {"mean": 0.85, "std": 0.01, "batch_size": 10, "repeats": 5}
    return {
        "seed": seed,
        "images": {"test": 100},
        "teacher": {"name": "cnn", "parameters": 2000, "accuracy": 0.92},
        "student": {"parameters": 1000, "bank_megabytes": 1.25, "accuracy": accuracy},
        "baselines": {"twin": {"parameters": 990, "accuracy": 0.75}},
    }


def replaced(metrics):
    """A run of which only its metrics are at hand."""
    return SimpleNamespace(
        metrics=metrics, name="run", seed=metrics["seed"], source=lambda *files: "files"
    )


class TestAccuracyTable:
    def test_one_run(self):
        table = tables.accuracy_table(some_metrics())
        assert list(table.index) == ["teacher", "twin", "student"]
        assert list(table.loc["student"]) == [
            "1,000", "1.2", "80.00", "85.00 ± 1.00", "90.00", "95.00",
        ]  # fmt: skip
        assert list(table.loc["twin"]) == ["990", "–", "75.00", "–", "–", "–"]

    def test_several_runs_give_mean_and_deviation_over_them(self):
        lacking = some_metrics(1, 0.94)
        lacking["baselines"] = {}
        table = tables.accuracy_table([some_metrics(0, 0.9), lacking])
        assert [name for name in table.index if name.endswith("(1 of 2 runs)")]
        table = tables.accuracy_table([some_metrics(0, 0.9), some_metrics(1, 0.94)])
        assert table.loc["student", "inductive"] == "92.00 ± 2.83"
        # the deviation over reshuffles of one run is not that over runs
        assert table.loc["student", "batch (mean ± std)"] == "85.00 ± 0.00"

    def test_one_draw_has_no_deviation(self):
        metrics = some_metrics()
        metrics["student"]["accuracy"]["batch"] |= {"std": 0.0, "repeats": 1}
        table = tables.accuracy_table(metrics)
        assert table.loc["student", "batch (mean ± std)"] == "85.00"

    @pytest.mark.parametrize("noted", [60, 100])  # runs of before noted what was asked for
    def test_one_batch_of_all_images_has_neither_deviation_nor_audit(self, noted):
        metrics = some_metrics()
        metrics["student"]["accuracy"]["batch"]["batch_size"] = noted
        table = tables.accuracy_table(metrics)
        row = table.loc["student"]
        assert list(row[["batch (mean ± std)", "sorted (audit)"]]) == ["85.00", "–"]
        protocols = set(tables.measured_accuracies([replaced(metrics)])["protocol"])
        assert protocols == {"no_graph", "batch", "inductive"}
        two = tables.accuracy_table([metrics, some_metrics(1, 0.94)])
        assert two.loc["student", "batch (mean ± std)"] == "85.00 ± 0.00"

    def test_answers_that_came_with_the_data_have_no_parameters(self):
        metrics = some_metrics()
        metrics["teacher"]["parameters"] = 0
        assert tables.accuracy_table(metrics).loc["teacher", "parameters"] == "–"

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ([], "–"),
            ([81.5], "81.50"),
            ([math.nan], "–"),
            ([math.nan, math.nan], "–"),
            ([math.nan, 81.5], "81.50"),
            ([80.0, math.nan, 82.0], "81.00 ± 1.41"),
            ([20, 20], "20"),
            ([20, 30], "25.00 ± 7.07"),
        ],
        ids=str,
    )
    def test_what_was_not_measured_has_no_part_in_the_text(self, values, text):
        assert tables.mean_std(values) == text

    def test_no_run_is_an_error(self):
        with pytest.raises(ValueError, match="no run"):
            tables.accuracy_table([])

    @settings(deadline=None)
    @given(st.lists(st.floats(-100, 100), min_size=2, max_size=6))
    def test_mean_and_deviation_are_numpys(self, values):
        mean, std = map(float, tables.mean_std(values).split(" ± "))
        assert mean == pytest.approx(np.mean(values), abs=0.006)
        assert std == pytest.approx(np.std(values, ddof=1), abs=0.006)


class TestMeasures:
    def test_images_with_near_copies_are_left_out_and_the_gain_is_that_of_the_rest(self, results):
        splits, tensors = results.splits, results.tensors
        table = near_copies(splits, tensors["logits"], tensors["base_logits"])
        tests, bank = (x.images.flatten(1).double() / 255 for x in (splits.test, splits.train))
        distances = torch.cdist(tests, bank).amin(1)  # digits are 8x8 as they are
        cut = distances.sort().values[round(0.1 * len(tests))]
        kept = distances >= cut
        row = table.set_index("without").loc["10%"]
        assert row["images"] == kept.sum() == 404
        right = tensors["logits"].argmax(1) == tensors["labels"]
        base_right = tensors["base_logits"].argmax(1) == tensors["labels"]
        gain = right[kept].double().mean() - base_right[kept].double().mean()
        assert row["gain"] == pytest.approx(float(gain), abs=1e-6)
        accuracy = results.metrics["student"]["accuracy"]
        assert table.loc[0, "accuracy"] == pytest.approx(accuracy["inductive"])
        assert table.loc[0, "beside"] == pytest.approx(accuracy["no_graph"])

    def test_batches_repeat_the_figures_of_the_run(self, results):
        run = results.run.config.runtime
        sizes = measures.batch_sizes(results.nodes, repeats=run.eval_repeats)
        usual = sizes[sizes["batch_size"] == 112]  # true size of at least run.eval_batch_size
        of_run = results.metrics["student"]["accuracy"]
        shuffled = usual[usual["order"] == "shuffled"]["accuracy"]
        assert shuffled.mean() == pytest.approx(of_run["batch"]["mean"])
        assert shuffled.std() == pytest.approx(of_run["batch"]["std"], abs=1e-7)
        assert list(usual[usual["order"] == "sorted"]["accuracy"]) == [of_run["sorted"]]

    def test_batches_have_their_true_size_and_one_of_all_has_no_audit(self, results):
        sizes = measures.batch_sizes(results.nodes)
        # of 449: 300 are asked for, and with fewer than two such batches there is one; 100 is near
        # the run's own, which is 112 in truth
        assert {*sizes["batch_size"]} == {10, 32, 112, 449}
        assert {*sizes[sizes["order"] == "sorted"]["batch_size"]} == {10, 32, 112}
        assert results.metrics["student"]["accuracy"]["batch"]["batch_size"] == 112

    def test_the_section_on_batches_says_what_is_one_batch(self, results, monkeypatch):
        section = batches([results])
        exhibits = {exhibit.name: exhibit for exhibit in section.exhibits}
        for name in ("accuracy_by_batch_size", "batch_sizes"):
            assert "; 449 are all in one batch, which has no order." in exhibits[name].caption
        table = exhibits["batch_sizes"].content
        assert table.loc[449, "sorted (audit) [%]"] == "–"
        assert "±" in table.loc[112, "shuffled [%]"] and "±" not in table.loc[449, "shuffled [%]"]
        assert tables.ONE_BATCH not in section.text
        only = measures.batch_sizes(results.nodes).query("batch_size == 449")
        monkeypatch.setattr(measures, "batch_sizes", lambda nodes: only)
        section = batches([results])
        assert tables.ONE_BATCH in section.text
        assert "audit" not in [exhibit.name for exhibit in section.exhibits]

    def test_what_is_said_of_accuracy_tells_of_one_batch(self, results):
        assert tables.ONE_BATCH not in accuracy([results]).text
        metrics = copy.deepcopy(results.metrics)
        metrics["student"]["accuracy"]["batch"]["batch_size"] = 449
        section = accuracy([replace(results, metrics=metrics)])
        assert tables.ONE_BATCH in section.text
        assert "reshuffles" not in section.exhibits[0].caption
        metrics["student"]["accuracy"]["batch"] |= {"batch_size": 112, "repeats": 1}
        once = accuracy([replace(results, metrics=metrics)]).exhibits[0]
        assert once.caption.startswith("Test accuracy in %, of one run;")

    def test_the_graph_reaches_k_nodes_for_each_key(self, results):
        assert "over up to k nodes of the bank, as" in graph([results]).text
        run = copy.copy(results.run)
        run.config = replace(run.config, student=replace(run.config.student, heads=3))
        text = graph([replace(results, run=run)]).text
        assert "over up to k nodes of the bank for each of 3 keys, as" in text

    def test_classes_add_up_to_the_whole(self, results):
        table, nodes = measures.per_class(results), results.nodes
        images = table["images"]
        labels = nodes.labels[TEST], nodes.labels[BANK]
        weighted = {
            "accuracy": results.metrics["student"]["accuracy"]["inductive"],
            "base_accuracy": results.metrics["student"]["accuracy"]["no_graph"],
            "teacher_accuracy": results.metrics["teacher"]["accuracy"],
            "homophily": homophily(nodes.graph, *labels, "node"),
            "purity": purity(nodes.graph, *labels).mean().item(),
        }
        for column, expected in weighted.items():
            assert np.average(table[column], weights=images) == pytest.approx(expected, abs=1e-5)

    def test_the_summary_counts_what_the_graph_changed(self, results):
        values = measures.graph_summary(results.nodes).set_index("measure")["value"]
        gain = values["nodes right only with the graph"]
        loss = values["nodes wrong only with the graph"]
        accuracy = results.metrics["student"]["accuracy"]
        points = (accuracy["inductive"] - accuracy["no_graph"]) * len(results.nodes)
        assert gain - loss == pytest.approx(points, abs=1e-3)
        assert values["purity (weight within the class)"] > values["purity expected by chance"]

    @settings(deadline=None)
    @given(st.integers(1, 200), st.integers(2, 7), st.integers(0, 10))
    def test_reliability_is_what_the_calibration_error_sums(self, n, classes, seed):
        generator = torch.Generator().manual_seed(seed)
        logits = 3 * torch.randn(n, classes, generator=generator)
        labels = torch.randint(classes, (n,), generator=generator)
        bins = measures.calibration(logits, labels)
        assert bins["share"].sum() == pytest.approx(1)
        error = (bins["share"] * (bins["accuracy"] - bins["confidence"]).abs()).sum()
        expected = expected_calibration_error(logits, labels, bins=measures.BINS)
        assert error == pytest.approx(expected, abs=1e-5)

    def test_confusion_is_scikit_learns(self, results):
        labels, logits = results.tensors["labels"], results.tensors["logits"]
        expected = confusion_matrix(labels, logits.argmax(1), normalize="true")
        assert np.allclose(measures.confusion(logits, labels).numpy(), expected, atol=1e-6)

    def test_confusion_of_a_class_that_is_not_tested_is_empty(self):
        found = measures.confusion(torch.eye(3)[[0, 1, 2]], torch.tensor([0, 0, 2]))
        assert found[[0, 2]].tolist() == [[0.5, 0.5, 0], [0, 0, 1]] and found[1].isnan().all()

    def test_agreement_with_the_teacher(self, results):
        table = measures.agreement(results).set_index("model")
        parts = table[["both", "teacher only", "student only", "neither"]]
        assert np.allclose(parts.sum(axis=1), 1)
        assert table.loc["teacher", ["agreement", "kl"]].tolist() == [1, 0]
        teacher, own = results.tensors["teacher_logits"], results.tensors["base_logits"]
        expected = F.kl_div(
            own.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="batchmean"
        )
        assert table.loc["no_graph", "kl"] == pytest.approx(expected.item(), rel=1e-4)

    def test_losses_are_negative_differences(self):
        measured = pd.DataFrame(
            {
                "run": "r",
                "model": ["student", "twin"],
                "protocol": ["inductive", "no_graph"],
                "accuracy": [0.90, 0.92],
                "source": "s",
            }
        )
        table = tables.differences(measured)
        assert table["points"].tolist() == pytest.approx([-2])
        assert table["against"].tolist() == ["twin"]
        # a run without the twin takes no part in the comparison with it
        alone = measured[:1].assign(run="s")
        assert tables.differences(pd.concat([measured, alone])).equals(table)


class TestCost:
    def test_multiply_adds_of_known_layers(self):
        assert multiply_adds(nn.Linear(10, 5), torch.zeros(3, 10)) == 3 * 10 * 5
        convolution = nn.Conv2d(3, 8, 3, padding=1)
        assert multiply_adds(convolution, torch.zeros(1, 3, 6, 6)) == 36 * 8 * 3 * 9

    def test_the_students_cost_includes_the_search_in_the_bank(self, results):
        costs, nodes = cost_table(results), results.nodes
        image = nodes.splits.test.images[:1]
        own = multiply_adds(nodes.student, image)
        m, d = nodes.bank.keys.shape
        assert costs.loc["student", "multiply_adds"] >= own + m * d
        assert set(costs.index) == {"teacher", "student"}
        assert (costs["milliseconds"] > 0).all()


class TestConfigurations:
    def test_runs_that_differ_in_seeds_are_one_group(self, small_run, tmp_path):
        def result(**more):
            config = small_config(tmp_path, **more)
            made_from = {**small_run.manifest, "parameters": config.parameters()}
            run = type(small_run)(tmp_path / config.runtime.run, made_from)
            return Results(run, {}, {})

        a, b, c = result(run="a"), result(run="b", seed=1, teacher_seed=2), result(run="c", k=12)
        assert configurations([a, b]) == {"": [a, b]}
        assert configurations([a, c, b]) == {"k=10": [a, b], "k=12": [c]}


class TestDrawing:
    def test_training_curves_draw_the_rows_in_percent(self):
        rows = [
            {"stage": "student", "epoch": e, "loss": 2.0 - e, "accuracy": a}
            for e, a in enumerate((0.5, 0.7))
        ]
        figure = figures.training_curves(rows)
        loss, validation = figure.axes
        assert loss.lines[0].get_ydata().tolist() == [2.0, 1.0]
        assert validation.lines[0].get_xdata().tolist() == [1, 2]
        assert validation.lines[0].get_ydata().tolist() == pytest.approx([50, 70])
        assert [t.get_text() for t in figure.legends[0].get_texts()] == ["student"]
        assert loss.get_xlabel() == "epoch"

    def test_stage_two_goes_on_behind_stage_one_in_the_colour_of_its_model(self):
        rows = [
            {"stage": stage, "epoch": epoch, "loss": 1.0, "accuracy": 0.5}
            for stage in ("student", "undistilled")
            for epoch in range(3)
        ]
        rows += [
            {"stage": f"{model}-graph", "epoch": epoch, "loss": 1.0} | shares
            for model, shares in (
                ("student", {"accuracy": 0.8, "base_accuracy": 0.7}),
                ("twin", {"accuracy": 0.6, "base_accuracy": 0.6}),  # of the student's stage one
                ("undistilled", {"accuracy": 0.9, "base_accuracy": 0.4}),
            )
            for epoch in range(2)
        ]
        figure = figures.training_curves(rows)
        lines = {
            (line.get_color(), line.get_linestyle(), tuple(line.get_xdata())): line.get_ydata()
            for line in figure.axes[1].lines
        }
        for model, full, base in (("student", 80, 70), ("undistilled", 90, 40)):
            colour = MODELS[model]
            assert lines[colour, "-", (1, 2, 3)] == pytest.approx([50, 50, 50])
            assert lines[colour, "-", (4, 5)] == pytest.approx([full, full])
            assert lines[colour, "--", (4, 5)] == pytest.approx([base, base])
        of_twin = [key for key in lines if key[0] == MODELS["twin"]]
        assert of_twin == [(MODELS["twin"], "-", (4, 5))]  # without neighbours either way
        named = [text.get_text() for text in figure.legends[0].get_texts()]
        expected = ["student", "undistilled student", "twin", "without neighbours"]
        assert named == expected
        assert figure.axes[0].lines[-1].get_xdata() == [3.5, 3.5]

    def test_training_curves_of_several_runs_are_their_mean_and_band(self):
        rows = [{"stage": "teacher", "epoch": 0, "loss": x, "accuracy": 0.5} for x in (1.0, 3.0)]
        loss = figures.training_curves(rows).axes[0]
        assert loss.lines[0].get_ydata().tolist() == [2.0]
        band = loss.collections[0].get_paths()[0].vertices[:, 1]
        assert (band.min(), band.max()) == pytest.approx((2 - 2**0.5, 2 + 2**0.5))

    def test_no_rows_are_an_error(self):
        with pytest.raises(ValueError, match="no epochs"):
            figures.training_curves([])

    def test_the_adjacency_holds_all_weight(self):
        generator = torch.Generator().manual_seed(0)
        n, m, k = 500, 900, 4
        neighbours = torch.randint(m, (n, k), generator=generator)
        graph = SparseGraph(neighbours, torch.full((n, k), 1 / k), sources=m)
        labels, bank_labels = torch.arange(n) % 3, torch.arange(m) % 3
        figure = graph_figures.adjacency(graph, labels, bank_labels, ["a", "b", "c"])
        times_chance = figure.axes[0].images[0].get_array().data
        assert times_chance.shape == (200, 200)
        # every block expects rows·columns/M of weight, and all of them hold N
        rows = np.bincount(np.arange(n) * 200 // n)
        columns = np.bincount(np.arange(m) * 200 // m)
        assert (times_chance * np.outer(rows, columns) / m).sum() == pytest.approx(n, rel=1e-4)

    @pytest.mark.parametrize(("known", "told"), [(2, False), (4, False), (5, True)])
    def test_a_rank_correlation_is_told_from_five_classes_on(self, known, told):
        values = [0.9, 0.7, 0.8, 0.6, 0.5][:known] + [math.nan] * (6 - known)
        classes = list("abcdef")
        table = pd.DataFrame({"class": classes, "homophily": values, "accuracy": values})
        figure = graph_figures.homophily_against_accuracy(table.assign(base_accuracy=0.5), classes)
        assert figure.axes[0].get_title() == ("Spearman ρ = 1.00" if told else "")

    def test_a_flat_curve_does_not_look_like_a_cliff(self):
        sizes = pd.DataFrame(
            {"batch_size": [10, 30], "order": "shuffled", "repeat": 0, "run": "r"}
        ).assign(accuracy=[0.9, 0.9001])
        axes = figures.accuracy_by_batch_size(sizes, 0.9, 0.9).axes[0]
        low, high = axes.get_ylim()
        assert high - low >= 2

    def test_the_readers_own_settings_are_left_alone(self):
        before = dict(matplotlib.rcParams)
        figures.training_curves([{"stage": "teacher", "epoch": 0, "loss": 1.0, "accuracy": 0.5}])
        assert dict(matplotlib.rcParams) == before
        assert STYLE["font.size"] >= 7
