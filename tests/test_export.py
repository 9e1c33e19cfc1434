"""Exported programs say what the predictor says, and need nothing of ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from cnn2gnn import cli
from cnn2gnn.base import extras
from cnn2gnn.config import ConfigError, StudentConfig
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.export import artefact, program
from cnn2gnn.export.artefact import FACTS, ONNX, TORCH, compared
from cnn2gnn.models.student import Student
from cnn2gnn.predictor import Predictor
from cnn2gnn.runs import Run

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (150, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
TEXTS = torch.randint(0, 300, (150, 1, 12), generator=GENERATOR, dtype=torch.int32)
VECTORS = torch.randn(150, 9, 1, 1, generator=GENERATOR)


def untrained(samples: Tensor = IMAGES, own: Any = None, **config: Any) -> Predictor:
    """A predictor whose graph has something to say, though nobody has taught it."""
    torch.manual_seed(0)
    settings = StudentConfig(**{"stem": "conv-tiny", "k": 4, **config})
    channels, size = samples.shape[1], samples.shape[-1]
    modality = {"ngrams": "text", "features": "features"}.get(settings.stem, "image")
    student = Student(
        settings, channels=channels, size=size, classes=3, stem=own,
        mean=[0.0] * channels, std=[1.0] * channels, modality=modality,
    ).eval()  # fmt: skip
    student.network.start_keys(student.features(samples), torch.arange(150) % 3)
    for parameter in student.network.parameters():
        if not parameter.any():  # messages start from nothing
            nn.init.normal_(parameter, std=0.1)
    bank = None if student.scope == "none" else student.bank(samples, torch.arange(150) % 3)
    return Predictor(student, bank, ("a", "b", "c"))


def told(predictor: Predictor, samples: Tensor) -> tuple[Tensor, ...]:
    """What the predictor says: logits and, with a graph, neighbours and weights."""
    found = inductive(predictor.student, no_graph(predictor.student, samples), predictor.bank)
    graph = found.graph
    return (found.logits,) if graph is None else (found.logits, graph.neighbours, graph.weights)


def loaded(folder: Path) -> dict[str, Any]:
    """Both programs, by the ways of their own libraries."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more would wait in loops for tests beside this one
    session = onnxruntime.InferenceSession(folder / ONNX, options)
    return {
        "torch": torch.export.load(folder / TORCH).module(),
        "onnx": lambda samples: session.run(None, {"samples": samples.numpy()}),
    }


def dense(neighbours: Any, weights: Any, nodes: int) -> np.ndarray:
    """Weights `(B, nodes)` of edges `(B, k)`."""
    rows, (neighbours, weights) = len(neighbours), map(np.asarray, (neighbours, weights))
    whole = np.zeros((rows, nodes))
    np.add.at(whole, (np.arange(rows)[:, None], neighbours), weights)
    return whole


def check_parity(folder: Path, predictor: Predictor, samples: Tensor) -> None:
    for run in loaded(folder).values():
        for count in (1, 2, len(samples)):
            expected, found = told(predictor, samples[:count]), run(samples[:count])
            assert len(found) == len(expected)
            np.testing.assert_allclose(found[0], expected[0].detach(), rtol=0, atol=1e-4)
            if len(expected) == 3:
                np.testing.assert_array_equal(found[1], expected[1])
                # a node that two heads found stands there twice, once without weight
                mine, theirs = (
                    dense(*graph[1:], len(predictor.bank)) for graph in (expected, found)
                )
                np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def exported(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The export of a real run by the command line, and what it printed."""
    folder = tmp_path_factory.mktemp("exports") / "small"
    command = ["export", "small", "--runs-dir", str(small_run.folder.parent), "--out", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("builtins.print", lambda *texts, **_: said.extend(map(str, texts)))
        assert cli.main(command) == 0
    return folder, "\n".join(said)


def test_the_programs_of_a_run_say_what_its_predictor_says(
    small_run: Run, exported: tuple[Path, str]
) -> None:
    check_parity(exported[0], Predictor.load(small_run), small_run.load_splits().test.images)


def test_the_command_tells_times_and_differences(exported: tuple[Path, str]) -> None:
    rows = exported[1].splitlines()
    assert [row.split()[0] for row in rows[1:4]] == ["Predictor", TORCH, ONNX]
    assert all(float(number) > 0 for row in rows[1:4] for number in row.split()[1:3])
    assert all(float(row.split()[3]) < 1e-4 for row in rows[2:4])


def test_each_file_knows_all_that_its_user_must(small_run: Run, exported: tuple[Path, str]) -> None:
    folder = exported[0]
    facts = json.loads((folder / FACTS).read_text())
    hashes = facts.pop("sha256")
    assert hashes == {n: sha256((folder / n).read_bytes()).hexdigest() for n in (TORCH, ONNX)}
    session = onnxruntime.InferenceSession(folder / ONNX)
    assert json.loads(session.get_modelmeta().custom_metadata_map["cnn2gnn"]) == facts
    inside = {FACTS: ""}
    torch.export.load(folder / TORCH, extra_files=inside)
    assert json.loads(inside[FACTS]) == facts
    train = small_run.load_splits().train
    assert facts["classes"] == list(train.classes) and facts["nodes"] == train.labels.tolist()
    (given,), k = session.get_inputs(), small_run.config.student.k
    assert (given.name, given.type, given.shape) == ("samples", "tensor(uint8)", ["batch", 1, 8, 8])
    assert facts["input"]["dtype"] == "uint8" and facts["input"]["shape"] == given.shape
    outputs = {output["name"]: output["shape"] for output in facts["outputs"]}
    assert outputs == {"logits": ["batch", 10], "neighbours": ["batch", k], "weights": ["batch", k]}


def test_the_example_runs_where_there_is_neither_torch_nor_cnn2gnn(
    small_run: Run, exported: tuple[Path, str], tmp_path: Path
) -> None:
    example, image = exported[0] / "classify.py", tmp_path / "digit.png"
    lines = [line for line in example.read_text().splitlines() if line.strip()]
    assert len(lines) <= 31 and not any("torch" in line for line in lines)
    Image.fromarray(small_run.load_splits().test.images[0, 0].numpy()).save(image)
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "demo").symlink_to(exported[0])
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (block,) = re.findall("```py\n(.*?)```", readme, re.DOTALL)
    code = f"""if True:
        import runpy, sys
        for name in ("torch", "cnn2gnn"):
            sys.modules[name] = None  # an import of it fails
        sys.argv = ["classify.py", {str(image)!r}]
        runpy.run_path({str(example)!r})
        exec({block!r})
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *reasons, last = done.stdout.split("\n", 6)
    assert re.match(r"\d\n\[(\d, ){9}\d\] \[", last)  # what README's lines print, of k = 10
    predictor = Predictor.load(small_run)
    assert first == f"{image} {predictor.predict(image)[0]}"
    found = [(reason.split()[4].rstrip(","), reason.split()[5]) for reason in reasons]
    expected = predictor.neighbours(image).head(5)
    assert found == [(str(n), c) for n, c in zip(expected["node"], expected["label"], strict=True)]


@pytest.mark.parametrize(
    ("samples", "config"),
    [
        (IMAGES, {"graph": "softmax", "heads": 2}),
        (IMAGES, {"graph": "fixed"}),
        (IMAGES, {"graph": "anchors"}),
        (VECTORS, {"stem": "features", "graph": "none"}),
        (TEXTS, {"stem": "ngrams", "graph": "cosine", "scope": "batch"}),
    ],
    ids=["softmax", "fixed", "anchors", "vectors, no graph", "texts, cosine, scope batch"],
)
def test_other_students_keep_their_word(
    samples: Tensor, config: dict[str, Any], tmp_path: Path
) -> None:
    predictor = untrained(samples, **config)
    predictor.export(tmp_path, samples[:3])
    check_parity(tmp_path, predictor, samples)
    images = predictor.student.modality == "image"
    assert (tmp_path / "classify.py").exists() == images  # it reads images alone


class Choosy(nn.Module):
    """A stem that does not treat all images alike."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return flat if flat.sum() > 0 else -flat


def test_what_no_program_can_say_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, late = tmp_path / "out", untrained()
    late.add(IMAGES[:5], "d", new="d")
    for predictor, said in (
        (untrained(graph="random"), "graph='random' draws its neighbours anew"),
        (late, "1 classes came after training"),
        (untrained(own=Choosy()), "this student cannot be exported: .*data-dependent"),
    ):
        with pytest.raises(ConfigError, match=said):
            predictor.export(folder, IMAGES)
    monkeypatch.setattr(program, "LIMIT", 1000)
    with pytest.raises(ConfigError, match="student and bank take .* one ONNX file holds 2"):
        untrained().export(folder, IMAGES)
    assert not folder.exists()


def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    predictor = untrained()
    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"onnxscript is not installed: .*'cnn2gnn\[export\]'"):
        predictor.export(tmp_path / "out", IMAGES)
    assert not (tmp_path / "out").exists()


def test_a_program_that_says_something_else_is_refused() -> None:
    logits, neighbours, weights = (
        torch.tensor([[3.0, -20.0]]),
        torch.tensor([[1, 2]]),
        torch.ones(1, 2),
    )
    near = (logits + 1e-3, torch.tensor([[1, 3]]), weights)
    assert compared("a", (logits, neighbours, weights), near)["neighbours"] == 0.5
    for wrong in (logits + 3e-3, logits * torch.nan):
        with pytest.raises(ArithmeticError, match="student.onnx is not the student"):
            compared(ONNX, (logits,), (wrong,))


def test_an_export_that_fails_leaves_the_older_files(
    exported: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = artefact.Artefact({TORCH: b"1", ONNX: b"2"}, {}, {}, {"modality": "text"})
    made.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {TORCH, ONNX, FACTS}
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        artefact.Artefact({TORCH: b"3", ONNX: b"4"}, {}, {}, {"modality": "text"}).write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {TORCH, ONNX, FACTS}
    assert ((tmp_path / TORCH).read_bytes(), (tmp_path / ONNX).read_bytes()) == (b"1", b"2")


def test_what_a_cell_shows_of_an_export_is_one_short_line() -> None:
    apart = {TORCH: {"logits": 0.0}, ONNX: {"logits": 2e-7}}
    made = artefact.Artefact({TORCH: b"1" * 9999}, {}, apart, {"nodes": [7] * 9999})
    assert repr(made) == f"Artefact(differences={apart})"
