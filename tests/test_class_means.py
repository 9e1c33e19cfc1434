"""Class means against the formulas, node by node."""

from __future__ import annotations

import math

import pytest
import torch

from cnn2gnn.evaluation.class_means import _TRIED, class_means, probabilities_by_means
from cnn2gnn.models.bank import Bank


def blobs(per_class: list[int], d: int = 12, seed: int = 0) -> tuple[Bank, torch.Tensor]:
    """A bank of Gaussian classes of so many nodes, and the classes' true centres."""
    generator = torch.Generator().manual_seed(seed)
    centres = 1.2 * torch.randn(len(per_class), d, generator=generator)
    labels = torch.tensor([c for c, count in enumerate(per_class) for _ in range(count)])
    keys = centres[labels] + torch.randn(len(labels), d, generator=generator)
    return Bank(keys, labels, torch.full((len(labels), 2), 0.5)), centres


def by_hand(keys: torch.Tensor, bank: Bank, classes: int) -> torch.Tensor:
    nodes = [bank.keys[bank.labels == c] for c in range(classes)]
    means = [part.mean(0) for part in nodes]
    squares = sum(
        ((part - mean) ** 2).sum().item() for part, mean in zip(nodes, means, strict=True)
    )
    variance = squares / (len(bank) - classes)

    def said(x: torch.Tensor, share: float, left_out: int | None = None) -> torch.Tensor:
        scores = []
        for c, part in enumerate(nodes):
            rest = part if left_out is None else bank.keys[
                (bank.labels == c) & (torch.arange(len(bank)) != left_out)
            ]  # fmt: skip
            distance = ((x - rest.mean(0)) ** 2).sum().item() - variance / len(rest)
            scores.append(-distance / (share * variance))
        return torch.tensor(scores).softmax(0)

    def surprise(share: float) -> float:
        told = [said(bank.keys[i], share, i)[bank.labels[i]].item() for i in range(len(bank))]
        return -sum(math.log(max(p, 1e-30)) for p in told)

    share = min(_TRIED, key=surprise)
    return torch.stack([said(x, share) for x in keys])


def test_the_probabilities_are_those_of_the_formulas() -> None:
    bank, centres = blobs([9, 7, 4])
    expected = by_hand(centres, bank, 3)
    torch.testing.assert_close(
        probabilities_by_means(centres, bank, 3), expected, rtol=1e-3, atol=1e-5
    )


def test_a_class_of_few_nodes_is_found_where_its_raw_mean_is_too_far_off() -> None:
    """Without the correction a query of the class of 3 nodes lies nearer to the sharp means."""
    found, plain = [], []
    for seed in range(20):
        bank, centres = blobs([200, 200, 200, 200, 3], d=40, seed=seed)
        noise = torch.randn(200, 40, generator=torch.Generator().manual_seed(100 + seed))
        queries = 0.6 * centres[4] + 0.1 * centres[:4].mean(0) + noise
        found.append((probabilities_by_means(queries, bank, 5).argmax(1) == 4).float().mean())
        plain.append((class_means(queries, bank, 5) == 4).float().mean())
    assert sum(found) > sum(plain)


def test_order_unlabelled_nodes_and_absent_classes_change_nothing() -> None:
    bank, centres = blobs([9, 7, 4])
    said = probabilities_by_means(centres, bank, 3)
    mixed = bank.subset(torch.randperm(len(bank), generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(probabilities_by_means(centres, mixed, 3), said)
    nobody = Bank(torch.zeros(2, 12), torch.tensor([-1, -1]), torch.full((2, 2), 0.5))
    torch.testing.assert_close(probabilities_by_means(centres, bank.joined(nobody), 3), said)
    more = probabilities_by_means(centres, bank, 5)
    torch.testing.assert_close(more[:, :3], said)
    assert (more[:, 3:] == 0).all()


@pytest.mark.parametrize("per_class", [[1, 1, 1], [1, 5, 5], [2, 2, 2]])
def test_a_class_may_have_a_single_node(per_class: list[int]) -> None:
    bank, centres = blobs(per_class)
    said = probabilities_by_means(centres, bank, 3)
    assert said.isfinite().all()
    torch.testing.assert_close(said.sum(1), torch.ones(3))
    assert probabilities_by_means(bank.keys, bank, 3).isfinite().all()


def test_nodes_of_a_class_at_one_point_are_no_division_by_zero() -> None:
    bank = Bank(torch.eye(3)[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1]), torch.full((4, 2), 0.5))
    said = probabilities_by_means(torch.eye(3)[:2], bank, 2)
    torch.testing.assert_close(said, torch.eye(2))
