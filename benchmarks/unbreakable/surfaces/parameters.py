"""Parameters of `Config`: of another type, out of range, misspelt, of any kind together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import Field, fields
from typing import Any, get_type_hints

from hypothesis import strategies as st

from cnn2gnn.base.values import base_type
from cnn2gnn.config import Config
from surfaces.outcomes import Kind

FIELDS: dict[str, tuple[Field[Any], Any]] = {
    item.name: (item, get_type_hints(group)[item.name])
    for group in get_type_hints(Config).values()
    for item in fields(group)
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.complex_numbers(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
NOT_FINITE = (float("nan"), float("inf"), -float("inf"))


def outside(name: str) -> list[Any]:
    """Values of the right type that a parameter does not allow, from what its field declares."""
    item, type_ = FIELDS[name]
    meta, step = item.metadata, 1 if base_type(type_) is int else 1e-6
    wrong: list[Any] = [] if meta["minimum"] is None else [meta["minimum"] - step, -(10**9)]
    wrong += [] if meta["maximum"] is None else [meta["maximum"] + step, 10**12]
    wrong += [] if meta["choices"] is None else ["no such thing"]
    return [float(value) if base_type(type_) is float else value for value in wrong]


def of_another_type(name: str, value: Any) -> bool:
    """Whether a value is none that a parameter could be, whatever its range."""
    type_ = FIELDS[name][1]
    base = base_type(type_)
    if value is None:
        return type_ is base
    if base is float and type(value) is int:
        return False
    return type(value) is not base or value in NOT_FINITE


def misspelt(name: str) -> list[str]:
    """What fingers make of a parameter's name."""
    wrong = (name + "s", name[:-1], name.upper(), "-" + name, name[:1] + name)
    return [each for each in wrong if each not in FIELDS]


def take(parameters: dict[str, Any]) -> None:
    """Make a configuration, which a manifest must be able to hold."""
    config = Config.from_parameters(parameters)
    assert Config.from_parameters(json.loads(json.dumps(config.parameters()))) == config


def wrong_types(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """One parameter of another type."""
    pairs = st.tuples(st.sampled_from(names), VALUES | st.sampled_from(NOT_FINITE))
    return pairs.filter(lambda pair: of_another_type(*pair)).map(lambda pair: dict([pair]))


def out_of_range(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """One parameter of the right type and a value that is not allowed."""
    wrong = [{name: value} for name in names for value in outside(name)]
    return st.sampled_from(wrong)


def misspellings(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """One parameter under a name that does not exist."""
    wrong = [{each: 1} for name in names for each in misspelt(name)]
    return st.sampled_from(wrong)


def named(parameters: dict[str, Any]) -> list[str]:
    """What a refusal must hold: a given parameter with its value, or as an unknown one."""
    return [told for n, v in parameters.items() for told in (f"{n}={v!r}", f"parameter {n!r}")]


def kinds() -> Iterator[Kind]:
    """The rows of this surface."""
    names = [*FIELDS]
    several = st.dictionaries(st.sampled_from(names) | st.text(max_size=8), VALUES)
    yield Kind("Config", "wrong type", wrong_types(names), take, named, refused=True)
    yield Kind("Config", "out of range", out_of_range(names), take, named, refused=True)
    yield Kind("Config", "misspelt", misspellings(names), take, named, refused=True)
    yield Kind("Config", "any of any", several, take, named)
