"""How a student is trained: its task for the training loop, and the fit of its gate."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.data.splitting import SNAPSHOT, stratified_order
from cnn2gnn.distillation.cache import TeacherCache
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.evaluation.protocols import InBatches, inductive, no_graph, node_tensors
from cnn2gnn.files import save_tensors
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.layers import gate_numbers
from cnn2gnn.models.student import Student, StudentOutput
from cnn2gnn.own import Loss

SNAPSHOT_NODES = 1000  # validation images whose graph is kept after each epoch
SNAPSHOT_BANK = 5000  # training images among which they find neighbours


class StudentTask:
    """Distillation of one student: KD on the base branch, in scope `batch` on both branches.

    A bank student's neighbours are added afterwards, by `fit_gate`: trained through the corrected
    logits, its base branch was no better, and every epoch would pay for the search.

    Args:
        student: to be trained.
        splits: its data; only train and validation are used.
        cache: the teacher's logits; None trains on labels alone.
        config: all parameters.
        loss: of student and teacher logits, with `temperature` and `weight`; see `registry.LOSSES`.
        snapshots: folder for the graph after each epoch; None keeps none.
    """

    def __init__(
        self,
        student: Student,
        splits: Splits,
        cache: TeacherCache | None,
        config: Config,
        loss: Loss,
        device: torch.device,
        snapshots: Path | None = None,
    ) -> None:
        self.module = student
        self.size = len(splits.train)
        self.train = splits.train.to(device)
        self.validation = splits.validation
        # a fixed sample in which every class has its share, whatever the order of the images
        self.shown, self.shown_bank = (
            stratified_order(part.labels, 0, SNAPSHOT)[:count].sort().values
            for part, count in (
                (splits.validation, SNAPSHOT_NODES),
                (splits.train, SNAPSHOT_BANK),
            )
        )
        self.cache, self.config, self.snapshots = cache, config, snapshots
        self.distillation_loss = loss

    def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
        """KD on the images `indices` `(B,)`, in this epoch's view."""
        training = self.config.training
        view = epoch + 1 if self.cache is None else self.cache.view_of(epoch)
        images = self.train.view(indices, view, self.config.data.augmentation_name)
        out = model(images)
        branches = [out.base_logits] if out.graph is None else [out.base_logits, out.logits]
        labels = self.train.labels[indices]
        if self.cache is None:
            losses = [F.cross_entropy(branch, labels) for branch in branches]
        else:
            losses = [
                self.distillation_loss(
                    branch.float(),
                    self.cache.logits(indices, view, images),
                    labels,
                    temperature=training.temperature,
                    weight=training.kd_weight,
                )
                for branch in branches
            ]
        return torch.stack(losses).sum()

    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        """Validation accuracies in [0, 1]: `base_accuracy` alone, `accuracy` as trained.

        The two differ in scope `batch`, where neighbours come from shuffled validation batches.
        """
        assert isinstance(module, Student)
        nodes = no_graph(module, self.validation.images)
        labels = self.validation.labels.to(nodes.logits.device)
        logits = nodes.logits
        if module.scope == "batch":
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
            size = min(self.config.runtime.eval_batch_size, len(labels))
            logits = InBatches(module, nodes, None)(order.to(labels.device), size)
        if self.snapshots is not None and module.scope != "none":
            self._save_snapshot(module, nodes, labels, self.snapshots, epoch)
        return {
            "accuracy": accuracy(logits, labels),
            "base_accuracy": accuracy(nodes.logits, labels),
        }

    @torch.no_grad()
    def _save_snapshot(
        self, module: Student, nodes: StudentOutput, labels: Tensor, folder: Path, epoch: int
    ) -> None:
        """Keep the graph of some validation nodes: against a small bank, or among themselves."""
        some = self.shown.to(labels.device)
        pixels = None if nodes.pixels is None else nodes.pixels[some]
        bank = None
        if module.scope == "bank":
            part = self.shown_bank.to(labels.device)
            bank = module.bank(self.train.images[part], self.train.labels[part])
        seen = module.correct(nodes.base_logits[some], nodes.features[some], bank, pixels=pixels)
        assert seen.graph is not None
        among = labels[some] if bank is None else bank.labels
        tensors = node_tensors(seen, labels[some])
        tensors["neighbour_labels"] = among[seen.graph.neighbours].cpu()
        save_tensors(folder / f"epoch-{epoch:03d}.safetensors", tensors)


def fit_gate(student: Student, validation: ImageSet, bank: Bank, *, steps: int = 300) -> float:
    """Fit gate and scale c of a bank student to held-out images, all else fixed.

    Training images would teach the gate the wrong lesson: the base branch has seen them.

    Args:
        validation: images the student was not trained on.
        bank: of the training images.
        steps: full-batch steps of AdamW.

    Returns:
        The final cross-entropy.
    """
    with torch.no_grad():
        nodes = inductive(student, no_graph(student, validation.images), bank)
        assert nodes.graph is not None
        votes = bank.label_votes(nodes.graph.neighbours, nodes.graph.weights)  # (N, C)
        numbers = gate_numbers(nodes.base_logits, votes, nodes.graph)  # (N, 6)
        evidence = nodes.graph.aggregate(bank.residuals)  # (N, C)
    assert student.gate is not None and student.log_scale is not None
    labels = validation.labels.to(evidence.device)
    fitted = [*student.gate.parameters(), student.log_scale]
    optimizer = torch.optim.AdamW(fitted, lr=0.02, weight_decay=0.01)
    for _ in range(steps):
        loss = F.cross_entropy(
            student.combine(nodes.base_logits, student.gate(numbers), evidence), labels
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()
