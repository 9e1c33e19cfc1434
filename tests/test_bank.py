"""The bank: what it computes from its nodes is kept, and never outlives them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cnn2gnn.graph.search import SearchKeys
from cnn2gnn.models.bank import Bank

NODES, WIDTH, CLASSES = 60, 8, 5


def make(pixels: bool = False) -> Bank:
    torch.manual_seed(0)
    labels = torch.arange(NODES) % CLASSES
    held = torch.rand(NODES, 12) if pixels else None
    probabilities = (3 * torch.randn(NODES, CLASSES)).softmax(1)
    return Bank(torch.randn(NODES, WIDTH), labels, probabilities, held)


@pytest.mark.parametrize("pixels", [False, True])
def test_places_are_where_the_graph_is_taken_from(pixels: bool) -> None:
    bank = make(pixels)
    expected = bank.pixels if pixels else bank.keys
    assert isinstance(bank.places, SearchKeys) and bank.places is bank.places
    assert expected is not None and bank.places.equal(expected)


NEW: dict[str, Callable[[Bank], Bank]] = {
    "replace": lambda bank: replace(bank, keys=bank.keys + 1),
    "subset": lambda bank: bank.subset(torch.arange(7)),
    "without": lambda bank: bank.without(torch.tensor([0])),
    "joined": lambda bank: bank.joined(bank),
    "relabelled": lambda bank: bank.relabelled(torch.tensor([0]), torch.tensor([1])),
    "unlabelled": lambda bank: bank.unlabelled(),
    "to": lambda bank: bank.to("meta"),
    "compact": lambda bank: bank.compact(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda bank: pickle.loads(pickle.dumps(bank)),
}


@pytest.mark.parametrize("change", NEW.values(), ids=NEW)
def test_no_other_bank_takes_over_what_was_computed(change: Callable[[Bank], Bank]) -> None:
    bank = make()
    _ = bank.places, bank.residuals
    other = change(bank)
    assert not {"places", "residuals"} & vars(other).keys()
    if other.keys.device.type != "meta":
        assert other.places.equal(other.keys) and len(other.residuals) == len(other)
