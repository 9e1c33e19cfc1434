"""The model card says what the run's files say, whatever names they hold."""

from __future__ import annotations

import copy
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import mistune
import pytest
import yaml

from cnn2gnn import cli
from cnn2gnn.base import modules
from cnn2gnn.base.files import load_tensors, save_tensors
from cnn2gnn.cli.options import build_parser
from cnn2gnn.config import Config
from cnn2gnn.graph import AdaptiveNeighbours
from cnn2gnn.registry import LEARNERS
from cnn2gnn.report.model_card import command, model_card
from cnn2gnn.report.tables import ONE_BATCH
from cnn2gnn.runs import Run, manifest


def changed(run: Run, folder: Path, facts: dict[str, Any], **metrics: Any) -> Run:
    """The run under another name, with something else in its manifest and metrics."""
    shutil.copytree(run.folder, folder)
    content = copy.deepcopy(run.manifest)
    for group, values in facts.items():
        content[group] |= values
    (folder / manifest.FILE).write_text(json.dumps(content))
    metrics |= {"files": {}, "made_from": {}}  # they are not bound to what they were measured with
    (folder / "metrics.json").write_text(json.dumps(run.metrics() | metrics))
    return Run.open(folder)


def shown(card: str) -> str:
    """The card as a reader sees it, without its head."""
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "cnn2gnn"
    return str(mistune.create_markdown(plugins=["table"])(body))


def test_the_head_is_what_hugging_face_reads(small_run: Run) -> None:
    head = yaml.safe_load(model_card(small_run).split("---\n")[1])
    assert head["pipeline_tag"] == "image-classification" in head["tags"]
    assert head["datasets"] == ["digits"] and head["metrics"] == ["accuracy"]
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert (model["name"], result["dataset"]["split"]) == ("small", "test")
    accuracy = small_run.metrics()["student"]["accuracy"]["inductive"]
    assert result["metrics"] == [{"type": "accuracy", "value": round(100 * accuracy, 2)}]


@pytest.mark.parametrize(
    ("modality", "task"),
    [("audio", "audio"), ("text", "text"), ("features", "tabular"), (None, "image")],
)
def test_its_task_goes_by_what_the_student_takes(
    small_run: Run, tmp_path: Path, modality: str | None, task: str
) -> None:
    run = changed(small_run, tmp_path / "other", {})  # the same name of a data set
    path = run.folder / "student.safetensors"
    tensors, architecture = load_tensors(path)
    del architecture["modality"]  # as students of older versions
    save_tensors(path, tensors, architecture | ({"modality": modality} if modality else {}))
    head = yaml.safe_load(model_card(run).split("---\n")[1])
    assert head["pipeline_tag"] == f"{task}-classification" in head["tags"]


def test_its_numbers_are_those_of_the_metrics(small_run: Run, tmp_path: Path) -> None:
    page, metrics = shown(model_card(small_run)), small_run.metrics()
    accuracies = metrics["student"]["accuracy"]
    for number in (accuracies["inductive"], accuracies["no_graph"], metrics["teacher"]["accuracy"]):
        assert f"<td>{100 * number:.2f}</td>" in page
    assert f"{metrics['student']['parameters']:,} parameters" in page
    assert "No twin was trained" in page
    twin = {"twin": {"parameters": 3, "accuracy": accuracies["inductive"] + 0.0123}}
    lost = changed(small_run, tmp_path / "lost", {}, baselines=twin)
    assert "-1.23 points over the twin" in shown(model_card(lost))


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        ("adaptive", "that the student has learned"),
        ("cosine", "that the student has learned"),
        ("mine", "that the student has learned"),
        ("fixed", "of the raw samples, in which nothing is learned"),
        ("fixed-features", "of the stem's features, whose distances are not learned"),
        ("whitened", "of the stem's whitened features, whose distances are not learned"),
    ],
)
def test_it_says_which_graphs_were_learned(
    registries: None, small_run: Run, tmp_path: Path, graph: str, says: str
) -> None:
    LEARNERS.register("mine", lambda k: AdaptiveNeighbours(k))  # any function of k
    run = changed(small_run, tmp_path / "other", {"parameters": {"graph": graph}})
    assert f"in a graph {says} (`{graph}`)" in model_card(run)


def test_a_teacher_that_came_with_the_data_is_no_object_of_the_users_own(
    small_run: Run, tmp_path: Path
) -> None:
    facts = {"parameters": {"teacher": "given"}, "own": {"teacher": "0123"}}
    teacher = {"name": "given", "parameters": 0, "accuracy": 0.9}
    page = shown(model_card(changed(small_run, tmp_path / "given", facts, teacher=teacher)))
    assert "--teacher=given" in page and "no command repeats it" not in page
    assert "the teacher is not here, its answers came with the data." in page
    facts["own"]["data"] = "4567"
    page = shown(model_card(changed(small_run, tmp_path / "data", facts, teacher=teacher)))
    assert "Objects of the user's own (data) took part, so no command repeats it" in page


def test_it_says_where_there_is_no_audit(small_run: Run, tmp_path: Path) -> None:
    student = copy.deepcopy(small_run.metrics()["student"])
    assert ONE_BATCH not in model_card(small_run)
    student["accuracy"]["batch"]["batch_size"] = 449
    assert ONE_BATCH in model_card(changed(small_run, tmp_path / "one", {}, student=student))


def test_the_command_makes_the_same_run_again() -> None:
    given = {
        "run": "mine, #1 (2)", "dataset": "folder:-a b/$(rm)\n```", "download": True, "k": 7,
        "learning_rate": 0.01, "baselines": "", "label_column": "--help", "twin_kd_weight": 0.25,
    }  # fmt: skip
    config = Config.from_parameters(given)

    def nothing(_: Any) -> int:
        """A command."""
        return 0

    names = ("run", "data", "report", "compare", "sweep", "export", "card", "notebooks", "lab")
    program, *words = shlex.split(command(config))
    options = vars(build_parser(dict.fromkeys(names, nothing)).parse_args(words))
    known = {name: value for name, value in options.items() if name in config.parameters()}
    assert (program, Config.from_parameters(known)) == ("cnn2gnn", config)


def test_what_was_imported_is_part_of_the_commands(
    small_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modules, "_IMPORTED", {"my_losses": None})
    card = model_card(small_run)
    commands = [line for line in card.splitlines() if line.startswith("cnn2gnn ")]
    assert len(commands) == 2 and all("--import=my_losses" in line for line in commands)


def test_names_stand_there_as_they_are_and_do_nothing(small_run: Run, tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "a|b", "](http://x)", "`c`", "*d*\n# e", "---", "f", "f"]
    names += ["&lt;", "\ud800"]
    data = {"classes": names, "name": "parquet:<b>\n---"}
    parameters = {"dataset": "parquet:```\n<i>", "label_column": "````"}
    facts = {"data": data, "parameters": parameters}
    run = changed(small_run, tmp_path / "x=1, #2 @(3)", facts, dataset=data["name"])
    card = model_card(run)
    page = shown(card)
    assert (
        re.findall(r"<(?!/?(?:h[12]|p|ul|li|code|pre|table|t[rhdb]|thead|tbody|strong)\b)", page)
        == []
    )
    assert page.count("<h1>") == 1 and page.count("<h2>") == 6
    for name in ("&lt;script&gt;alert(1)&lt;/script&gt;", "a|b", "](http://x)", "`c`", "*d*\\n# e"):
        assert name in page
    assert "f (1), f (2)" in page and "&amp;lt;" in page and "\\ud800" in page
    head = yaml.safe_load(card.split("---\n")[1])
    assert "datasets" not in head
    assert head["model-index"][0]["results"][0]["dataset"]["name"] == "parquet:<b>\\n---"


def test_the_command_line_writes_it(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["card", "small", "--runs-dir", str(small_run.folder.parent)]) == 0
    assert Path("reports/small/model-card.md").read_text() == model_card(small_run)
    assert cli.main(["card", "none", "--runs-dir", str(small_run.folder.parent)]) == 2
    assert "no run in" in capsys.readouterr().err


def test_a_run_of_a_version_that_noted_less_has_a_card_too(small_run: Run, tmp_path: Path) -> None:
    path = changed(small_run, tmp_path / "older", {}).folder / manifest.FILE
    content = json.loads(path.read_text())
    del content["augmentation"], content["augmentation_version"]
    path.write_text(json.dumps(content))
    assert "Augmentation: `auto`" in model_card(Run.open(path.parent))
