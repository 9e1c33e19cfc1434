"""Stage two: the graph and its two layers are learned, on features that stand still."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.base.disk import collected
from cnn2gnn.base.files import save_tensors
from cnn2gnn.config import Config
from cnn2gnn.data import Splits
from cnn2gnn.data.splitting import SNAPSHOT, stratified_order
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.evaluation.protocols import InBatches, inductive, no_graph, node_tensors
from cnn2gnn.graph.search import EXACT
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.graph_network import GraphNetwork
from cnn2gnn.models.output import StudentOutput
from cnn2gnn.models.student import Student

SNAPSHOT_NODES = 1000  # validation images whose graph is kept after each pass
SNAPSHOT_BANK = 5000  # training images among which they find neighbours
WIDER = 2  # times the candidates of a pass, where they are found as it begins
SMOOTHING = 0.05  # of the labels
BASE_WEIGHT = 0.5  # of the base branch's own loss: residuals are worth what it is worth


class GraphTask:
    """The graph network, trained on training images that meet the others as queries.

    Each query comes in an augmented view, so that it knows of itself no more than a test image
    does; the bank holds the clean images, and a query is never among its own neighbours. The twin
    (graph `none`) is trained by this very task: as long, on the same features.

    Args:
        student: with its stem distilled; its network is trained.
        splits: its data; only train and validation are used.
        snapshots: folder for the graph after each pass; None keeps none.
    """

    def __init__(
        self,
        student: Student,
        splits: Splits,
        config: Config,
        device: torch.device,
        snapshots: Path | None = None,
    ) -> None:
        self.student = student.to(device).eval()
        self.module = student.network
        self.size = len(splits.train)
        self.train, self.validation = splits.train.to(device), splits.validation.to(device)
        self.augmentation = splits.train.augmentation_for(config.data.augmentation)
        self.config, self.snapshots = config, snapshots
        self.clean = student.features(self.train.images)  # (M, d)
        self.clean_pixels = student.pixels(self.train.images)  # (M, p) or None
        # V of (M, d)
        self.views = [self._features(v) for v in range(1, config.training.graph_views + 1)]
        # a fixed sample in which every class has its share, whatever the order of the images
        self._shown, self._shown_bank = (
            stratified_order(part.labels.cpu(), 0, SNAPSHOT)[:count].sort().values.to(device)
            for part, count in (
                (self.validation, SNAPSHOT_NODES),
                (self.train, SNAPSHOT_BANK),
            )
        )
        self._held_out = no_graph(student, self.validation.images)
        self.module.start_keys(self.clean)
        self._said: tuple[int, Tensor] | None = None  # in which pass, softmax(base_j) (M, C)
        self._found: tuple[int, Tensor | None] | None = None  # in which pass, candidates (M, n)

    def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
        """Cross-entropy of the training images `indices` `(B,)`, with and without the graph."""
        view = epoch % len(self.views)
        x, labels = self.views[view][indices], self.train.labels[indices]
        pixels = self._pixels(indices, view + 1)  # (B, p) or None
        out = model(x, *self._beside(x, indices, epoch, pixels), pixels)
        loss = F.cross_entropy(out.base_logits, labels, label_smoothing=SMOOTHING)
        if out.graph is None:
            return loss
        full = F.cross_entropy(out.logits, labels, label_smoothing=SMOOTHING)
        return full + BASE_WEIGHT * loss

    def _beside(
        self, x: Tensor, indices: Tensor, epoch: int, pixels: Tensor | None
    ) -> tuple[Bank | None, Tensor | None]:
        """The bank that queries `x` `(B, d)` meet, and the place of each in it, −1 if it has none.

        Of the whole bank only those nodes get keys with a gradient that can become neighbours.
        """
        network = self.module
        if network.scope == "none":
            return None, None
        if network.scope == "batch":
            return network.among(x, pixels), torch.arange(len(x), device=x.device)
        near = self._near(x, indices, epoch, pixels)
        if near is None:
            return self._everybody(epoch), indices
        rows = near.unique()  # (m,), ascending
        clean_pixels = None if self.clean_pixels is None else self.clean_pixels[rows]
        keys = network.keys(self.clean[rows])
        bank = Bank(keys, self.train.labels[rows], self._base(epoch)[rows], clean_pixels)
        place = torch.searchsorted(rows, indices).clamp(max=len(rows) - 1)  # (B,)
        return bank, place.where(rows[place] == indices, -1)

    @torch.no_grad()
    def _near(self, x: Tensor, indices: Tensor, epoch: int, pixels: Tensor | None) -> Tensor | None:
        """Nodes that can become neighbours of queries `(B, d)`, `(B, n)`; None: any can.

        Those of a large set are looked up for all queries when a pass begins, twice as many as are
        needed, for keys move during a pass; among them, distances between current keys decide.
        """
        if self.size <= EXACT:
            return self.module.candidates(x, self._everybody(epoch), indices, pixels)
        if self._found is None or self._found[0] != epoch:
            view = epoch % len(self.views)
            everyone = torch.arange(self.size, device=x.device)
            queries, theirs = self.views[view], self._pixels(everyone, view + 1)
            bank = self._everybody(epoch)
            near = self.module.candidates(queries, bank, everyone, theirs, WIDER)
            self._found = (epoch, near)
        return None if self._found[1] is None else self._found[1][indices]

    @torch.no_grad()
    def _everybody(self, epoch: int) -> Bank:
        """All training images as nodes, with the keys of now."""
        keys = self.module.keys(self.clean)
        return Bank(keys, self.train.labels, self._base(epoch), self.clean_pixels)

    def _base(self, epoch: int) -> Tensor:
        """softmax(base_j) of the training images `(M, C)`, as it was when this pass began."""
        if self._said is None or self._said[0] != epoch:
            training = self.module.training
            self.module.eval()  # without dropout
            self._said = (epoch, self.module.says(self.clean))
            self.module.train(training)
        return self._said[1]

    @torch.no_grad()
    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        """Validation accuracies in [0, 1]: `base_accuracy` without neighbours, `accuracy` with.

        In scope `batch`, neighbours come from shuffled validation batches.
        """
        assert isinstance(module, GraphNetwork)
        labels = self.validation.labels
        nodes = module(self._held_out.features, pixels=self._held_out.pixels)
        if module.scope == "batch":
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
            size = min(self.config.runtime.eval_batch_size, len(labels))
            logits = InBatches(self.student, nodes, None)(order.to(labels.device), size)
        elif module.scope == "none":
            logits = nodes.logits
        else:
            logits = inductive(self.student, nodes, self._bank(slice(None))).logits
        if self.snapshots is not None and module.scope != "none":
            self._save_snapshot(nodes, self.snapshots, epoch)
        return {
            "accuracy": accuracy(logits, labels),
            "base_accuracy": accuracy(nodes.logits, labels),
        }

    def _features(self, view: int) -> Tensor:
        """Features of the training images in a view, `(M, d)`."""
        chunks = torch.arange(self.size, device=self.clean.device).split(500)
        seen = (self.train.view(chunk, view, self.augmentation) for chunk in chunks)
        return collected((self.student.features(images) for images in seen), self.size)

    def _pixels(self, indices: Tensor, view: int) -> Tensor | None:
        if self.clean_pixels is None:
            return None
        seen = (self.train.view(chunk, view, self.augmentation) for chunk in indices.split(500))
        found = (self.student.pixels(images) for images in seen)
        return collected((pixels for pixels in found if pixels is not None), len(indices))

    def _bank(self, rows: Tensor | slice) -> Bank:
        """The bank of some training images."""
        pixels = None if self.clean_pixels is None else self.clean_pixels[rows]
        return self.module.bank(self.clean[rows], self.train.labels[rows], pixels)

    def _save_snapshot(self, nodes: StudentOutput, folder: Path, epoch: int) -> None:
        """Keep the graph of some validation nodes: against a small bank, or among themselves."""
        network, some = self.module, self._shown
        x, pixels = nodes.features[some], None if nodes.pixels is None else nodes.pixels[some]
        labels, itself = self.validation.labels[some], None
        bank = self._bank(self._shown_bank)
        if network.scope == "batch":
            bank, itself = network.among(x, pixels), torch.arange(len(some), device=some.device)
        seen = network(x, bank, itself, pixels)
        assert seen.graph is not None
        among = labels if network.scope == "batch" else bank.labels
        tensors = node_tensors(seen, labels)
        tensors["neighbour_labels"] = among[seen.graph.neighbours].cpu()
        save_tensors(folder / f"epoch-{epoch:03d}.safetensors", tensors)
