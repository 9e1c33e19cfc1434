"""The two graph layers: node features in, a learned graph and logits out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.base.disk import collected
from cnn2gnn.graph import GraphLayer, GraphLearner, Mean, SparseGraph
from cnn2gnn.graph.learners import Search
from cnn2gnn.graph.local_scaling import bounded, radii
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.keys import ROWS, principal, whitening
from cnn2gnn.models.layers import Gate, gate_numbers
from cnn2gnn.models.output import StudentOutput

SHAKEN = 0.5  # deviation of a head's start from whitening, as a share of P's own size
DIFFERENCE_WIDTH = 64  # hidden width of Δ
_CHUNK = 1000  # nodes of a bank that look for neighbours at once


class GraphNetwork(nn.Module):
    """Two graph layers on a graph that they learn themselves.

    u_i = P x_i                                              keys: distances are taken between them
    d̃_ij = ‖u_i − u_j‖² − β ρ_j                              scaled locally: see `local_scaling`
    S = learner(d̃)                                           the sparse graph
    h_i = ReLU(norm(W x_i + Σ_j s_ij m_ij))                  layer 1
    m_ij = A y_j + B r_j + Δ(u_i − u_j)                      what a neighbour tells
    logits_i = V h_i + Σ_j s_ij (c·g_i·r_j + α y_j)          layer 2

    Neighbours j are nodes of a bank: y_j says what they are, r_j = y_j − softmax(base_j) what the
    network gets wrong on them. Without edges the network is a perceptron of two layers, and what it
    then says is called base: base_i = V ReLU(norm(W x_i)). Training images teach all of this
    but α, which they cannot tell: see `distillation.label_scale`.

    Args:
        d: of the node features.
        learner: from keys to a graph; None: there is none, the twin.
        scope: who the neighbours are. `bank`: labelled training images. `batch` (the paper's
            reading): the other images of the batch, whose y_j is softmax(base_j), and r_j is 0.
        hidden: width of h.
        layer: makes what weighs messages, from the keys' width and the number of heads; s_ij above
            are its weights.
        key_width: dimensions w of u_i for each head; the features' where they have fewer.
        local_scaling: β in [0, 1]; it plays no part in a graph that does not go by such distances.
    """

    label_scale: Tensor  # α >= 0, a scalar; 0 in scope `batch`, and without a graph there is none

    def __init__(
        self,
        d: int,
        classes: int,
        learner: GraphLearner | None,
        scope: str = "bank",
        hidden: int = 256,
        dropout: float = 0.1,
        layer: Callable[[int, int], GraphLayer] = Mean,
        key_width: int = 512,
        local_scaling: float = 0.0,
    ) -> None:
        super().__init__()
        self.scope = "none" if learner is None else scope
        self.layer1 = nn.Linear(d, hidden)  # W
        # over the features of one node: messages change them, and batch statistics with them
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.layer2 = nn.Linear(hidden, classes)  # V
        self.learner = learner
        if learner is None:
            return
        self.local_scaling = local_scaling if learner.scalable else 0.0  # β
        width = learner.heads * min(d, key_width)
        self.project = nn.Linear(d, width, bias=False)  # P
        self.project.requires_grad_(learner.learns_keys)
        learner.build(width)
        self.label_message = nn.Linear(classes, hidden, bias=False)  # A
        self.residual_message = nn.Linear(classes, hidden, bias=False)  # B
        self.difference = nn.Linear(width, DIFFERENCE_WIDTH)  # Δ = second ∘ ReLU ∘ first
        self.difference_message = nn.Linear(DIFFERENCE_WIDTH, hidden, bias=False)
        for message in (self.label_message, self.residual_message, self.difference_message):
            nn.init.zeros_(message.weight)  # training starts from the network without edges
        self.gate = Gate()
        # c = exp(log_scale), so that the neighbours' evidence is never subtracted
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("label_scale", torch.tensor(0.0))  # α
        self.weighting = layer(width, learner.heads)

    @property
    def evidence_scale(self) -> float:
        """c > 0 in Σ_j s_ij (c·g_i·r_j + α y_j)."""
        return self.log_scale.exp().item()

    @property
    def keys_width(self) -> int:
        """Dimensions of the keys; 0 without a graph."""
        return 0 if self.learner is None else self.project.out_features

    @torch.no_grad()
    def start_keys(self, features: Tensor, labels: Tensor) -> None:
        """Let P whiten the features `(M, d)` of the training images within their classes `(M,)`.

        There learning starts. A learner that does not whiten starts from principal components.
        Heads that start as the same would stay the same: all but the first are shaken.
        """
        if self.learner is None:
            return
        heads = self.project.weight.chunk(self.learner.heads)  # H of (w, d)
        width = len(heads[0])
        whitens = self.learner.whitens
        start = whitening(features, labels, width) if whitens else principal(features, width)
        heads[0].copy_(start.T)
        generator = torch.Generator().manual_seed(0)  # of its own: all processes start alike
        size = start.T.square().mean(1, keepdim=True).sqrt()  # (w, 1); of one feature, too
        for head in heads[1:]:
            noise = torch.randn(start.T.shape, generator=generator).to(start)
            head.copy_(start.T + SHAKEN * noise * size)
        self.learner.start(self.keys(features))

    def forward(
        self,
        x: Tensor,
        bank: Bank | None = None,
        exclude: Tensor | None = None,
        pixels: Tensor | None = None,
    ) -> StudentOutput:
        """Classify nodes `(B, d)`.

        Args:
            bank: who can be a neighbour; None: nobody. In scope `batch` these are the nodes
                themselves, `among(x)`, without each one itself.
            exclude: int64 `(B,)`, the bank node that a node may not have as neighbour, −1 for none.
            pixels: `(B, p)` in [0, 1], for a graph that is fixed in pixel space.
        """
        if bank is None:
            base_logits = self.base(x)  # (B, C)
            return StudentOutput(base_logits, base_logits, None, x, None, pixels)
        return self.apply_graph(x, self.find_graph(x, bank, exclude, pixels), bank)

    def base(self, x: Tensor) -> Tensor:
        """Nodes `(B, d)` to logits `(B, C)` without any neighbour."""
        return self.layer2(self._hidden(self.layer1(x)))

    @torch.no_grad()
    def says(self, x: Tensor) -> Tensor:
        """softmax(base_i) of nodes `(M, d)`, `(M, C)`, without gradient, however many they are."""
        parts = (self.base(part).float().softmax(1) for part in x.split(ROWS))
        return collected(parts, len(x))

    def keys(self, x: Tensor) -> Tensor:
        """u_i = P x_i, `(B, d)` to `(B, H·w)`, in full precision whatever autocast says.

        Neighbours differ little in their distances: half precision would swap them.
        """
        with torch.autocast(x.device.type, enabled=False):
            return self.project(x.to(self.project.weight.dtype))

    def bank(self, x: Tensor, labels: Tensor, pixels: Tensor | None = None) -> Bank:
        """Return nodes `(M, d)` as a bank; labels `(M,)`, −1 for an unlabelled one."""
        said = self.says(x)  # (M, C)
        # nodes that join a bank are new to its graph: nobody has looked at them
        unseen = said.new_zeros(len(x)) if self.weighting.counts else None
        return Bank(self.keys(x), labels, said, pixels, looked_at=unseen)

    def among(self, x: Tensor, pixels: Tensor | None = None, bank: Bank | None = None) -> Bank:
        """Return nodes `(B, d)` without labels: to join `bank`; None: as a bank of their own."""
        nodes = self.bank(x, torch.full((len(x),), -1, device=x.device), pixels)
        return self.settled(nodes) if bank is None else self.joining(nodes, bank)

    def joining(self, nodes: Bank, bank: Bank) -> Bank:
        """Return nodes from `bank(…)` as they join a bank for a while, which stays as it is."""
        if bank.radii is None:
            return nodes
        return replace(nodes, radii=self._radii(nodes, bank).clamp(max=bank.top))

    def scaled(self, bank: Bank) -> Bank:
        """Return a bank with the radii `(M, H)` of its nodes; asked for when they change.

        Those of late classes join the others, and move none of them.
        """
        if not self.local_scaling:
            return bank
        known = bank.trained  # (M,)
        own = bank if known.all() else bank.subset(known)
        reach = bounded(self._radii(own))  # (M', H)
        if len(own) < len(bank):
            late = self._radii(bank.subset(~known), own).clamp(max=reach.max())
            whole = reach.new_empty(len(bank), reach.shape[1])
            whole[known], whole[~known] = reach, late
            reach = whole
        bank = replace(bank, radii=reach)
        return bank if bank.bits is None else bank.compact()

    def settled(self, bank: Bank) -> Bank:
        """Return nodes from `bank(…)` as a bank of their own.

        What they are to each other becomes known: how near, and if the layer counts it, how much
        they look at each other.
        """
        bank = self.scaled(bank)
        if not self.weighting.counts:
            return bank
        with torch.no_grad():
            graph = self._within(bank, torch.arange(len(bank), device=bank.labels.device))
            totals = graph.weights.new_zeros(len(bank))
            # looked_at_j = Σ_i s_ij
            totals.index_add_(0, graph.neighbours.flatten(), graph.weights.flatten())
        return replace(bank, looked_at=totals)

    def bank_graph(self, bank: Bank, rows: Tensor) -> SparseGraph:
        """Return the graph of the bank's nodes `rows` `(n,)`, each without itself."""
        return self._weighed(self._within(bank, rows), bank.keys[rows], bank)

    def find_graph(
        self,
        x: Tensor,
        bank: Bank,
        exclude: Tensor | None = None,
        pixels: Tensor | None = None,
    ) -> SparseGraph:
        """Return the graph of nodes `(B, d)` among the bank. Arguments as in `forward`."""
        graph = bank.measured(self._learner(*self.places(x, bank, pixels), exclude))
        return self._weighed(graph, self.keys(x), bank)

    def candidates(
        self,
        x: Tensor,
        bank: Bank,
        exclude: Tensor | None = None,
        pixels: Tensor | None = None,
        search: Search | None = None,
    ) -> Tensor | None:
        """Return the only bank nodes that can be neighbours, whatever other nodes join the bank.

        Args:
            search: finds them; None: `nearest`. Where `bank` is only this process's part of it, or
                keys are about to move, another one is needed.

        Returns:
            `(B, k + 1)` for nodes `(B, d)`; None if the learner does not choose by distance.
        """
        return self._learner.candidates(*self.places(x, bank, pixels), exclude, search)

    def places(self, x: Tensor, bank: Bank, pixels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Where nodes `(B, d)` and the bank lie for the learner, `(B, w)` and `(M, w)`."""
        if self._learner.space == "features":
            return bank.seeking(self.keys(x)), bank.places
        if pixels is None or bank.pixels is None:
            raise ValueError("graph='fixed' finds neighbours by raw pixels: give the pixels too")
        return bank.seeking(pixels), bank.places

    def apply_graph(self, x: Tensor, graph: SparseGraph, bank: Bank) -> StudentOutput:
        """Predict nodes `(B, d)` with a given graph, learned or edited; a row may lack edges."""
        if self.scope == "batch":
            bank = bank.unlabelled()
        evidence = graph.aggregate(bank.residuals)  # e_i = Σ_j s_ij r_j, (B, C)
        # y_j = r_j + softmax(base_j), so Σ_j s_ij y_j is the sum of two means
        votes = evidence + graph.aggregate(bank.probabilities)  # (B, C)
        # h_i = ReLU(norm(W x_i + A Σ_j s_ij y_j + B e_i + Σ_j s_ij Δ(u_i − u_j)))
        own = self.layer1(x)  # (B, h)
        messages = self.label_message(votes) + self.residual_message(evidence)
        messages = messages + self._differences(self.keys(x), graph, bank)  # (B, h)
        base_logits = self.layer2(self._hidden(own))  # (B, C)
        hidden_logits = self.layer2(self._hidden(own + messages))  # V h_i, (B, C)
        gate = self.gate(gate_numbers(base_logits, votes, graph))  # (B,)
        # logits_i = V h_i + c·g_i·e_i + α Σ_j s_ij y_j
        logits = hidden_logits + self.log_scale.exp() * gate[:, None] * evidence
        logits = logits + self.label_scale * votes
        return StudentOutput(logits, base_logits, gate, x, graph, None, hidden_logits)

    def _differences(self, u: Tensor, graph: SparseGraph, bank: Bank) -> Tensor:
        """Σ_j s_ij Δ(u_i − u_j), `(B, h)`: what lies between a node and its neighbours."""
        first = self.difference
        # the first layer of Δ is linear: Δ₁(u_i − u_j) = Δ₁ u_i − Δ₁ u_j
        # embedding, not keys[neighbours]: its gradient sums in the same order on any run
        there = F.linear(F.embedding(graph.neighbours, bank.keys), first.weight)  # (B, k, t)
        hidden = torch.relu(first(u)[:, None] - there)  # (B, k, t)
        mean = (graph.weights[:, :, None] * hidden).sum(1)  # (B, t)
        return self.difference_message(mean)

    def _hidden(self, sums: Tensor) -> Tensor:
        return self.dropout(torch.relu(self.norm(sums)))  # (B, h)

    def _within(self, bank: Bank, rows: Tensor) -> SparseGraph:
        """What the learner finds for nodes of the bank, `rows` `(n,)`, in bounded memory."""
        find = self._learner
        chunks = rows.split(_CHUNK)
        parts = (find(bank.seeking(bank.points[chunk]), bank.places, chunk) for chunk in chunks)
        return bank.measured(SparseGraph.stacked([*parts]))

    def _radii(self, nodes: Bank, among: Bank | None = None) -> Tensor:
        """β ρ_j of nodes among those that they join, or among themselves, `(M, H)`."""
        learner, joined = self._learner, None if among is None else among.points
        return self.local_scaling * radii(nodes.points, joined, learner.k, learner.heads)

    def _weighed(self, graph: SparseGraph, u: Tensor, bank: Bank) -> SparseGraph:
        """The graph of nodes with the keys `u` `(B, d)`, as the layer weighs it."""
        return self.weighting(graph, u, bank.keys, bank.looked_at)

    @property
    def _learner(self) -> GraphLearner:
        if self.learner is None:
            raise ValueError("this student has no graph (graph='none'): no node has neighbours")
        return self.learner
