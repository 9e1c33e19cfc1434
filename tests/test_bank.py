"""The bank: what it computes from its nodes is kept, and never outlives them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cnn2gnn.graph.search_keys import SearchKeys
from cnn2gnn.models import quantisation
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.condensation import condensed_rows, herding
from cnn2gnn.models.quantisation import BITS

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
    "condensed": lambda bank: bank.condensed(0.5),
    "compressed": lambda bank: bank.compressed(),
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


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("classes", [3, 100, 300, 40_000])
def test_a_compressed_bank_is_what_its_file_says(
    tmp_path: Path, pixels: bool, classes: int
) -> None:
    bank = make(pixels)
    wide = torch.zeros(NODES, classes).index_copy(1, torch.arange(3), bank.probabilities[:, :3])
    bank = replace(bank, probabilities=wide, labels=torch.arange(NODES) % classes - 1)
    small = bank.compressed()
    small.save(tmp_path / "bank.safetensors")
    again = Bank.load(tmp_path / "bank.safetensors")
    for name, tensor in small._held():
        assert getattr(again, name).equal(tensor), name
        assert tensor.dtype == getattr(bank, name).dtype
    assert again.bits == 8 and again.megabytes == small.megabytes
    assert (tmp_path / "bank.safetensors").stat().st_size < 1e6 * small.megabytes + 2000
    assert small.labels.equal(bank.labels)
    part = small.subset(torch.arange(10))
    assert part.compact().keys.equal(small.keys[:10])


@given(st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 1e3]), st.integers(2, 20))
def test_what_is_packed_again_is_the_same_and_near_the_original(
    seed: int, size: float, classes: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys = size * torch.randn(NODES, WIDTH, generator=generator)
    keys[0] = 0
    keys[:, 1] = 7.7  # a dimension in which all are the same
    probabilities = (5 * torch.randn(NODES, classes, generator=generator)).softmax(1)
    bank = Bank(keys, torch.arange(NODES) % classes, probabilities)
    for bits, error in ((8, 1e-3), (4, 0.05), (2, 0.25)):
        small = bank.rounded(bits)
        twice = small.compact()
        assert twice.keys.equal(small.keys) and twice.probabilities.equal(small.probabilities)
        lost = (small.keys - keys).square().mean(0)
        assert (lost <= error * keys.var(0) + 1e-9).all()
        assert small.tensors["keys"].shape == (NODES, WIDTH * bits // 8)
    largest = probabilities.topk(min(4, classes)).indices
    difference = (small.probabilities - probabilities).gather(1, largest)
    assert (difference.abs() <= 0.5 / 255 + 1e-6).all()
    assert ((small.probabilities > 0).sum(1) <= 4).all()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("width", [1, 3, 4, 5, 8])
def test_levels_fill_bytes_and_come_back(bits: int, width: int) -> None:
    torch.manual_seed(0)
    levels = torch.randint(0, 2**bits, (20, width), dtype=torch.uint8)
    packed = quantisation.packed(levels, bits)
    assert packed.dtype == torch.uint8 and packed.shape == (20, -(-width * bits // 8))
    assert quantisation.unpacked(packed, bits, width).equal(levels)


@pytest.mark.parametrize("bits, error", [(4, 0.0115), (2, 0.119)])
def test_of_normal_keys_no_step_loses_less(bits: int, error: float) -> None:
    """The least squared errors are those of Max (1960), Table II: 0.01154 and 0.1188."""
    torch.manual_seed(0)
    keys = torch.randn(20_000, 3)
    grid = quantisation.grid_of(keys, bits)
    placed = quantisation.placed(quantisation.levels(keys, grid, bits), grid, bits)
    assert (placed - keys).square().mean() < 1.03 * error


def test_few_tails_do_not_make_the_middle_coarse() -> None:
    torch.manual_seed(0)
    keys = torch.cat([torch.randn(5000, 1), torch.full((5, 1), 40.0)])
    for bits, error in ((4, 0.6), (2, 0.9)):  # 1.2 and 5 if the levels reached the farthest
        grid = quantisation.grid_of(keys, bits)
        placed = quantisation.placed(quantisation.levels(keys, grid, bits), grid, bits)
        assert (placed - keys)[:5000].abs().median() < error


def test_a_bank_of_before_is_read() -> None:
    """Keys were int8, by a scale of each node's own."""
    new = make().rounded(8)
    tensors = new.tensors
    scales = (new.keys.abs().amax(1) / 127).half()
    keys = (new.keys / scales.float()[:, None]).round().to(torch.int8)
    kept = {n: t for n, t in tensors.items() if n not in {"bits", "grid"}}
    old = Bank.restore({**kept, "keys": keys, "key_scales": scales}, "bank")
    assert old.bits == 8 and (old.keys - new.keys).abs().max() < 0.02
    assert old.probabilities.equal(new.probabilities) and old.compact().compact().bits == 8


@pytest.mark.parametrize("bits", [3, 16, 0, -8])
def test_other_numbers_of_bits_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"bits={bits} must be one of 8, 4, 2"):
        make().rounded(bits)
    with pytest.raises(ValueError, match="bits=8 must be one of 4, 2"):
        make().rounded(4).rounded(8)


def test_nodes_that_join_stand_on_the_same_levels() -> None:
    bank = make().rounded(4)
    part = bank.subset(torch.arange(9))
    assert part.grid is bank.grid and part.compact().keys.equal(bank.keys[:9])
    both = bank.joined(part)
    assert both.compact().keys.equal(both.keys)


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_condensed_keeps_a_share_of_every_class(share: float) -> None:
    bank = replace(make(), labels=torch.tensor([-1] * 10 + [0] * 30 + [1] * 20))
    counts = {-1: 10, 0: 30, 1: 20}
    kept = bank.condensed(share)
    for label, count in counts.items():
        assert (kept.labels == label).sum() == max(1, int(share * count))
    if share == 1:
        assert kept.keys.equal(bank.keys)


def test_shares_are_those_of_decimal_numbers() -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    keys = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    for percent in range(1, 101):
        assert len(condensed_rows(keys, labels, percent / 100)) == percent


def test_herding_keeps_the_mean_better_than_most_draws() -> None:
    points = make().keys
    mean = points.mean(0)
    error = (points[herding(points, 12)].mean(0) - mean).norm()
    draws = [(points[torch.randperm(NODES)[:12]].mean(0) - mean).norm() for _ in range(50)]
    assert error < torch.stack(draws).min()


def test_herding_is_greedy() -> None:
    points, order, total = make().keys.double(), [], torch.zeros(WIDTH, dtype=torch.float64)
    for taken in range(1, 21):
        errors = {
            row: (points.mean(0) - (points[row] + total) / taken).norm()
            for row in range(NODES)
            if row not in order
        }
        order.append(min(errors, key=errors.__getitem__))
        total += points[order[-1]]
    assert herding(points, 20).tolist() == order


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share=.* must be more than 0 and at most 1"):
        make().condensed(share)


def test_a_budget_is_kept_or_refused() -> None:
    bank = make()
    sizes = [bank.rounded(bits).megabytes for bits in BITS]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] < bank.megabytes
    for bits, size in zip(BITS, sizes, strict=True):
        small = bank.compressed(size)
        assert small.bits == bits and len(small) == NODES
        assert small.compressed(size).keys.equal(small.keys), "it fits already"
    half = bank.compressed(sizes[-1] / 2)
    assert half.bits == 2 and half.megabytes <= sizes[-1] / 2 and len(half) > 0.3 * NODES
    assert len(half.compressed(half.megabytes / 2)) < len(half)
    # rare classes keep their one node, whatever the share
    labels = torch.cat([torch.zeros(900), torch.arange(1, 101)]).long()
    rare = Bank(torch.randn(1000, 16), labels, torch.randn(1000, 101).softmax(1))
    for megabytes in (0.002, 0.007):
        kept = rare.compressed(megabytes)
        assert 0.99 * megabytes < kept.megabytes <= megabytes
        assert len(kept.labels.unique()) == 101
    for megabytes in (1e-5, 0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"megabytes={megabytes} is too little"):
            bank.compressed(megabytes)


@pytest.mark.parametrize("bits", [None, 8])
def test_samples_that_are_no_bytes_are_kept_as_they_are(bits: int | None) -> None:
    vectors = 5 * torch.randn(NODES, 12)
    bank = replace(make(), pixels=vectors, bits=bits)
    assert torch.equal(bank.compact().pixels, vectors)
    steps = torch.randint(0, 256, (NODES, 12)).float() / 255
    saved = replace(bank, pixels=steps)
    assert saved.tensors["pixels"].dtype == torch.uint8
    assert torch.equal(saved.compact().pixels, steps)
