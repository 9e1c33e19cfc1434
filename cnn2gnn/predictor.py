"""A trained student to be used: student, bank and class names in one object and in one file."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cnn2gnn.base.files import BrokenFileError, load_tensors, save_tensors
from cnn2gnn.base.shapes import Shape, misfit
from cnn2gnn.data import DataError
from cnn2gnn.data.coerce import Images
from cnn2gnn.evaluation.bank_changes import (
    as_names,
    as_rows,
    changeable,
    check_parts,
    check_size,
    names_with,
    shrunk,
)
from cnn2gnn.evaluation.label_spreading import spread_labels
from cnn2gnn.evaluation.late_classes import check_late, graph_of, probabilities
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.graph import GraphLearner, SparseGraph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student, StudentOutput
from cnn2gnn.registry import MODALITIES
from cnn2gnn.runs import Run, load_run

if TYPE_CHECKING:
    import pandas as pd

    from cnn2gnn.export import Artefact

FORMAT = 1  # of the saved file
_FACTS: Shape = {"predictor": int, "student": {}, "classes": [str]}  # see `base.shapes`


class Predictor:
    """Classifies images, and says which training images speak for the answer.

    Protocol `inductive`: each image by itself against the frozen bank, in scope `batch` as well
    (there without the bank's labels). So no image changes another's prediction; only the draws
    of `graph="random"` depend on an image's place. A training image finds itself in the bank.

    Images may be given as `cnn2gnn.data.coerce` says: uint8 `(N, C, H, W)` or `(N, H, W, C)`,
    floats in [0, 1], images of Pillow's, paths, and lists of them. No image at all is an error. A
    student of recordings takes paths or the bytes of files, one of texts strings, one of features
    vectors.

    Args:
        student: trained; it is put into evaluation mode.
        bank: of its training images; None for a student without graph.
        classes: names, in the order of the labels.

    Raises:
        ValueError: the three do not belong together.
    """

    def __init__(self, student: Student, bank: Bank | None, classes: Sequence[str]) -> None:
        self.student, self.bank, self.classes = student.eval(), bank, tuple(classes)
        check_parts(self.student, bank, self.classes)

    @classmethod
    def load(
        cls,
        source: Run | str | Path,
        runs_dir: str | Path = "runs",
        *,
        stem: nn.Module | None = None,
        graph: GraphLearner | None = None,
    ) -> Predictor:
        """Return the predictor of a finished run, or one that was saved; on the CPU.

        Args:
            source: a run, its folder, its name in `runs_dir`, or a file written by `save`.
            stem, graph: those of your own that the student was made with; a file holds no code. A
                run that was loaded by you has them.

        Raises:
            FileNotFoundError: there is neither such a file nor such a run, or it has not finished.
            ValueError: the file is damaged or holds something else, or parts of your own are
                missing.
        """
        if not isinstance(source, Run):
            if Path(source).is_file():
                return cls._restore(Path(source), stem, graph)
            source = load_run(source, runs_dir, stem=stem, graph=graph)
        source.metrics()  # complains where the run has not finished
        student = source.load_student()
        bank = None if student.scope == "none" else source.load_bank()
        return cls(student, bank, source.manifest["data"]["classes"])

    def save(self, path: str | Path) -> None:
        """Write all that `load` needs to one safetensors file, atomically; no run, no data."""
        if Path(path).is_dir():
            raise ValueError(f"path={str(path)!r} is a folder: name a file")
        parts = {"student": self.student.state_dict()}
        if self.bank is not None:
            parts["bank"] = self.bank.tensors
        tensors = {f"{part}.{name}": t for part, held in parts.items() for name, t in held.items()}
        facts = {"student": self.student.architecture, "classes": self.classes}
        save_tensors(path, tensors, {"predictor": FORMAT, **facts})

    def compressed(self, megabytes: float = 6.0) -> Predictor:
        """Return a predictor with a smaller bank, for use and for `save`; this one stays.

        It predicts nearly the same, as `Bank.compressed` says, by neighbours of which some are
        others: the fewer bits a key has, the more. `neighbours` numbers the nodes anew where some
        had to go.

        Args:
            megabytes: at most so many MB (10⁶ bytes) for the bank.

        Raises:
            ValueError: there is no bank, or so few bytes hold too few nodes.
        """
        smaller = changeable(self.student, self.bank).compressed(megabytes)
        smaller = self.student.network.scaled(smaller)
        check_size(self.student, smaller, f"megabytes={megabytes}")
        return Predictor(self.student, smaller, self.classes)

    def export(self, folder: str | Path, images: Images) -> Artefact:
        """Write it as programs of `torch.export` and ONNX, which need no cnn2gnn: see `export`.

        Args:
            folder: where `student.pt2`, `student.onnx`, `student.json` and an example are put, each
                atomically.
            images: some that it takes, on which both programs are compared with it.

        Raises:
            ConfigError: a library is missing, or this predictor has no such form.
            ArithmeticError: a program says something else. Nothing is written.
        """
        from cnn2gnn.export import Artefact, check_exportable

        check_exportable(self.student, self.bank, len(self.classes))
        made = Artefact.make(self.student, self.bank, self.classes, self._pixels(images))
        made.write(folder)
        return made

    @property
    def device(self) -> torch.device:
        """Where it predicts."""
        return next(self.student.parameters()).device

    def to(self, device: torch.device | str) -> Predictor:
        """Move it to another device, and return it."""
        self.student.to(device)
        self.bank = None if self.bank is None else self.bank.to(device)
        return self

    def predict(self, images: Images) -> np.ndarray:
        """Return the names of the predicted classes, an array of str `(N,)`."""
        return np.array(self.classes)[self.predict_proba(images).argmax(1)]

    def predict_proba(self, images: Images) -> np.ndarray:
        """Return the probabilities of the classes, float32 `(N, C)`; rows sum to 1."""
        nodes = self._nodes(images)
        if self.bank is None:
            return nodes.logits.float().softmax(1).cpu().numpy()
        found = probabilities(self.student, nodes, self.bank, len(self.classes))
        return found.cpu().numpy()

    def spread(self, images: Images) -> np.ndarray:
        """Return the probabilities of the classes of all of these images at once, `(N, C)`.

        The bank's labels spread over the graph of the bank and the images (`graph.spreading`). It
        is for a few labels and many images that have none: how these lie to each other tells more
        than a network could learn from the labels. So here images do change each other's answers,
        and are expected to be of the classes in the shares in which the bank has them.

        Raises:
            DataError: an image is none that the student takes.
            ValueError: the student finds no neighbours.
        """
        bank, pixels = changeable(self.student, self.bank), self._pixels(images)
        both = self.student.enlarged(bank, pixels, torch.full((len(pixels),), -1))
        found = spread_labels(self.student, both, len(self.classes))  # (M + N, C)
        return found[len(bank) :].cpu().numpy()

    def add(
        self, images: Images, labels: str | Sequence[str], new: str | Sequence[str] = ()
    ) -> np.ndarray:
        """Put labelled images into the bank; nothing is trained.

        They may be of classes that the student was not trained on: see `evaluation.late_classes`.

        Args:
            labels: the name of each image's class, or one for all of them.
            new: the name of a class that comes with these images and joins `classes`, or several.

        Returns:
            Their nodes, int64 `(N,)`, which `remove` takes.

        Raises:
            DataError: an image is none that the student takes.
            ValueError: a label is neither in `classes` nor in `new` or tells several classes, a new
                name has no image, is not new or is given twice, a name is no text, there is not one
                label an image, or the student finds no neighbours, or none of late classes.
        """
        bank = changeable(self.student, self.bank)
        pixels = self._pixels(images)
        named = as_names(labels, "labels") * (len(pixels) if isinstance(labels, str) else 1)
        if len(named) != len(pixels):
            raise ValueError(f"labels: {len(named)} names for {len(pixels)} images")
        classes = names_with(self.classes, named, as_names(new, "new"))
        if len(classes) > self.student.shape["classes"]:
            check_late(self.student.graph_name, self.student.network.learner)
        numbers = torch.tensor([classes.index(name) for name in named])
        self.bank, self.classes = self.student.enlarged(bank, pixels, numbers), classes
        return np.arange(len(bank), len(self.bank))

    def remove(self, rows: np.ndarray | Sequence[int]) -> None:
        """Take nodes out of the bank; the later ones move up. Undoes `add` exactly.

        A class that joined by `add` goes with its last node.

        Args:
            rows: integers `(n,)`, nodes as `neighbours` and `add` call them.

        Raises:
            ValueError: `rows` is something else, such as a mask; a node is not there or is named
                twice; or fewer than k + 2 of the classes that the student was trained on would be
                left.
        """
        bank = changeable(self.student, self.bank)
        given = as_rows(rows).to(bank.labels.device)
        self.bank, self.classes = shrunk(self.student, bank, self.classes, given)

    def neighbours(self, images: Images) -> pd.DataFrame:
        """Return why: the bank nodes that each image looks at, k at most for each head, one a line.

        Columns: image, its place in `images`; rank, from 1, the nearest first; node, its row in the
        bank, which is its place among the training images; label, its class; weight, its share in
        the evidence, in [0, 1], those of an image sum to 1 (with layer=gcn to less); distance,
        squared, between keys, NaN where the graph does not go by distance. By `local_scaling`, a
        node that is near to many weighs less than others at its distance.

        Raises:
            ValueError: the student has no graph.
        """
        import pandas as pd

        if self.bank is None:
            raise ValueError("this student has no graph (graph='none'): no image has neighbours")
        graph = self._graph(self._nodes(images), self.bank)
        count, k = graph.neighbours.shape
        names = np.array([*self.classes, None], dtype=object)  # label −1, unlabelled, is the last
        distances = graph.weights.new_full((count, k), torch.nan)
        columns = {
            "node": graph.neighbours,
            "label": self.bank.labels[graph.neighbours],
            "weight": graph.weights,
            "distance": distances if graph.distances is None else graph.distances,
        }
        flat: dict[str, Any] = {name: t.flatten().cpu().numpy() for name, t in columns.items()}
        flat["label"] = names[flat["label"]]
        places = {"image": np.arange(count).repeat(k), "rank": 0}
        found = pd.DataFrame(places | flat)
        found = found[found["weight"] > 0].reset_index(drop=True)  # the others are no edges
        return found.assign(rank=found.groupby("image").cumcount() + 1)

    def __repr__(self) -> str:
        shape, bank = self.student.shape, self.bank
        sides = f"{shape['channels']}×{shape['size']}×{shape['size']}"
        takes = f"images of {sides}" if self.student.modality == "image" else self.student.modality
        return (
            f"Predictor({len(self.classes)} classes, {takes}, "
            f"{'no bank' if bank is None else f'bank of {len(bank):,}'}, {self.device})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Pickled on the CPU, so that it opens where there is no GPU."""
        state = vars(self).copy()
        state["student"] = copy.deepcopy(self.student).cpu()
        state["bank"] = None if self.bank is None else self.bank.to("cpu")
        return state

    def _nodes(self, images: Images) -> StudentOutput:
        """The images without neighbours."""
        return no_graph(self.student, self._pixels(images))

    def _pixels(self, images: Images) -> Tensor:
        student = self.student
        coerce = MODALITIES[student.modality].coerce
        if coerce is None:
            raise DataError(f"modality {student.modality!r} does not say how to take raw samples")
        return coerce(images, student.shape["channels"], student.shape["size"], student.codec)

    def _graph(self, nodes: StudentOutput, bank: Bank) -> SparseGraph:
        """The graph that decides: the student's own, or the balanced one of late classes."""
        if len(self.classes) > self.student.shape["classes"]:
            return graph_of(self.student, nodes, bank)
        graph = inductive(self.student, nodes, bank).graph
        assert graph is not None
        return graph

    @classmethod
    def _restore(cls, path: Path, stem: Any, graph: Any) -> Predictor:
        tensors, facts = load_tensors(path)
        if not isinstance(facts, dict) or facts.get("predictor") != FORMAT:
            raise BrokenFileError(f"{path} holds no predictor: write one by Predictor.save")
        parts: dict[str, dict[str, Any]] = {"student": {}, "bank": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        if wrong := misfit(facts, _FACTS) or ", ".join([*parts][2:]):
            raise BrokenFileError(f"{path} holds no predictor: {wrong}")
        student = Student.restore(parts["student"], facts["student"], path, stem, graph)
        bank = Bank.restore(parts["bank"], path) if parts["bank"] else None
        try:
            return cls(student, bank, facts["classes"])
        except ValueError as error:
            raise BrokenFileError(f"{path} holds no predictor: {error}") from error
