"""The bank: training images as graph nodes, with what the student knows and gets wrong on each."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnn2gnn.base.files import BrokenFileError, load_tensors, save_tensors
from cnn2gnn.graph.local_scaling import raised
from cnn2gnn.graph.search_keys import SearchKeys
from cnn2gnn.graph.sparse import SparseGraph
from cnn2gnn.models.compression import pack, unpack
from cnn2gnn.models.condensation import LEAST, condensed_rows, share_within
from cnn2gnn.models.quantisation import BITS


@dataclass(eq=False)  # not frozen: Fabric rebuilds what it hands to a network in double precision
class Bank:
    """M nodes that a query finds its neighbours among.

    Attributes:
        keys: u_j, `(M, d)`; distances are taken between keys.
        labels: y_j, `(M,)` int64; −1 for an unlabelled node. C and above are late classes, which
            came after the student's training (`evaluation.late_classes`).
        probabilities: softmax(base_j), `(M, C)`: what the student says of a node by itself.
        pixels: raw pixels `(M, p)` in [0, 1], for a graph that is fixed in pixel space.
        radii: β ρ_j of the keys' heads, or of the pixels, `(M, H)`, where distances are scaled: see
            `graph.local_scaling`.
        looked_at: Σ_i s_ij over the training images, `(M,)`, for a layer that counts it.
        ceiling: what radii are taken from, C; None: the largest of them. A part of a bank that is
            searched beside other parts has that of the whole.
        bits: of a dimension of a key as it is saved, see `quantisation`; None: half precision.
        grid: that the keys stand on, `(2, d)`, where they have so few bits.
    """

    keys: Tensor
    labels: Tensor
    probabilities: Tensor
    pixels: Tensor | None = None
    radii: Tensor | None = None
    looked_at: Tensor | None = None
    ceiling: float | None = None
    bits: int | None = None
    grid: Tensor | None = None

    @cached_property
    def residuals(self) -> Tensor:
        """r_j = onehot(y_j) − softmax(base_j), `(M, C)`; zero for an unlabelled node.

        The "correct" step of Correct & Smooth (Huang et al., ICLR 2021) spreads them.
        """
        known = (self.labels >= 0).to(self.probabilities.dtype)[:, None]  # (M, 1)
        # without onehot(y): as int64 it would take twice the memory of what is wanted
        residuals = self.probabilities.neg() * known
        return residuals.scatter_add_(1, self.labels.clamp(min=0)[:, None], known)

    @cached_property
    def answers(self) -> Tensor:
        """y_j, `(M, C)`: one-hot, or softmax(base_j) of an unlabelled node."""
        return self.residuals + self.probabilities

    @cached_property
    def places(self) -> Tensor:
        """Where the nodes lie, prepared for the search: their pixels if there are any, or keys.

        Where distances are scaled, `raised`: by √(C − β ρ_j).
        """
        if self.radii is None:
            return SearchKeys.of(self.points)
        return SearchKeys.of(raised(self.points, self._heights), raised=True)

    @property
    def points(self) -> Tensor:
        """What distances are taken between: pixels if there are any, or keys, `(M, w)`."""
        return self.keys if self.pixels is None else self.pixels

    @property
    def top(self) -> float:
        """C in √(C − β ρ_j)."""
        assert self.radii is not None
        return self.radii.max().item() if self.ceiling is None else self.ceiling

    @cached_property
    def _heights(self) -> Tensor:
        """√(C − β ρ_j), `(M, H)`. `places` has made them before a program is recorded."""
        assert self.radii is not None
        return (self.top - self.radii).clamp(min=0).sqrt()  # (M, H)

    def seeking(self, points: Tensor) -> Tensor:
        """Points `(N, d)`, keys or pixels, as they look for neighbours among `places`."""
        if self.radii is None:
            return points
        rows = points.shape[0]  # len() would be a constant of an exported program
        return raised(points, self.radii.new_zeros(rows, self.radii.shape[1]))

    def measured(self, graph: SparseGraph) -> SparseGraph:
        """A graph found among `places`, with the distances between the points as they are.

        The edges of a node then stand in their ascending order.
        """
        if self.radii is None or graph.distances is None:
            return graph
        added = self._heights.square().mean(1)  # (M,): a graph of several heads has their mean
        distances = graph.distances - added[graph.neighbours].to(graph.distances.dtype)
        return replace(graph, distances=distances.clamp(min=0)).by_distance()

    def __getstate__(self) -> dict[str, Any]:
        """Without what was computed from it: a copy may get other tensors."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def __len__(self) -> int:
        return len(self.labels)

    def unlabelled(self) -> Bank:
        """Return the bank without its labels."""
        return replace(self, labels=torch.full_like(self.labels, -1))

    def joined(self, other: Bank) -> Bank:
        """Return the nodes of both, those of `other` behind."""
        pairs = ((name, [t, getattr(other, name)]) for name, t in self._held())
        both: dict[str, Any] = {name: torch.cat(pair) for name, pair in pairs}
        return replace(self, **both, ceiling=None)

    def without(self, rows: Tensor) -> Bank:
        """Return the bank without the nodes `rows`, int64 `(m,)`.

        Raises:
            ValueError: a row that the bank does not have, or that is named twice.
        """
        self._check_rows(rows)
        kept = torch.ones(len(self), dtype=torch.bool, device=self.labels.device)
        kept[rows] = False
        return self.subset(kept)

    def relabelled(self, rows: Tensor, labels: Tensor) -> Bank:
        """Return the bank with new labels `(m,)` at `rows`, int64 `(m,)`; residuals follow.

        Raises:
            ValueError: a row that the bank does not have, or that is named twice.
        """
        self._check_rows(rows)
        changed = self.labels.clone()
        changed[rows] = labels
        return replace(self, labels=changed)

    @property
    def trained(self) -> Tensor:
        """Which nodes the student's training knew the class of, bool `(M,)`, or that have none."""
        return self.labels < self.probabilities.shape[1]

    def subset(self, rows: Tensor | slice) -> Bank:
        """Return some of the nodes, `rows` int64 `(m,)`, bool `(M,)` or a slice."""
        return replace(self, **{name: t[rows] for name, t in self._held()})

    def condensed(self, share: float) -> Bank:
        """Return a share of each class's nodes, those that keep its mean: see `condensation`.

        Args:
            share: in (0, 1]; at least one node of each class stays.

        Raises:
            ValueError: `share` lies elsewhere.
        """
        return self.subset(condensed_rows(self.keys, self.labels, share))

    def rounded(self, bits: int) -> Bank:
        """Return the bank as it comes back from a file with so many bits a dimension of a key.

        Of the probabilities the largest are kept: see `compression`.

        Args:
            bits: 8, 4 or 2, at most those that it has.

        Raises:
            ValueError: `bits` is another number.
        """
        allowed = [each for each in BITS if each <= (self.bits or each)]
        if bits not in allowed:
            raise ValueError(f"bits={bits} must be one of {', '.join(map(str, allowed))}")
        grid = self.grid if bits == self.bits else None
        return replace(self, bits=bits, grid=grid).compact()

    def compressed(self, megabytes: float = 6.0) -> Bank:
        """Return the bank as it comes back from a file of at most so many MB (10⁶ bytes).

        Keys get as many bits as there is room for, as in `rounded`; where two are too many, nodes
        are left out as in `condensed`.

        Raises:
            ValueError: one node a class takes more.
        """
        for bits in BITS:
            if bits > (self.bits or bits):
                continue
            smaller = self.rounded(bits)
            if smaller.megabytes <= megabytes:
                return smaller
        least = smaller.condensed(LEAST)
        if not least.megabytes <= megabytes:
            raise ValueError(
                f"megabytes={megabytes} is too little: a bank of one node a class takes "
                f"{least.megabytes:.2g}"
            )
        # what no node takes: the grid, the number of classes
        fixed = smaller.subset(torch.arange(0)).megabytes
        room = (megabytes - fixed) / (smaller.megabytes - fixed)
        return smaller.condensed(share_within(self.labels, int(room * len(self))))

    @property
    def megabytes(self) -> float:
        """Size in MB (10⁶ bytes) as saved."""
        return sum(t.nbytes for t in self.tensors.values()) / 1e6

    def to(self, device: torch.device | str) -> Bank:
        """Return the bank on another device."""
        grid = None if self.grid is None else self.grid.to(device)
        return replace(self, grid=grid, **{name: t.to(device) for name, t in self._held()})

    def save(self, path: str | Path) -> None:
        """Write the bank to a safetensors file, atomically."""
        save_tensors(path, self.tensors)

    @classmethod
    def load(cls, path: str | Path) -> Bank:
        """Read a bank.

        Raises:
            FileNotFoundError: the file is not there.
            BrokenFileError: the file is damaged or not a bank.
        """
        return cls.restore(load_tensors(path)[0], path)

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], source: str | Path) -> Bank:
        """Return the bank of these `tensors`; errors name `source`.

        Raises:
            BrokenFileError: they are not those of a bank.
        """
        try:
            bank = cls(**unpack(tensors))
            bank._check()
        except (KeyError, TypeError, RuntimeError, IndexError, ValueError) as error:
            raise BrokenFileError(f"{source} is not a bank: {error}") from error
        return bank

    def _check(self) -> None:
        """Raise a ValueError for tensors that are not those of one bank."""
        axes = {"labels": 1, "looked_at": 1}  # (M,); the others are (M, …)
        for name, tensor in self._held():
            shape, needed = tuple(tensor.shape), axes.get(name, 2)
            if len(shape) != needed or shape[0] != len(self.keys):
                raise ValueError(f"{name} of shape {shape}, keys of {tuple(self.keys.shape)}")
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise ValueError(f"{name} hold NaN or infinity")
        heads = 1 if self.radii is None else self.radii.shape[1]
        if heads == 0 or self.keys.shape[1] % heads:
            raise ValueError(f"radii of {heads} heads, keys of {tuple(self.keys.shape)}")
        if (self.labels < -1).any():
            raise ValueError(f"labels hold {int(self.labels.min())}")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What `restore` takes: in half precision, which changes no neighbour that matters."""
        return pack(dict(self._held()), self.bits, self.grid)

    def compact(self) -> Bank:
        """Return the bank as it comes back from its file: what is measured is what is used."""
        return self.restore(self.tensors, "bank")

    def _check_rows(self, rows: Tensor) -> None:
        wrong = rows[(rows < 0) | (rows >= len(self))]
        if len(wrong):
            raise ValueError(f"rows: {int(wrong[0])} is no node, allowed are 0 to {len(self) - 1}")
        found, counts = rows.unique(return_counts=True)
        if len(found) < len(rows):
            raise ValueError(f"rows: {int(found[counts > 1][0])} is named twice")

    def _held(self) -> list[tuple[str, Any]]:
        held = ((item.name, getattr(self, item.name)) for item in fields(self))
        # of the nodes: `grid` is not
        return [(n, value) for n, value in held if isinstance(value, Tensor) and n != "grid"]
