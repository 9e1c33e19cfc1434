"""The model card of a run: what it is, how good, what it costs, how to repeat it, where it ends.

Markdown after Mitchell et al. (Model Cards for Model Reporting, FAT* 2019), with the head that
Hugging Face reads. Every number is from the run's `config.json` and `metrics.json`.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import cnn2gnn
from cnn2gnn.base.modules import import_options
from cnn2gnn.config import Config, StudentConfig
from cnn2gnn.drawing.classnames import readable
from cnn2gnn.models.given import NAME as GIVEN
from cnn2gnn.registry import LEARNERS
from cnn2gnn.report.tables import ONE_BATCH, accuracy_table, one_batch
from cnn2gnn.runs import Run
from cnn2gnn.runs.environment import in_words
from cnn2gnn.runs.manifest import facts

NAMED = 20  # classes whose names are listed
HUGGING_FACE = {"features": "tabular"}  # what it calls samples by another name
PLACES = ("runs_dir", "device", "devices", "num_nodes", "logger")  # of no account elsewhere


def model_card(run: Run) -> str:
    """Return a finished run's card.

    Raises:
        FileNotFoundError: the run has not finished, or its student is missing.
    """
    metrics, manifest = run.metrics(), run.manifest
    parts = [
        _head(run, metrics),
        f"# {text(run.folder.name)}\n\n{_what(run, metrics)}",
        f"## Data\n\n{_data(manifest, metrics)}",
        f"## Accuracy\n\n{_accuracy(metrics)}",
        f"## Cost\n\n{_cost(metrics)}",
        f"## Training\n\n{_training(run)}",
        f"## Limits\n\n{_limits(metrics)}",
        f"## Use\n\n{_use(run)}",
    ]
    return "\n\n".join(parts) + "\n"


def text(name: str) -> str:
    r"""A name as Markdown shows it: every sign as it stands there, in one line.

    >>> text("a_b\n<i>")
    'a\\_b\\\\n\\<i\\>'
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", readable([name])[0])


def command(config: Config) -> str:
    """Return the command line of these parameters, as far as they are not the defaults."""
    usual, words = Config().parameters(), ["cnn2gnn", "run"]
    for name, value in config.parameters().items():
        if value == usual[name] or name in PLACES:
            continue
        flag = "--" + name.replace("_", "-")
        # with =, for a value may begin with a dash
        words.append(flag if value is True else f"{flag}={value}")
    return shlex.join([*words, *import_options()])


def _head(run: Run, metrics: dict[str, Any]) -> str:
    """What Hugging Face reads: YAML, whose strings may be written as those of JSON."""
    task = f"{HUGGING_FACE.get(run.modality, run.modality)}-classification"
    name, dataset = (_quoted(n) for n in (run.folder.name, metrics["dataset"]))
    # others are no names of the hub's
    known = f"datasets: [{dataset}]\n" if re.fullmatch(r"[\w.-]+", metrics["dataset"]) else ""
    return f"""---
library_name: cnn2gnn
pipeline_tag: {task}
tags: [knowledge-distillation, graph-neural-networks, {task}]
{known}metrics: [accuracy]
model-index:
- name: {name}
  results:
  - task: {{type: {task}}}
    dataset: {{name: {dataset}, type: {dataset}, split: test}}
    metrics:
    - {{type: accuracy, value: {100 * _student_accuracy(metrics):.2f}}}
---"""


def _what(run: Run, metrics: dict[str, Any]) -> str:
    student, classes = run.config.student, len(run.manifest["data"]["classes"])
    said = (
        f"A classifier of {classes} classes: the student {_code(metrics['student']['name'])}, "
        f"distilled from the teacher {_code(metrics['teacher']['name'])} by cnn2gnn. "
    )
    if metrics["student"]["scope"] == "none":
        return said + "It has no graph."
    whose = "with their labels" if student.scope == "bank" else "without their labels"
    heads = f" for each of {student.heads} keys" if student.heads > 1 else ""
    if "graph" in run.made_with:
        who = f"training samples, {whose}, in a graph of its author's own"
        return said + f"Each sample meets {who} ({_code(run.made_with['graph'])})."
    if student.graph == "random":
        return said + f"Each sample meets {student.k} training samples by chance, {whose}."
    return said + (
        f"Each sample meets the {student.k} most similar training samples{heads}, {whose}, in a "
        f"graph {_origin(student)} ({_code(student.graph)}); they are told with every "
        "prediction, as its reasons."
    )


def _origin(student: StudentConfig) -> str:
    learner = LEARNERS[student.graph](student.k)  # what is registered may be any function of k
    if learner.space == "pixels":
        return "of the raw samples, in which nothing is learned"
    if learner.learns_keys:
        return "that the student has learned"
    kind = "whitened features" if learner.whitens else "features"
    return f"of the stem's {kind}, whose distances are not learned"


def _data(manifest: dict[str, Any], metrics: dict[str, Any]) -> str:
    counts = ", ".join(f"{count:,} {part}" for part, count in metrics["images"].items())
    classes = manifest["data"]["classes"]
    names = ", ".join(text(name) for name in readable(classes)[:NAMED])
    more = f" and {len(classes) - NAMED} more" if len(classes) > NAMED else ""
    prints = "; ".join(
        f"{part} `{manifest['data'][part][:16]}`" for part in manifest["data"] if "images" in part
    )
    return (
        f"{text(metrics['dataset'])}: {counts} samples. Classes: {names}{more}.\n\n"
        f"Augmentation: {_code(facts(manifest)['augmentation'])}. Fingerprints: {prints}."
    )


def _accuracy(metrics: dict[str, Any]) -> str:
    table = accuracy_table(metrics).fillna("")
    cells = [["model", *table.columns], ["---"] * (1 + table.shape[1])]
    cells += [[str(name), *map(str, row)] for name, *row in table.itertuples()]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    whole = f" {ONE_BATCH}" if one_batch(metrics) else ""
    return (
        f"In %, {metrics['protocol']}. `inductive` is the one to expect in use: each sample by "
        "itself against the frozen bank. `sorted` is an audit of what batches sorted by class "
        f"would leak, never a result.{whole}\n\n{lines}\n\n{_gain(metrics)}"
    )


def _gain(metrics: dict[str, Any]) -> str:
    if metrics["student"]["scope"] == "none":
        return "There is no graph that could be worth anything."
    if "twin" not in metrics["baselines"]:
        return "No twin was trained: what the graph is worth is not known."
    twin = metrics["baselines"]["twin"]["accuracy"]
    gain = 100 * (_student_accuracy(metrics) - twin)
    return (
        f"**What the graph is worth**: {gain:+.2f} points over the twin, which is the same "
        "student, trained as long, without a graph. It is one seed: "
        f"{metrics['images']['test']:,} test samples alone say it no more exactly."
    )


def _cost(metrics: dict[str, Any]) -> str:
    student, teacher = metrics["student"], metrics["teacher"]
    speed = student["images_per_second"]["inductive"]
    size = f"has {teacher['parameters']:,} parameters"
    if teacher["name"] == GIVEN:
        size = "is not here, its answers came with the data"
    return (
        f"{student['parameters']:,} parameters and a bank of {student['bank_megabytes']:.2f} MB; "
        f"the teacher {size}. {speed:,.0f} samples a second "
        f"under `inductive`, {in_words(metrics['measured'])}."
    )


def _training(run: Run) -> str:
    manifest = run.manifest
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    commit = f", commit {manifest['git_commit']}" if manifest["git_commit"] else ""
    made = f"Precision {_code(manifest['hardware']['precision'])}; {versions}{commit}."
    # a given teacher is noted as an object, but the data that the command names bring it along
    came_along = ("teacher",) if run.config.teacher.teacher == GIVEN else ()
    if own := ", ".join(name for name in run.made_with if name not in came_along):
        return f"Objects of the user's own ({own}) took part, so no command repeats it. {made}"
    return f"To repeat it:\n\n{_block(command(run.config), 'sh')}\n\n{made}"


def _limits(metrics: dict[str, Any]) -> str:
    error = metrics["student"]["expected_calibration_error"]
    lines = [
        "Every number above is of one seed and of test samples from the same source as the "
        "training samples; on others it has not been measured.",
        f"Its probabilities are off by {100 * error:.1f} points on average (expected calibration "
        "error).",
        "It always names one of its classes, whatever it is shown.",
    ]
    if metrics["student"]["scope"] != "none":
        lines.append(
            "The bank is part of the model, and its reasons are training samples: whoever gets "
            "the model gets their keys and labels. The licence of the data may reach as far."
        )
    lines.append("No licence is set here: it is for whoever publishes the model to choose.")
    return "\n".join(f"- {line}" for line in lines)


def _use(run: Run) -> str:
    name, graph = repr(run.folder.name), run.config.student.graph
    imported, needed = "Predictor", [part for part in ("stem", "graph") if part in run.made_with]
    if needed:  # the objects themselves are not in the run
        imported += ", load_run"
        name = f"load_run({name}, {', '.join(f'{part}=…' for part in needed)})"
    code = (
        f"from cnn2gnn import {imported}\n\n"
        f"predictor = Predictor.load({name})\n"
        "predictor.predict(samples)\n"
    )
    code += "predictor.neighbours(samples)" if graph != "none" else ""
    used, written = _block(code.rstrip(), "python"), f"Written by cnn2gnn {cnn2gnn.__version__}."
    if needed or graph == "random":  # no exported program can draw by chance
        return f"{used}\n\n{written}"
    exporting = shlex.join(["cnn2gnn", "export", run.folder.name, *import_options()])
    return f"{used}\n\nWithout cnn2gnn, as ONNX:\n\n{_block(exporting, 'sh')}\n\n{written}"


def _student_accuracy(metrics: dict[str, Any]) -> float:
    return metrics["student"]["accuracy"]["inductive"]


def _quoted(name: str) -> str:
    return json.dumps(readable([name])[0], ensure_ascii=False)


def _code(name: str) -> str:
    """A name as code; one with a backtick in it could end that, and is text."""
    return text(name) if "`" in name or "\n" in name else f"`{name}`"


def _block(code: str, language: str) -> str:
    """A block of code whose fence is longer than any in it."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"
