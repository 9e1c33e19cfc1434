"""A run's nodes: test images as queries, training images as the bank they look into."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from markupsafe import Markup
from torch import Tensor

from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.drawing.classnames import readable
from cnn2gnn.graph import SparseGraph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student, StudentOutput
from cnn2gnn.models.teacher import Teacher
from cnn2gnn.runs import Run, load_run

TEST, BANK = "test", "bank"


@dataclass(frozen=True, order=True)
class Node:
    """One image: `part` is `test` or `bank`, `index` its place in the split or in the bank."""

    part: str
    index: int

    def __str__(self) -> str:
        return f"{self.part} {self.index}"


@dataclass(frozen=True, eq=False)
class RunNodes:
    """N test nodes and M bank nodes of a run.

    Where both are listed together (the map, exports), row i is test node i and row N + j bank
    node j. Dictionaries are keyed by part.

    Attributes:
        splits: the images; labels: int64 `(n,)`.
        keys: u, `(n, w)`; base_logits: `(n, classes)`, what the student says without neighbours
            (of bank nodes up to a constant).
        features: x of the test nodes `(N, d)`.
        logits: prediction of the test nodes `(N, classes)`, protocol inductive; gate: `(N,)`.
        graph: edges from test nodes to bank nodes, `(N, k)`.
        teacher_logits: of the test nodes, `(N, classes)`.
    """

    run: Run
    student: Student
    bank: Bank
    splits: Splits
    labels: dict[str, Tensor]
    keys: dict[str, Tensor]
    base_logits: dict[str, Tensor]
    features: Tensor
    logits: Tensor
    gate: Tensor
    graph: SparseGraph
    teacher_logits: Tensor

    @classmethod
    def load(cls, run: Run | str | Path) -> RunNodes:
        """Read a finished run: itself, its folder, or its name in `runs`.

        Raises:
            FileNotFoundError: there is no finished run.
            ValueError: the run has no graph.
        """
        run = run if isinstance(run, Run) else load_run(run)
        run.metrics()  # complains where the run has not finished
        if run.config.student.graph == "none":
            raise ValueError(f"run {run.folder} has graph='none': there are no edges to explore")
        saved, splits = run.load_nodes(), run.load_splits()
        student, bank = run.load_student().requires_grad_(False), run.load_bank()
        said = bank.probabilities.clamp(min=1e-8).log()  # (M, classes)
        return cls(
            run=run,
            student=student,
            bank=bank,
            splits=splits,
            labels={TEST: saved["labels"], BANK: bank.labels},
            keys={TEST: student.network.keys(saved["features"]), BANK: bank.keys},
            base_logits={TEST: saved["base_logits"], BANK: said},
            features=saved["features"],
            logits=saved["logits"],
            gate=saved["gate"],
            graph=SparseGraph(
                saved["neighbours"], saved["weights"], saved.get("distances"), len(bank)
            ),
            teacher_logits=saved["teacher_logits"],
        )

    def __len__(self) -> int:
        return len(self.logits)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, each one once."""
        return readable(self.splits.test.classes)

    @property
    def rows(self) -> int:
        """Test and bank nodes together, N + M."""
        return len(self) + len(self.bank)

    def row(self, node: Node) -> int:
        """Return the row of a node among all N + M.

        Raises:
            ValueError: there is no such node.
        """
        count = {TEST: len(self), BANK: len(self.bank)}.get(node.part)
        if count is None or not 0 <= node.index < count:
            raise ValueError(
                f"node {node.part!r} {node.index}: there are test 0 to {len(self) - 1} "
                f"and bank 0 to {len(self.bank) - 1}"
            )
        return node.index if node.part == TEST else len(self) + node.index

    def node(self, row: int) -> Node:
        """Return the node of a row; the inverse of `row`."""
        node = Node(TEST, row) if row < len(self) else Node(BANK, row - len(self))
        self.row(node)
        return node

    def image(self, node: Node) -> Tensor:
        """The picture of a node, uint8 `(C, H, W)`: what is looked at."""
        return self._split(node).picture(node.index)

    def sample(self, node: Node) -> Tensor:
        """The sample of a node `(C, …)`: what models take."""
        return self._split(node).images[node.index]

    def player(self, node: Node) -> Markup:
        """What stands beside the picture, as HTML: a text, a sound; nothing for images."""
        return self._split(node).player(node.index)

    def words(self, node: Node) -> str:
        """The sample of a node in a line of plain text; nothing for images and sounds."""
        return self._split(node).words(node.index)

    def _split(self, node: Node) -> ImageSet:
        return self.splits.test if node.part == TEST else self.splits.train

    def label(self, node: Node) -> int:
        """The true class of a node."""
        return int(self.labels[node.part][node.index])

    @cached_property
    def pixels(self) -> dict[str, Tensor | None]:
        """Raw pixels `(n, p)` in [0, 1] by part, if the graph is taken from them, else None."""
        test = self.student.pixels(self.splits.test.images)
        return {TEST: test, BANK: self.bank.pixels}

    def no_graph(self) -> StudentOutput:
        """The test nodes without their graph, as from `protocols.no_graph`."""
        own = self.base_logits[TEST]
        return StudentOutput(own, own, None, self.features, None, self.pixels[TEST])

    def features_of(self, node: Node) -> Tensor:
        """x of one node, `(1, d)`; a bank node's is computed from its image."""
        if node.part == TEST:
            return self.features[node.index : node.index + 1]
        return self.student.features(self.sample(node)[None])

    @cached_property
    def teacher(self) -> Teacher | None:
        """The teacher of the run, if it still lies beside it; one of the user's own does not."""
        if "teacher" in self.run.made_with:
            own = self.run.own.teacher
            return None if own is None else own.eval()
        path = self.run.teacher_path
        if not path.exists():
            return None
        teacher = Teacher.load(path).requires_grad_(False)
        if teacher.fingerprint() != self.run.manifest["teacher"]:
            raise ValueError(
                f"{path} is not the teacher of run {self.run.folder}: {teacher.fingerprint()} "
                f"instead of {self.run.manifest['teacher']}"
            )
        return teacher

    def teacher_logits_of(self, node: Node) -> Tensor | None:
        """What the teacher says `(C,)`; for bank nodes it is asked, if it still exists."""
        if node.part == TEST:
            return self.teacher_logits[node.index]
        return None if self.teacher is None else self.teacher(self.sample(node)[None])[0]

    def bank_graph(self, indices: Tensor) -> SparseGraph:
        """Edges of the bank nodes `indices` `(n,)` into the bank, each without itself."""
        return self.student.network.bank_graph(self.bank, indices)

    def together(self, values: dict[str, Tensor]) -> Tensor:
        """One tensor over all rows, `(N + M, …)`."""
        return torch.cat([values[TEST], values[BANK]])
