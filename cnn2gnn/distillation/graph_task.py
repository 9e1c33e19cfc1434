"""Stage two: the graph and its two layers are learned, on features that stand still."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.base.disk import collected
from cnn2gnn.base.files import save_tensors
from cnn2gnn.config import Config
from cnn2gnn.data import Splits
from cnn2gnn.data.splitting import SNAPSHOT, stratified_order
from cnn2gnn.distillation import label_scale
from cnn2gnn.distillation.collectives import Shares, several_processes
from cnn2gnn.distillation.features import StemFeatures, evaluating
from cnn2gnn.distillation.sharded_search import ShardedSearch
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.evaluation.protocols import InBatches, inductive, node_tensors
from cnn2gnn.graph.search import count_candidates, nearest
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.graph_network import GraphNetwork
from cnn2gnn.models.output import StudentOutput
from cnn2gnn.models.student import Student

SNAPSHOT_NODES = 1000  # validation images whose graph is kept after each pass
SNAPSHOT_BANK = 5000  # training images among which they find neighbours
LATELY = 100  # steps after which the keys that candidates are looked for among are made anew
WIDER = 2  # times as many candidates as are needed, where keys are not those of the step
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
        features: of this very stem, where another student has taken them; None: they are taken.
    """

    def __init__(
        self,
        student: Student,
        splits: Splits,
        config: Config,
        device: torch.device,
        snapshots: Path | None = None,
        features: StemFeatures | None = None,
    ) -> None:
        self.student = student.to(device).eval()
        self.network = student.network
        self.module: nn.Module = self.network
        self.size = len(splits.train)
        self.train, self.validation = splits.train.to(device), splits.validation.to(device)
        self.augmentation = splits.train.augmentation_for(config.data.augmentation)
        self.config, self.snapshots = config, snapshots
        self.features = features or self._look()
        self.clean_pixels = student.pixels(self.train.images)  # (M, p) or None
        # a fixed sample in which every class has its share, whatever the order of the images
        self._shown, self._shown_bank = (
            stratified_order(part.labels.cpu(), 0, SNAPSHOT)[:count].sort().values.to(device)
            for part, count in (
                (self.validation, SNAPSHOT_NODES),
                (self.train, SNAPSHOT_BANK),
            )
        )
        self.network.start_keys(self.features.clean, self.train.labels)
        self._search = ShardedSearch(self.size) if several_processes() else None
        self._began: tuple[int, Bank] | None = None  # in which pass, with which bank
        self._lately: tuple[int, Bank] | None = None  # in which pass, with which keys
        self._steps = 0  # in which these keys have been searched

    def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
        """Cross-entropy of the training images `indices` `(B,)`, with and without the graph."""
        return self._by_labels(model(*self._query(indices, epoch)), indices)

    def _query(
        self, indices: Tensor, epoch: int
    ) -> tuple[Tensor, Bank | None, Tensor | None, Tensor | None]:
        """What the network is given of the training images: features, bank, exclude, pixels."""
        view = 1 + epoch % self.config.training.graph_views
        x = self.features.view(view)[indices]  # (B, d)
        pixels = self._pixels(indices, view)  # (B, p) or None
        return x, *self._beside(x, indices, epoch, pixels), pixels

    def _by_labels(self, out: StudentOutput, indices: Tensor) -> Tensor:
        """Cross-entropy of what the network says of the training images `indices`."""
        labels = self.train.labels[indices]
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
        network = self.network
        if network.scope == "none":
            return None, None
        if network.scope == "batch":
            unlabelled = torch.full((len(x),), -1, device=x.device)
            nodes, itself = _gathered(network.bank(x, unlabelled, pixels))
            return network.settled(nodes), itself
        near = self._near(x, indices, epoch, pixels)
        if near is None:
            return self._nodes(slice(None), epoch), indices
        rows = near.unique()  # (m,), ascending
        place = torch.searchsorted(rows, indices).clamp(max=len(rows) - 1)  # (B,)
        return self._nodes(rows, epoch), place.where(rows[place] == indices, -1)

    @torch.no_grad()
    def _near(self, x: Tensor, indices: Tensor, epoch: int, pixels: Tensor | None) -> Tensor | None:
        """Nodes that can become neighbours of queries `(B, d)`, `(B, n)`; None: any can.

        One process looks for twice as many as are needed, among keys of some steps ago, for they
        move slowly; of those found, distances between current keys decide. To compute the keys of
        all nodes at every step would take longer than all the rest.
        """
        if self._search is None:
            nodes = self._nodes_lately(epoch)
            return self.network.candidates(x, nodes, indices, pixels, _wider)
        nodes = self._nodes(self._search.rows, epoch)
        return self.network.candidates(x, nodes, indices, pixels, self._search)

    def _nodes_lately(self, epoch: int) -> Bank:
        """All nodes that queries of this pass meet, with keys of at most `LATELY` steps ago."""
        if self._lately is None or self._lately[0] != epoch:
            self._lately, self._steps = (epoch, self._bank_of_pass(epoch)), 0
        elif self._steps == LATELY:
            self._lately, self._steps = (epoch, self._nodes(slice(None), epoch)), 0
        self._steps += 1
        return self._lately[1]

    def _nodes(self, rows: Tensor | slice, epoch: int) -> Bank:
        """Some of the M nodes that queries of this pass meet, with the keys of this step."""
        part = whole = self._bank_of_pass(epoch)
        if not isinstance(rows, slice) or rows != slice(None):
            top = None if whole.radii is None else whole.top  # parts are searched as one
            part = replace(whole.subset(rows), ceiling=top)
        if not self.network.project.weight.requires_grad:
            return part
        return replace(part, keys=self.network.keys(self.features.clean[rows]))

    @torch.no_grad()
    def _bank_of_pass(self, epoch: int) -> Bank:
        """The bank as it was when this pass began: what was said of each node, and who looked."""
        if self._began is None or self._began[0] != epoch:
            with evaluating(self.network):  # without dropout
                self._began = (epoch, self._bank(slice(None)))
        return self._began[1]

    @torch.no_grad()
    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        """Validation accuracies in [0, 1]: `base_accuracy` without neighbours, `accuracy` with.

        In scope `batch`, neighbours come from shuffled validation batches.
        """
        assert isinstance(module, GraphNetwork)
        labels, nodes = self.validation.labels, self._held_out()
        if module.scope == "batch":
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
            size = min(self.config.runtime.eval_batch_size, len(labels))
            logits = InBatches(self.student, nodes, None)(order.to(labels.device), size)
        elif module.scope == "none":
            logits = nodes.logits
        else:
            # what the next pass begins with
            logits = inductive(self.student, nodes, self._bank_of_pass(epoch + 1)).logits
        if self.snapshots is not None and module.scope != "none":
            self._save_snapshot(nodes, self.snapshots, epoch)
        return {
            "accuracy": accuracy(logits, labels),
            "base_accuracy": accuracy(nodes.logits, labels),
        }

    @torch.no_grad()
    def learn_label_scale(self) -> None:
        """Set α, when everything else has been learned, by the validation images.

        In scope `batch` it stays 0: neighbours there have no labels.
        """
        network = self.network
        if network.scope != "bank":
            return
        network.label_scale.zero_()
        bank = self._bank_of_pass(self.config.training.graph_epochs)
        with evaluating(network):
            found = inductive(self.student, self._held_out(), bank)
        assert found.graph is not None
        votes = found.graph.aggregate(bank.answers)  # v_i = Σ_j s_ij y_j, (V, C)
        alpha = label_scale.fitted(found.logits, votes, self.validation.labels)
        network.label_scale.fill_(alpha)

    def _held_out(self) -> StudentOutput:
        """The validation images without neighbours."""
        pixels = self.student.pixels(self.validation.images)
        out: StudentOutput = self.network(self.features.held_out, pixels=pixels)
        return out

    def _look(self, shared: bool = True) -> StemFeatures:
        """What the stem makes of the images now."""
        return StemFeatures(self.student, self.train, self.validation, self.augmentation, shared)

    def _pixels(self, indices: Tensor, view: int) -> Tensor | None:
        if self.clean_pixels is None:
            return None
        seen = (self.train.view(chunk, view, self.augmentation) for chunk in indices.split(500))
        found = (self.student.pixels(images) for images in seen)
        return collected((pixels for pixels in found if pixels is not None), len(indices))

    def _bank(self, rows: Tensor | slice) -> Bank:
        """The bank of some training images."""
        pixels = None if self.clean_pixels is None else self.clean_pixels[rows]
        bank = self.network.bank(self.features.clean[rows], self.train.labels[rows], pixels)
        return self.network.settled(bank)

    def _save_snapshot(self, nodes: StudentOutput, folder: Path, epoch: int) -> None:
        """Keep the graph of some validation nodes: against a small bank, or among themselves."""
        network, some = self.network, self._shown
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


def _wider(queries: Tensor, keys: Tensor, k: int, exclude: Tensor | None) -> Tensor:
    """About the nearest `WIDER`·k, as far as there are so many."""
    count = min(WIDER * k, count_candidates(queries, keys, exclude))
    return nearest(queries, keys, count, exclude, proved=False)


def _gathered(bank: Bank) -> tuple[Bank, Tensor]:
    """The nodes of all shares of the batch `(B, …)`, and the places of this process's `(B_r,)`.

    So one process would see them; the gradient of a node's keys comes back to its process.
    """
    shares = Shares.of(bank.labels)
    pixels = None if bank.pixels is None else shares.gathered(bank.pixels)
    keys, labels, said = (
        shares.gathered(each) for each in (bank.keys, bank.labels, bank.probabilities)
    )
    itself = torch.arange(shares.mine.start, shares.mine.stop, device=labels.device)
    return Bank(keys, labels, said, pixels), itself
