"""The student: stem → learned graph → two graph layers → logits."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnn2gnn.config import StudentConfig
from cnn2gnn.files import load_state, load_tensors, save_tensors
from cnn2gnn.graph import GraphLearner, SparseGraph
from cnn2gnn.graph.search import nearest
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.layers import Gate, Head, Normalise, gate_numbers
from cnn2gnn.models.output import StudentOutput
from cnn2gnn.models.stems import feature_width
from cnn2gnn.registry import LEARNERS, STEMS


class Student(nn.Module):
    """A graph student that classifies raw images.

    In scope `bank`, neighbours are training images, and the graph corrects the base branch where
    it errs in the query's neighbourhood: logits_i = base_i + c·g_i·Σ_j s_ij r_j.
    In scope `batch` (the paper's reading), neighbours are the other images of the batch, and
    features flow along the edges of both layers; the gate mixes the result with the base branch.

    Args:
        config: stem, graph learner, k, scope.
        channels, size, classes: of the images; `mean`, `std`: of their channels in [0, 1] units.
        stem: one of your own, from normalised images `(B, C, S, S)` to features `(B, d)`; None:
            the one that `config` names. learner: likewise a graph learner.

    Raises:
        ValueError: your stem does not give one vector an image.
    """

    def __init__(
        self,
        config: StudentConfig,
        *,
        channels: int,
        size: int,
        classes: int,
        mean: list[float],
        std: list[float],
        stem: nn.Module | None = None,
        learner: GraphLearner | None = None,
    ) -> None:
        super().__init__()
        self.config, self.own = config, _kinds(stem, learner)
        self.shape = {"channels": channels, "size": size, "classes": classes}
        self.normalise = Normalise(mean, std)
        self.stem = STEMS[config.stem](channels, size) if stem is None else stem
        self.learner = LEARNERS[config.graph](config.k) if learner is None else learner
        d = feature_width(self.stem, channels, size)
        self.head = Head(d, classes, neighbours=config.scope == "batch")
        self.gate = None if config.graph == "none" else Gate()
        # c = exp(log_scale), so that the neighbours' evidence is never subtracted
        self.log_scale = None if self.scope != "bank" else nn.Parameter(torch.tensor(2.0))

    @property
    def scope(self) -> str:
        """`bank` or `batch`; `none` if the student has no graph."""
        return "none" if self.config.graph == "none" else self.config.scope

    @property
    def evidence_scale(self) -> float:
        """c > 0 in base + c·gate·evidence (scope `bank`)."""
        return 1.0 if self.log_scale is None else self.log_scale.exp().item()

    @property
    def parameter_count(self) -> int:
        """Number of trained scalars, without the bank."""
        return sum(p.numel() for p in self.parameters())

    def forward(
        self, images: Tensor, bank: Bank | None = None, exclude: Tensor | None = None
    ) -> StudentOutput:
        """Classify uint8 images `(B, C, H, W)`.

        Args:
            bank: training nodes. Without one, scope `bank` gives the base branch alone and scope
                `batch` looks for neighbours in the batch.
            exclude: `(B,)`, the bank node that each image may not have as neighbour (itself, in
                training); −1 for none.

        Raises:
            ValueError: a bank while in training mode; its keys are those of evaluation mode, and
                against them the batch statistics of training lead the search astray.
        """
        if bank is not None and self.training:
            raise ValueError("a bank is for a student in evaluation mode; call student.eval()")
        features = self.embed(images)  # (B, d)
        base_logits = self.base(features)  # (B, classes)
        if self.scope == "none" or (self.scope == "bank" and bank is None):
            return StudentOutput(base_logits, base_logits, None, features, None)
        return self.correct(base_logits, features, bank, exclude, self.pixels(images))

    def pixels(self, images: Tensor) -> Tensor | None:
        """Return uint8 images as `(B, p)` in [0, 1] if the graph is taken from them, else None."""
        return images.flatten(1).float() / 255 if self.learner.space == "pixels" else None

    def embed(self, images: Tensor) -> Tensor:
        """uint8 images `(B, C, H, W)` to node features `(B, d)`."""
        return self.stem(self.normalise(images))

    def base(self, features: Tensor) -> Tensor:
        """Features `(B, d)` to logits `(B, classes)`, without any neighbour."""
        # without a graph, a layer's neighbour term sees the node itself: no weight lies idle
        itself = self.learner(features) if self.scope == "none" else None
        return self.head(features, itself)

    def correct(
        self,
        base_logits: Tensor,
        features: Tensor,
        bank: Bank | None = None,
        exclude: Tensor | None = None,
        pixels: Tensor | None = None,
    ) -> StudentOutput:
        """Learn the graph of these nodes and apply it. Arguments as in `forward`."""
        graph = self.find_graph(features, bank, exclude, pixels)
        return self.apply_graph(base_logits, features, graph, bank)

    def find_graph(
        self,
        features: Tensor,
        bank: Bank | None = None,
        exclude: Tensor | None = None,
        pixels: Tensor | None = None,
    ) -> SparseGraph:
        """Return the graph of nodes `(B, d)` among the bank, or among themselves without one.

        `pixels` `(B, p)` in [0, 1] are needed by a graph that is fixed in pixel space.
        """
        return self.learner(*self._places(features, bank, pixels), exclude)

    def candidates(
        self, features: Tensor, bank: Bank, pixels: Tensor | None = None
    ) -> Tensor | None:
        """Return the only bank nodes that can be neighbours, whatever other nodes join the bank.

        Returns:
            `(B, k + 1)` for nodes `(B, d)`; None if the learner does not choose by distance.
        """
        if self.learner.reach is None:
            return None
        queries, keys = self._places(features, bank, pixels)
        return nearest(queries, keys, min(self.learner.reach, len(bank)))

    def _places(
        self, features: Tensor, bank: Bank | None, pixels: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Where the nodes, and those they may find, lie in the space of distances."""
        if pixels is None and self.learner.space == "pixels":
            raise ValueError("graph='fixed' finds neighbours by raw pixels: give the pixels too")
        positions = features if pixels is None else pixels
        if bank is None:
            return positions, None
        if pixels is not None:
            return positions, bank.keys
        if self.scope == "batch":
            return positions, bank.features
        # no gradient from the weights into the stem: it cost the base branch a point
        return bank.project(positions.detach()), bank.keys

    def apply_graph(
        self, base_logits: Tensor, features: Tensor, graph: SparseGraph, bank: Bank | None = None
    ) -> StudentOutput:
        """Predict with a given graph, learned or edited."""
        if self.gate is None:
            raise ValueError("this student has no graph (graph='none')")
        if self.scope == "bank":
            if bank is None:
                raise ValueError("a student of scope bank needs its bank to use a graph")
            votes = bank.label_votes(graph.neighbours, graph.weights)  # (B, C)
            gate = self.gate(gate_numbers(base_logits, votes, graph))  # (B,)
            logits = self.combine(base_logits, gate, graph.aggregate(bank.residuals))
        else:
            sources = features if bank is None else bank.features
            votes = graph.aggregate(self.base(sources).softmax(1))  # (B, C)
            gate = self.gate(gate_numbers(base_logits, votes, graph))
            neighbour_logits = self.head(features, graph, sources)  # (B, C)
            # logits_i = (1 − g_i)·base_i + g_i·graph_i
            logits = torch.lerp(base_logits, neighbour_logits, gate[:, None])
        return StudentOutput(logits, base_logits, gate, features, graph)

    def combine(self, base_logits: Tensor, gate: Tensor, evidence: Tensor) -> Tensor:
        """Add the neighbours' evidence `(B, C)`, as far as the gate `(B,)` trusts it."""
        assert self.log_scale is not None
        # logits_i = base_i + c·g_i·e_i,  e_i = Σ_j s_ij r_j
        return base_logits + self.log_scale.exp() * gate[:, None] * evidence

    @torch.no_grad()
    def bank(self, images: Tensor, labels: Tensor, batch_size: int = 500) -> Bank:
        """Return the bank of training images `(M, C, H, W)` with labels `(M,)`.

        Raises:
            ValueError: fewer than k + 2 images.
        """
        if len(images) < self.learner.k + 2:
            raise ValueError(
                f"a bank needs at least k + 2 = {self.learner.k + 2} images, not {len(images)}"
            )
        device = next(self.parameters()).device
        parts = [self.embed(chunk.to(device)) for chunk in images.split(batch_size)]
        features = torch.cat(parts).float()  # (M, d)
        base_logits = torch.cat([self.base(part) for part in parts])  # (M, C)
        return Bank.build(features, labels.to(device), base_logits, self.pixels(images.to(device)))

    @property
    def architecture(self) -> dict[str, Any]:
        """All but the weights, as JSON takes it; `restore` builds the student from both."""
        mean, std = (getattr(self.normalise, name).flatten().tolist() for name in ("mean", "std"))
        config = asdict(self.config)
        return {"config": config, **self.shape, "mean": mean, "std": std, "own": self.own}

    def save(self, path: str | Path) -> None:
        """Write weights and architecture to one safetensors file, atomically."""
        save_tensors(path, self.state_dict(), self.architecture)

    @classmethod
    def load(
        cls, path: str | Path, stem: nn.Module | None = None, learner: GraphLearner | None = None
    ) -> Student:
        """Read a student, in evaluation mode. Arguments and errors as in `restore`.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return cls.restore(*load_tensors(path), path, stem, learner)

    @classmethod
    def restore(
        cls,
        tensors: Mapping[str, Tensor],
        architecture: Any,
        source: str | Path,
        stem: nn.Module | None = None,
        learner: GraphLearner | None = None,
    ) -> Student:
        """Return the student of these weights, in evaluation mode.

        Args:
            source: what errors call it.
            stem, learner: those of your own that it was made with.

        Raises:
            ValueError: what is given is damaged, is no student's or does not fit together.
        """
        try:
            shape = dict(architecture)
            made_with, given = shape.pop("own"), _kinds(stem, learner)
            config = StudentConfig(**shape.pop("config"))
            student = cls(config, **shape, stem=copy.deepcopy(stem), learner=learner)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{source} holds no student: {error}") from error
        if given != made_with:
            raise ValueError(
                f"{source} was made with parts of your own {made_with or 'of no kind'}, "
                f"given are {given or 'none'}: hand over the same"
            )
        load_state(student, tensors, source)
        return student.eval()


def _kinds(stem: nn.Module | None, learner: GraphLearner | None) -> dict[str, str]:
    """The classes of the parts that are the user's own."""
    parts = {"stem": stem, "graph": learner}
    return {name: type(part).__qualname__ for name, part in parts.items() if part is not None}
