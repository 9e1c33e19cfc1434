"""`Predictor`: any images to classify, any nodes to add and remove, its file changed by hand."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

from cnn2gnn.base.files import load_tensors, save_tensors
from cnn2gnn.predictor import Predictor
from surfaces.outcomes import Kind
from surfaces.runs import VALUES, Changed, change_field, edit_tensor, edited_tensors

SHAPES = [(3, 1, 8, 8)] * 4 + [
    (3, 8, 8, 1), (3, 8, 8), (8, 8), (1, 8, 8), (3, 3, 8, 8), (3, 8, 8, 3), (2, 3, 20, 9), (0,),
    (0, 1, 8, 8), (1, 1, 1, 1), (3, 2, 8, 8), (8,), (), (1, 3, 3, 3), (2, 1, 0, 8), (2, 2, 2, 2, 2),
]  # fmt: skip
TYPES = ["uint8"] * 6 + [
    "float32", "float64", "float16", "int64", "bool", "complex64", "U3", "object", "bfloat16",
]  # fmt: skip
FILLS = ("any", "unit", "unit", "NaN", "infinity", "above", "negative")


@dataclass(frozen=True)
class Array:
    """An array that may be images."""

    shape: tuple[int, ...]
    type_: str
    fill: str
    tensor: bool
    strided: bool
    seed: int

    def made(self) -> Any:
        """The array, or the tensor."""
        chance = np.random.default_rng(self.seed)
        values = chance.random(self.shape)
        if self.type_ in ("uint8", "int64", "object", "U3"):
            values = np.floor(256 * values)
        scaled = {"above": 3 * values + 0.5, "negative": values - 0.5, "any": 200 * values}
        values = np.asarray(scaled.get(self.fill, values))
        if self.fill in ("NaN", "infinity") and values.size and "float" in self.type_:
            values.flat[0] = np.nan if self.fill == "NaN" else np.inf
        with np.errstate(all="ignore"):
            made = values.astype("float32" if self.type_ == "bfloat16" else self.type_)
        made = made[::-1] if self.strided and made.ndim else made
        if not self.tensor or self.type_ in ("U3", "object"):
            return made
        tensor = torch.from_numpy(made.copy())
        return tensor.bfloat16() if self.type_ == "bfloat16" else tensor


@dataclass(frozen=True)
class Thing:
    """What is no array: a path, a picture of Pillow's, or something else altogether."""

    what: str

    def made(self) -> Any:
        """The thing."""
        if self.what in ("L", "RGB", "RGBA", "P", "1", "F", "I;16", "CMYK"):
            return Image.new(self.what, (11, 6), 1)
        things = {"empty": [], "none": None, "folder": "/", "number": 7, "bytes": b"GIF89a"}
        more = {"dictionary": {}, "set": set(), "path": Path("no such.png"), "empty text": ""}
        return (things | more | {"NUL": "a\0b", "long": "x" * 5000, "escape": "\x1b[2J.png"})[
            self.what
        ]


THINGS = (
    *("L", "RGB", "RGBA", "P", "1", "F", "I;16", "CMYK", "empty", "none", "folder", "number"),
    *("bytes", "dictionary", "set", "path", "empty text", "NUL", "long", "escape"),
)


def images() -> st.SearchStrategy[Any]:
    """Images, what is nearly that, and lists of both."""
    array = st.builds(
        Array,
        st.sampled_from(SHAPES),
        st.sampled_from(TYPES),
        st.sampled_from(FILLS),
        st.booleans(),
        st.booleans(),
        st.integers(0, 2**31),
    )
    one = st.one_of(array, array, st.builds(Thing, st.sampled_from(THINGS)))
    return st.one_of(one, one, st.lists(one, max_size=3))


def right() -> st.SearchStrategy[Any]:
    """Images that are taken."""
    shapes = st.sampled_from([(3, 1, 8, 8), (1, 1, 8, 8), (3, 8, 8, 3), (2, 1, 20, 9)])
    return st.builds(
        Array, shapes, st.just("uint8"), st.just("unit"), st.booleans(), st.booleans(),
        st.integers(0, 2**31),
    )  # fmt: skip


def made(given: Any) -> Any:
    """What a case stands for."""
    return [each.made() for each in given] if isinstance(given, list) else given.made()


def count(given: Any) -> int:
    """How many images there are, if they are taken."""
    if isinstance(given, list):
        return len(given)
    return given.shape[0] if isinstance(given, Array) and len(given.shape) == 4 else 1


def predict(predictor: Predictor, given: Any) -> None:
    """Classify, and ask why; both must be of all images, and the same alone."""
    probabilities = predictor.predict_proba(made(given))
    assert probabilities.shape == (count(given), len(predictor.classes)), "another number of rows"
    assert np.isfinite(probabilities).all() and (probabilities >= 0).all()
    assert np.abs(probabilities.sum(1) - 1).max() < 1e-4
    assert set(predictor.predict(made(given))) <= {*predictor.classes}
    check_neighbours(predictor, predictor.neighbours(made(given)), count(given))


def check_neighbours(predictor: Predictor, found: Any, images: int) -> None:
    """Assert what every table of neighbours is."""
    assert predictor.bank is not None
    assert sorted(found["image"].unique()) == [*range(images)], "an image has no neighbour"
    assert found["node"].between(0, len(predictor.bank) - 1).all()
    assert (
        found["weight"].between(0, 1 + 1e-6).all() and not found.duplicated(["image", "node"]).any()
    )
    assert (found.groupby("image")["weight"].sum() - 1).abs().max() < 1e-4
    assert (found.groupby("image")["distance"].diff().dropna() >= 0).all(), "not the nearest first"


@dataclass(frozen=True)
class Change:
    """Images with their labels that join a bank, and nodes that leave it."""

    images: Any
    labels: Any
    new: Any
    rows: Any
    megabytes: Any


def changes() -> st.SearchStrategy[Change]:
    """Changes that may be made, and others."""
    odd = st.sampled_from([None, 3, b"0", "", "ten", "\x1b[2J", ("0",), float("nan"), "\u0661"])
    listed = st.lists(st.sampled_from(["0", "9", "ten"]) | odd, max_size=4)
    labels = st.one_of(st.sampled_from([*"0123456789"] * 3 + ["ten"]), odd, listed)
    new = st.sampled_from([()] * 8 + ["ten", ["ten"], ["ten", "ten"], ["0"], None, 3, [None], ""])
    odd_rows = st.sampled_from([
        [], [True] * 81, [0.5], "0", None, [[1]], [10**20], {1}, [None], ["a"], range(81),
        np.arange(3), np.zeros(81, bool), torch.arange(2), np.float64(1), [0, 0], range(78), [-1],
    ])  # fmt: skip
    some = st.lists(st.integers(0, 80), max_size=5, unique=True)
    rows = st.one_of(some, some, odd_rows)
    odd_sizes = st.floats() | st.sampled_from([0, -1, None, "6", True, 10**400])
    megabytes = st.one_of(st.sampled_from([6.0, 0.02, 0.012]), st.floats(0.005, 1), odd_sizes)
    pictures = st.one_of(right(), right(), images())
    return st.builds(Change, pictures, labels, new, rows, megabytes)


def change(predictor: Predictor, given: Change) -> None:
    """Add nodes, take them out again, compress; who is not concerned does not notice."""
    probe = torch.full((1, 1, 8, 8), 99, dtype=torch.uint8)
    before, classes = predictor.predict_proba(probe), predictor.classes
    changed = Predictor(predictor.student, predictor.bank, classes)
    bank = changed.bank
    assert bank is not None
    try:
        nodes = changed.add(made(given.images), given.labels, given.new)
        assert nodes.tolist() == [*range(len(bank), len(bank) + count(given.images))]
        check_neighbours(changed, changed.neighbours(probe), 1)
        changed.remove(nodes)
    finally:  # undone, or never done
        assert changed.classes == classes, "the classes have changed"
        assert (changed.predict_proba(probe) == before).all(), "another prediction"
    changed.remove(given.rows)
    assert changed.bank is not None and len(changed.bank) == len(bank) - len([*given.rows])
    smaller = changed.compressed(given.megabytes)
    assert smaller.bank is not None and smaller.bank.megabytes <= given.megabytes
    check_neighbours(smaller, smaller.neighbours(probe), 1)


@dataclass(frozen=True)
class Facts:
    """A field of a predictor's file that is gone, or holds something else."""

    how: str
    at: float
    value: Any


def open_tensors(file: Path, given: Changed) -> None:
    """Open a predictor one of whose tensors was changed, and use it."""
    with tempfile.TemporaryDirectory(prefix="predictor-") as place:
        path = Path(place, "small.predictor")
        path.write_bytes(file.read_bytes())
        edit_tensor(path, given)
        use(path)


def open_facts(file: Path, given: Facts) -> None:
    """Open a predictor one of whose facts was changed, and use it."""
    tensors, facts = load_tensors(file)
    facts = json.loads(json.dumps(facts))
    change_field(facts, given)
    with tempfile.TemporaryDirectory(prefix="predictor-") as place:
        save_tensors(Path(place, "small.predictor"), tensors, facts)
        use(Path(place, "small.predictor"))


def use(path: Path) -> None:
    """Load and predict."""
    predictor = Predictor.load(path)
    predict(predictor, Array((3, 1, 8, 8), "uint8", "unit", False, False, 0))
    assert all(isinstance(name, str) for name in predictor.classes)


def kinds(runs: Callable[[], Path]) -> Iterator[Kind]:
    """The rows of this surface, of the runs that `runs.prepare` makes."""

    @cache
    def predictor() -> Predictor:
        return Predictor.load(runs() / "r")

    @cache
    def file() -> Path:
        predictor().save(runs() / "small.predictor")
        return runs() / "small.predictor"

    names = ("images", "labels", "new", "rows", "megabytes")
    yield Kind(
        "predictor", "any images", images(), lambda given: predict(predictor(), given),
        lambda given: names, share=2,
    )  # fmt: skip
    yield Kind(
        "predictor", "add, remove, compress", changes(), lambda given: change(predictor(), given),
        lambda given: names,
    )  # fmt: skip
    facts = st.builds(
        Facts, st.sampled_from(["removed", "value", "value"]), st.floats(0, 0.999),
        st.sampled_from(VALUES),
    )  # fmt: skip
    for name, cases, do in (
        ("tensors of its file", edited_tensors(), open_tensors),
        ("facts of its file", facts, open_facts),
    ):
        bound = lambda given, do=do: do(file(), given)  # noqa: E731
        yield Kind("predictor", name, cases, bound, lambda given: ("small.predictor",))
