"""The files of an export: each whole by itself, compared with the student before it is written."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import cnn2gnn
from cnn2gnn.base.extras import needed
from cnn2gnn.base.files import replacing
from cnn2gnn.export.program import (
    INPUT,
    Program,
    as_bytes,
    check_exportable,
    outputs_of,
    to_onnx,
    traced,
)
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student

FORMAT = 1  # of the facts
TORCH, ONNX, FACTS = "student.pt2", "student.onnx", "student.json"
EXAMPLE = "classify.py"  # a script: nobody imports it
KEY = "cnn2gnn"  # of the facts among ONNX's metadata
TOLERANCE = 1e-4  # of logits, as a share of the largest one where that is above 1

Runner = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Artefact:
    """Student and bank as programs that need neither run nor data nor cnn2gnn.

    Attributes:
        programs: contents of `student.pt2` and `student.onnx`; each holds the facts as well.
        runners: the programs, loaded, by the same names: samples to what the student says.
        differences: how far each is from the student: see `compared`.
        facts: class names, input, outputs, and the class of each node of the bank.
    """

    # a cell that ends in an export shows `differences` alone: the others fill pages
    programs: dict[str, bytes] = field(repr=False)
    runners: dict[str, Runner] = field(repr=False)
    differences: dict[str, dict[str, float]]
    facts: dict[str, Any] = field(repr=False)

    @classmethod
    def make(
        cls, student: Student, bank: Bank | None, classes: Sequence[str], samples: Tensor
    ) -> Artefact:
        """Record the programs, and compare what they say with what the student says.

        Args:
            bank: None for a student without graph. classes: names, in the order of the labels.
            samples: some that the student takes, `(B, C, H, W)`.

        Raises:
            ConfigError: see `check_exportable`; or a part of your own has no such form.
            ArithmeticError: a program says something else than the student.
        """
        check_exportable(student, bank, len(classes))
        samples, program = samples.cpu(), Program(student, bank)
        facts = _facts(student, bank, classes, samples)
        recorded, text = traced(program, samples), json.dumps(facts)
        model = to_onnx(recorded, tuple(outputs_of(student)))
        model.metadata_props[KEY] = text
        programs = {
            TORCH: as_bytes(recorded, {FACTS: text}),
            ONNX: needed("onnx_ir", "export").to_proto(model).SerializeToString(),
        }
        runners = {TORCH: _torch_runner(programs[TORCH]), ONNX: _onnx_runner(programs[ONNX])}
        expected = program(samples)
        apart = {name: compared(name, expected, run(samples)) for name, run in runners.items()}
        return cls(programs, runners, apart, facts)

    def write(self, folder: str | Path) -> list[Path]:
        """Write all files into a folder, each atomically, and return their paths.

        They are `student.pt2`, `student.onnx`, `student.json` with the facts and the programs'
        SHA-256, and for images `classify.py`, an example that needs onnxruntime and Pillow alone.
        """
        files = dict(self.programs)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        facts = self.facts | {"sha256": hashes}
        files[FACTS] = (json.dumps(facts, indent=2) + "\n").encode()
        if self.facts["modality"] == "image":
            files[EXAMPLE] = Path(__file__).with_name(EXAMPLE).read_bytes()
        for name, content in files.items():
            with replacing(Path(folder) / name) as path:
                path.write_bytes(content)
        return [Path(folder) / name for name in files]


def compared(
    name: str, expected: tuple[Tensor, ...], found: tuple[Tensor, ...]
) -> dict[str, float]:
    """Return how far a program is from the student.

    Returns:
        `logits`: the largest difference; `neighbours`: the share of other ones, in [0, 1]. Where
        two nodes are equally far to seven digits, either may come first.

    Raises:
        ArithmeticError: logits differ by more than `TOLERANCE`.
    """
    logits = expected[0]
    apart = (logits - found[0]).abs().max().item()
    if not apart <= TOLERANCE * max(1.0, logits.abs().max().item()):
        raise ArithmeticError(f"{name} is not the student: logits differ by {apart:.2g}")
    others = 0.0
    if len(expected) > 1:
        others = (expected[1] != found[1]).float().mean().item()
    return {"logits": apart, "neighbours": others}


def _torch_runner(content: bytes) -> Runner:
    return torch.export.load(io.BytesIO(content)).module()


def _onnx_runner(content: bytes) -> Runner:
    """A session of onnxruntime on the CPU, with as many threads as torch has."""
    library = needed("onnxruntime", "export")
    options = library.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = library.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(samples: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, session.run(None, {INPUT: samples.numpy()})))

    return run


def _facts(
    student: Student, bank: Bank | None, classes: Sequence[str], samples: Tensor
) -> dict[str, Any]:
    """What whoever loads a program has to know."""
    eight_bit = samples.dtype == torch.uint8
    return {
        "format": FORMAT,
        "made_by": f"cnn2gnn {cnn2gnn.__version__}",
        "classes": list(classes),
        "modality": student.modality,
        "input": {
            "name": INPUT,
            "dtype": str(samples.dtype).removeprefix("torch."),
            "shape": ["batch", *samples.shape[1:]],
            "values": "0 to 255, not normalised" if eight_bit else "as they are, not normalised",
        },
        "outputs": [
            {"name": name, "shape": ["batch", size]} for name, size in outputs_of(student).items()
        ],
        "graph": student.graph_name,
        "scope": student.scope,
        "codec": student.codec,
        # of node i, which is training sample i: the place of its class in `classes`, −1 for none
        "nodes": [] if bank is None else bank.labels.tolist(),
    }
