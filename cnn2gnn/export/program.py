"""Student and bank as one program: raw samples in, logits and neighbours out.

What the program computes is the student's own code, recorded by `torch.export`: normalisation,
stem, the exact search in the bank, the two graph layers.
"""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from cnn2gnn.base.extras import needed
from cnn2gnn.config import ConfigError
from cnn2gnn.export.translations import translations
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student

INPUT, BATCH = "samples", "batch"
OPSET = 20  # of ONNX; tested with onnxruntime 1.32
LIMIT = 2**31  # bytes of an ONNX file, for a protobuf holds no more


class Program(nn.Module):
    """Classifies raw samples against a frozen bank, and says which nodes spoke.

    Args:
        student: trained; a copy of it is taken, on the CPU.
        bank: of its training samples; None for a student without graph.
    """

    def __init__(self, student: Student, bank: Bank | None) -> None:
        super().__init__()
        self.student = copy.deepcopy(student).cpu().eval().requires_grad_(False)
        self.bank = None if bank is None else bank.to("cpu")
        if self.bank is not None:  # made here, they are constants of the program
            _ = self.bank.residuals, self.bank.places

    def forward(self, samples: Tensor) -> tuple[Tensor, ...]:
        """Return logits `(B, C)` and, with a graph, neighbours and weights, each `(B, k)`.

        Args:
            samples: `(B, C, H, W)` as the student takes them: uint8 for images.
        """
        found = self.student(samples, self.bank)
        if found.graph is None:
            return (found.logits,)
        return found.logits, found.graph.neighbours, found.graph.weights


def outputs_of(student: Student) -> dict[str, int]:
    """Return what the program gives for each sample, in order, and how many numbers each are.

    `neighbours` are int64, rows of the bank; where a weight is 0 there is no edge.
    """
    logits, learner = {"logits": student.shape["classes"]}, student.network.learner
    if learner is None:
        return logits
    width = learner.heads * learner.k
    return logits | {"neighbours": width, "weights": width}


def check_exportable(student: Student, bank: Bank | None, classes: int) -> None:
    """Check that a program can say what the predictor says, before anything long starts.

    Args:
        classes: how many the predictor tells apart, late ones too.

    Raises:
        ConfigError: neighbours are drawn by chance, classes came late, the bank is too large, or
            a library is missing.
    """
    for library in ("onnxscript", "onnxruntime"):
        needed(library, "export")
    learner = student.network.learner
    if learner is not None and learner.reach is None:
        raise ConfigError(
            f"graph={student.graph_name!r} draws its neighbours anew, or does not say how many it "
            "looks at (its `reach`), which an exported program needs"
        )
    if classes > student.shape["classes"]:
        raise ConfigError(
            f"{classes - student.shape['classes']} classes came after training, and only a "
            "Predictor weighs them: remove their nodes, or train with them"
        )
    held = [] if bank is None else [bank.keys, bank.places, bank.probabilities, bank.residuals]
    size = sum(t.nbytes for t in [*student.parameters(), *held])
    if size >= LIMIT:
        raise ConfigError(
            f"student and bank take {size / 1e9:.1f} GB, one ONNX file holds 2: make the bank "
            "smaller by Predictor.compressed"
        )


def traced(program: Program, samples: Tensor) -> ExportedProgram:
    """Return the program, recorded for batches of any size.

    Args:
        samples: one at least, `(B, C, H, W)`.

    Raises:
        ConfigError: a part of your own does what no program can.
    """
    two = torch.cat([samples, samples])[:2].cpu()  # the size of a batch of one would be a constant
    try:
        with torch.no_grad():
            return torch.export.export(program, (two,), dynamic_shapes=({0: Dim(BATCH, min=1)},))
    except Exception as error:  # whatever a part of the user's own stumbles over
        raise ConfigError(f"this student cannot be exported: {_first_line(error)}") from error


def to_onnx(recorded: ExportedProgram, outputs: tuple[str, ...]) -> Any:
    """Return a recorded program as a model of the library onnx-ir.

    Raises:
        ConfigError: a part of your own does what ONNX has no word for.
    """
    from onnx_ir.passes.common import DeduplicateInitializersPass

    try:
        converted = torch.onnx.export(
            recorded,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes=({0: BATCH},),
            opset_version=OPSET,
            custom_translation_table=translations(),
            dynamo=True,
            verbose=False,
        )
    except Exception as error:  # as above
        raise ConfigError(f"this student has no form in ONNX: {_first_line(error)}") from error
    assert converted is not None
    DeduplicateInitializersPass(size_limit=LIMIT)(converted.model)  # what is in it twice, once
    return converted.model


def as_bytes(recorded: ExportedProgram, facts: dict[str, str]) -> bytes:
    """Return a recorded program as a .pt2 file holds it, with further files of text in it."""
    buffer = io.BytesIO()
    torch.export.save(recorded, buffer, extra_files=facts)
    return buffer.getvalue()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
